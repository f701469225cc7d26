"""Where connections come from, and how the protocol of each is found out."""

from __future__ import annotations

import json
import select
import socket
import struct
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, post, request
from tests.support.server import Address, Server, wait_until
from tests.support.wire import PREFACE, settings_frame


def says_hello(server: Server, address: Address | None = None) -> bool:
    """Whether both protocols are spoken at that address."""
    with (
        RawClient(server, address=address) as http2,
        Http1Client(server, address=address) as http1,
    ):
        return http2.greet().request(path="/hello").body == http1.get().body == HELLO


def environ_of(server: Server, address: Address | None = None) -> dict[str, object]:
    with RawClient(server, address=address).greet() as client:
        return dict(json.loads(client.request(path="/environ").body))


# -- listeners -------------------------------------------------------------------------


def needs_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")


def test_tcp(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls)
    assert says_hello(server)
    environ = environ_of(server)
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (server.host, str(server.port))


def test_ipv6(serve: Serve, tls: bool) -> None:
    needs_ipv6()
    server = serve(tls=tls, bind="[::1]:0")
    assert says_hello(server)
    assert environ_of(server)["REMOTE_ADDR"] == "::1"


def test_unix_socket(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls, bind="unix:")
    assert says_hello(server)
    environ = environ_of(server)
    assert environ["REMOTE_ADDR"] == ""
    # Gunicorn asks Host where there is no port.
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (
        "localhost",
        "443" if tls else "80",
    )
    assert server.access_log().count(" - - [") == 3


def test_several_binds(serve: Serve) -> None:
    server = serve(bind=["127.0.0.1:0", "127.0.0.1:0", "unix:"])
    assert len(server.addresses) == 3
    for address in server.addresses:
        assert says_hello(server, address)
    # Each knows its own port.
    ports = [environ_of(server, each)["SERVER_PORT"] for each in server.addresses[:2]]
    assert ports == [str(each[1]) for each in server.addresses[:2]]


#: Becomes Gunicorn with two listening sockets as descriptors 3 and 4, as systemd does.
LAUNCHER = """
import os, socket, sys
listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
copies = [os.dup(each.fileno()) for each in listeners]
for number, copy in enumerate(copies, 3):
    if copy != number:
        os.dup2(copy, number)
    os.set_inheritable(number, True)
if sys.argv[1] == "systemd":
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


@pytest.mark.parametrize("how", ["systemd", "fd"])
def test_inherited_descriptors(serve: Serve, tmp_path: Path, how: str) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(LAUNCHER)
    binds = ["fd://3", "fd://4"] if how == "fd" else []
    # "-m gunicorn ..." follows: it is the launcher's to run.
    server = serve(python=[str(launcher), how], bind=binds)
    assert len(server.addresses) == 2
    for address in server.addresses:
        assert says_hello(server, address)


def test_reuse_port(serve: Serve) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))  # not listening: it keeps the port for us only
        port = holder.getsockname()[1]
        # The master has no listener, and so no address to tell the tests' server.
        conf = "def when_ready(server):\n"
        conf += f"    server.log.info('Listening at: http://127.0.0.1:{port} (%d)', server.pid)"
        server = serve(bind=f"127.0.0.1:{port}", workers=2, args=["--reuse-port"], conf=conf)
        pids = set()

        def both_seen() -> bool:
            with RawClient(server).greet() as client:
                pids.add(client.request(path="/pid").body)
            return len(pids) == 2

        wait_until(both_seen, what="an answer of each worker")


def test_backlog(serve: Serve) -> None:
    """Connections wait in the kernel's queue, as many as the setting says."""
    server = serve(args=["--backlog", "5", "--worker-connections", "1"])
    with RawClient(server).greet() as only:
        waiting = []
        try:
            for _ in range(30):
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.3)
                try:
                    sock.connect((server.host, server.port))
                except TimeoutError:
                    break
            else:
                pytest.fail("30 connections were taken with a backlog of 5")
            # The kernel allows one more than it was asked for.
            assert 5 <= len(waiting) - 1 <= 7
        finally:
            for sock in waiting:
                sock.close()
        assert only.request(path="/hello").body == HELLO


# -- which protocol -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(args=["--keep-alive", "30"])


def test_the_preface_byte_by_byte(server: Server) -> None:
    with RawClient(server) as client:
        for byte in PREFACE + settings_frame():
            client.write_bytes(bytes([byte]))
        client.settings(ack=True)
        assert client.request(path="/hello").body == HELLO


def test_http_1_byte_by_byte(server: Server) -> None:
    with Http1Client(server) as client:
        # P, as the preface has; then no longer.
        for byte in post("/echo", b"body"):
            client.send(bytes([byte]))
        assert client.response().body == b"body"


def test_preface_and_requests_in_one_write(server: Server) -> None:
    with RawClient(server) as client:
        with client.one_write():
            client.write_bytes(PREFACE)
            client.settings()
            client.settings(ack=True)
            client.headers(1, path="/hello")
            client.headers(3, method="POST", path="/echo", end_stream=False)
            client.data(3, b"body", end_stream=True)
        answers = client.responses([1, 3])
        assert (answers[1].body, answers[3].body) == (HELLO, b"body")


def test_nothing_is_said_before_the_protocol_is_known(server: Server) -> None:
    with Http1Client(server) as client:
        client.send(PREFACE[:10])
        assert select.select([client.sock], [], [], 0.2)[0] == []
        client.send(PREFACE[10:] + settings_frame())
        # The first thing is our SETTINGS, as a frame.
        assert client.sock.recv(9)[3:4] == b"\x04"


@pytest.mark.parametrize("at", [3, 14, 16, 18, 20, 23])
def test_a_wrong_preface_is_http_1_in_cleartext(server: Server, at: int) -> None:
    wrong = bytearray(PREFACE)
    wrong[at] ^= 0x01
    with Http1Client(server) as client:
        client.send(bytes(wrong) + b"\r\n\r\n")
        assert client.read_to_end().startswith(b"HTTP/1.1 400 ")


def test_a_wrong_preface_is_closed_under_tls(serve: Serve) -> None:
    server = serve(tls=True)
    for at in (0, 10, 23):
        wrong = bytearray(PREFACE)
        wrong[at] ^= 0x01
        with RawClient(server) as client:
            client.write_bytes(bytes(wrong) + settings_frame())
            client.want_closed()
    assert "[WARNING]" not in server.log()


@pytest.mark.parametrize("version", ["h2c", "h2c, websocket", "websocket"])
def test_upgrade_is_ignored_and_the_body_intact(server: Server, version: str) -> None:
    with Http1Client(server) as client:
        for body in (b"", b"x" * 100_000):
            client.send(
                post(
                    "/echo",
                    body,
                    "Connection: Upgrade, HTTP2-Settings",
                    f"Upgrade: {version}",
                    "HTTP2-Settings: AAMAAABkAAQAAP__",
                )
            )
            answer = client.response()
            assert (answer.status, answer.body) == (200, body)
            assert answer.header("upgrade") is None


# -- the PROXY protocol ----------------------------------------------------------------------

V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def proxy_v1() -> bytes:
    return b"PROXY TCP4 192.0.2.1 192.0.2.2 1111 2222\r\n"


def proxy_v2(padding: int = 0) -> bytes:
    """Padded with a TLV, which may hold any bytes."""
    addresses = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
    addresses += struct.pack(">HH", 1111, 2222)
    if padding:
        addresses += struct.pack(">BH", 0xEE, padding) + b"\r\n" * (padding // 2)
    return V2_SIGNATURE + struct.pack(">BBH", 0x21, 0x11, len(addresses)) + addresses


def proxy_v2_local() -> bytes:
    return V2_SIGNATURE + struct.pack(">BBH", 0x20, 0, 0)


@pytest.fixture(scope="module")
def behind_proxy(module_serve: Serve) -> Server:
    return module_serve(args=["--proxy-protocol", "--keep-alive", "30"], threads=2)


HEADERS = {"v1": proxy_v1(), "v2": proxy_v2(), "v2 with TLV": proxy_v2(500)}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("bytewise", [False, True], ids=["at once", "byte by byte"])
def test_proxy_protocol(behind_proxy: Server, header: str, bytewise: bool) -> None:
    if header != "v1":
        needs_proxy_v2()
    with Http1Client(behind_proxy) as client:
        data = HEADERS[header] + request("/environ")
        for part in [bytes([byte]) for byte in data] if bytewise else [data]:
            client.send(part)
        environ = json.loads(client.response().body)
        assert environ["REMOTE_ADDR"] == "192.0.2.1"
        assert environ["REMOTE_PORT"] == "1111"
        # It holds for the connection: the next request comes without.
        assert client.get("/hello").body == HELLO


def needs_proxy_v2() -> None:
    from gunicorn.http import message

    if not hasattr(message, "PP_V2_SIGNATURE"):
        pytest.skip("this Gunicorn knows version 1 of the PROXY protocol only")


def test_proxy_protocol_local(behind_proxy: Server) -> None:
    needs_proxy_v2()
    with Http1Client(behind_proxy) as client:
        client.send(proxy_v2_local() + request())
        assert client.response().body == HELLO


def test_proxy_headers_in_pieces_hold_no_thread(behind_proxy: Server) -> None:
    needs_proxy_v2()
    # Signature and TLV hold what is the end of a head elsewhere.
    pieces = [proxy_v1()[:20], proxy_v2()[:14], proxy_v2(500)[:100]] * 3
    slow = [Http1Client(behind_proxy) for _ in pieces]
    try:
        for client, piece in zip(slow, pieces, strict=True):
            client.send(piece)
        with Http1Client(behind_proxy, timeout=5) as client:
            client.send(proxy_v1() + request())
            assert client.response().body == HELLO
    finally:
        for client in slow:
            client.close()


def test_a_proxy_header_without_the_setting_is_refused(server: Server) -> None:
    for header in (proxy_v1(), proxy_v2(), proxy_v2_local()):
        with Http1Client(server) as client:
            client.send(header + request())
            assert client.read_to_end().startswith(b"HTTP/1.1 400 ")


def test_a_proxy_header_from_elsewhere_is_refused(serve: Serve) -> None:
    server = serve(args=["--proxy-protocol", "--proxy-allow-from", "192.0.2.9"])
    with Http1Client(server) as client:
        client.send(proxy_v1() + request())
        assert client.read_to_end().startswith(b"HTTP/1.1 403 ")
