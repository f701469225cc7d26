"""How connections are taken leave of at HUP and at TERM, frame by frame, seen by their peers."""

from __future__ import annotations

import signal
import socket
import ssl

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame

from tests.conftest import Serve
from tests.support.frames import RawClient, ServerClosed
from tests.support.http1 import Http1Client, post, request
from tests.support.server import Server, wait_until
from tests.support.wire import PREFACE, ErrorCode

MAX_STREAM_ID = 2**31 - 1

#: HUP replaces the worker, TERM ends the server: the worker leaves in the same way.
LEAVING = pytest.mark.parametrize(
    ("tls", "signum"),
    [(False, signal.SIGHUP), (True, signal.SIGTERM)],
    ids=["cleartext-HUP", "tls-TERM"],
)


def want_leave(client: RawClient) -> PingFrame:
    """See GOAWAY without a limit, then PING; return the PING, not yet answered."""
    client.want(GoAwayFrame, last_stream_id=MAX_STREAM_ID, error_code=ErrorCode.NO_ERROR)
    return client.want(PingFrame, ack=False)


def want_last(client: RawClient, stream_id: int) -> None:
    client.want(GoAwayFrame, last_stream_id=stream_id, error_code=ErrorCode.NO_ERROR)


def want_answer(client: RawClient, stream_id: int, body: bytes) -> None:
    """See the response come next, with no frame of another kind between."""
    assert (b":status", b"200") in client.fields(client.want(HeadersFrame, stream_id))
    client.want(DataFrame, stream_id, data=body, end_stream=True)


def want_end(client: RawClient) -> None:
    """See nothing more but the orderly end of the connection; TCP is not reset."""
    with pytest.raises(ServerClosed, match=r"^closed;"):
        client.want(GoAwayFrame)


def see_the_end(server: Server, signum: signal.Signals) -> None:
    """See what the signal is for: a new worker, or none."""
    if signum == signal.SIGTERM:
        assert server.wait_exit() == 0
    else:
        with RawClient(server).greet() as client:
            assert client.request(path="/hello").status == 200
    assert "graceful_timeout is over" not in server.log()


@LEAVING
def test_order_of_leaving(serve: Serve, tls: bool, signum: signal.Signals) -> None:
    server = serve(tls=tls, graceful_timeout=20)
    with RawClient(server, timeout=30).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.want_idle()
        server.signal(signum)
        ping = want_leave(client)
        # These have crossed the GOAWAY on the wire, for all that the server knows.
        client.headers(3, path="/hello")
        client.headers(5, method="POST", path="/echo", end_stream=False)
        want_answer(client, 3, b"Hello, world!")
        client.ping(ping.opaque_data, ack=True)
        want_last(client, 5)
        client.headers(7, path="/hello")
        client.want(RstStreamFrame, 7, error_code=ErrorCode.REFUSED_STREAM)
        # nghttp2 resets what it has queued when the GOAWAY comes, and never sends.
        client.rst(11, ErrorCode.INTERNAL_ERROR)
        client.data(5, b"five", end_stream=True)
        want_answer(client, 5, b"five")
        client.headers(9, path="/hello")
        client.want(RstStreamFrame, 9, error_code=ErrorCode.REFUSED_STREAM)
        client.data(1, b"one", end_stream=True)
        want_answer(client, 1, b"one")
        want_end(client)
    see_the_end(server, signum)


def test_a_peer_that_does_not_answer_the_ping_holds_nothing_up(serve: Serve) -> None:
    server = serve(graceful_timeout=20)
    with RawClient(server).greet() as busy, RawClient(server).greet() as idle:
        assert idle.request(path="/hello").status == 200
        busy.headers(1, method="POST", path="/echo", end_stream=False)
        busy.want_idle()
        server.signal(signal.SIGTERM)
        for client in (busy, idle):
            want_leave(client)
        for client in (busy, idle):
            want_last(client, 1)
        busy.data(1, b"late", end_stream=True)
        want_answer(busy, 1, b"late")
        for client in (busy, idle):
            want_end(client)
    see_the_end(server, signal.SIGTERM)


@LEAVING
def test_http_1_says_that_it_closes(serve: Serve, tls: bool, signum: signal.Signals) -> None:
    server = serve(tls=tls, graceful_timeout=20, args=["--keep-alive", "60"])
    head, body = post("/echo", b"body").split(b"\r\n\r\n")
    with (
        Http1Client(server) as busy,
        Http1Client(server) as idle,
        Http1Client(server) as unused,
        RawClient(server, timeout=30).greet() as observer,
    ):
        assert busy.get().header("connection") != "close"
        assert idle.get().header("connection") != "close"
        busy.send(head + b"\r\n\r\n")
        wait_until(lambda: server.thread_count() >= 2, what="the request on a thread")
        server.signal(signum)
        want_leave(observer)
        # Draining has begun, and none of them is closed: they may have sent a request.
        for client in (idle, unused):
            response = client.get()
            assert (response.status, response.header("connection")) == (200, "close")
            assert client.read_to_end() == b""
        busy.send(body)
        response = busy.response()
        assert (response.body, response.header("connection")) == (b"body", "close")
        assert busy.read_to_end() == b""
    see_the_end(server, signum)


def test_an_idle_http_1_connection_is_closed_in_the_end(serve: Serve) -> None:
    server = serve(tls=True, graceful_timeout=20, args=["--keep-alive", "60"])
    with Http1Client(server) as idle, Http1Client(server) as unused:
        assert idle.get().status == 200
        server.signal(signal.SIGTERM)
        assert idle.read_to_end() == b""
        assert unused.read_to_end() == b""
    see_the_end(server, signal.SIGTERM)


@pytest.mark.parametrize(("tls", "protocol"), [(False, "h2"), (False, "http/1.1"), (True, "h2")])
def test_a_connection_that_has_sent_nothing_yet_gets_its_answer(
    serve: Serve, tls: bool, protocol: str
) -> None:
    """Proxies connect when they have a request: it is on its way."""
    server = serve(tls=tls, graceful_timeout=20)
    with server.connect() as silent, RawClient(server, timeout=30).greet() as observer:
        server.signal(signal.SIGHUP)
        want_leave(observer)
        if protocol == "h2":
            sock = secure(server, silent) if tls else silent
            with RawClient(server, sock=sock) as client:
                with client.one_write():
                    client.write_bytes(PREFACE)
                    client.settings()
                    client.headers(1, path="/hello")
                assert client.response(1).body == b"Hello, world!"
        else:
            silent.sendall(request("/hello"))
            assert silent.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")
    see_the_end(server, signal.SIGHUP)


def secure(server: Server, sock: socket.socket) -> ssl.SSLSocket:
    """Shake hands, late."""
    assert server.certs is not None
    return server.certs.client_context().wrap_socket(sock, server_hostname="localhost")


def test_a_handshake_that_does_not_come_holds_nothing_up(serve: Serve) -> None:
    server = serve(tls=True, graceful_timeout=60, env={"GUNICORN_H2_HANDSHAKE_TIMEOUT": "600"})
    with server.connect() as silent, RawClient(server).greet():
        # Accepted before the connection after it was.
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0
        assert silent.recv(1) == b""
