"""The raw-frame client, proved against a server that is not ours too.

Where it agrees with Gunicorn's own HTTP/2, a disagreement with the worker
under test is the worker's.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import hpack
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.apps import HELLO, repeated
from tests.support.frames import NothingArrived, RawClient, ServerClosed
from tests.support.server import Server
from tests.support.wire import (
    DEFAULT_WINDOW,
    ErrorCode,
    Setting,
    data_frame,
    headers_frames,
    ping_frame,
    rst_stream_frame,
    settings_frame,
    window_update_frame,
)

GTHREAD_H2: dict[str, Any] = {
    "worker_class": "gthread",
    "threads": 4,
    "args": ["--http-protocols", "h1,h2", "--http2-cleartext", "both"],
}
OURS: dict[str, Any] = {"threads": 4}


@pytest.fixture(scope="module", params=["gthread", "H2Worker"])
def worker(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "H2Worker":
        return OURS
    if gunicorn_version() < (27,):
        pytest.skip("this Gunicorn has no HTTP/2 over cleartext of its own")
    return GTHREAD_H2


@pytest.fixture(scope="module", params=[False, True], ids=["cleartext", "tls"])
def server(request: pytest.FixtureRequest, worker: dict[str, Any], module_serve: Serve) -> Server:
    return module_serve(tls=request.param, **worker)


@pytest.fixture
def client(server: Server) -> Iterator[RawClient]:
    with RawClient(server).greet() as greeted:
        yield greeted


def test_frames_of_one_request(client: RawClient) -> None:
    client.headers(1, path="/hello")
    headers = client.want(HeadersFrame, 1)
    assert (b":status", b"200") in client.fields(headers)
    assert client.want(DataFrame, 1).data == HELLO
    client.want_idle(HeadersFrame)


def test_whole_exchanges_on_one_connection(client: RawClient) -> None:
    response = client.request(path="/hello")
    assert (response.status, response.body) == (200, HELLO)
    assert response.header("content-length") == "13"
    assert response.reset_code is None
    body = b"".join(repeated(300_000))
    assert client.request("POST", "/echo", body=body).body == body
    counted = json.loads(client.request("POST", "/read?size=1000", body=body).body)
    assert counted["sha256"] == hashlib.sha256(body).hexdigest()
    assert client.request(path="/status?code=404").status == 404


def test_responses_of_several_streams(client: RawClient) -> None:
    with client.one_write():
        for stream_id in (1, 3, 5):
            client.headers(stream_id, path=f"/stream?n={stream_id}&size=2")
    assert client.response(5).body == b"aabbccddee"
    others = client.responses([1, 3])
    assert [others[1].body, others[3].body] == [b"aa", b"aabbcc"]


def test_credit_is_given_on_request_only(server: Server) -> None:
    size = 200_000
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 1000}) as client:
        client.headers(1, path=f"/large?n={size}")
        client.want(HeadersFrame, 1)
        assert client.want(DataFrame, 1, flow_controlled_length=1000).data
        client.want_idle(DataFrame)
        client.window_update(1, size)
        assert len(client.response(1).body) == size - 1000


def test_padding_priority_and_continuations(client: RawClient) -> None:
    client.headers(
        1,
        method="POST",
        path="/echo",
        extra=[("x-long", "x" * 500)],
        end_stream=False,
        priority=(0, 16, False),
        pad=7,
        split=100,
    )
    client.data(1, b"padded ", pad=255)
    client.data(1, b"body", end_stream=True)
    assert client.response(1).body == b"padded body"


def test_a_broken_rule_and_its_answer(client: RawClient) -> None:
    client.window_update(0, 0)
    assert client.want_goaway(ErrorCode.PROTOCOL_ERROR).error_code == 1
    client.want_closed()
    with pytest.raises(ServerClosed):
        client.read_frame()


def test_silence_is_told_from_the_end(client: RawClient) -> None:
    with pytest.raises(NothingArrived, match="wanted GOAWAY"):
        client.want_goaway(timeout=0.1)
    with pytest.raises(NothingArrived):
        client.want_closed(timeout=0.1)


def test_want_refuses_what_differs(client: RawClient) -> None:
    client.headers(1, path="/hello")
    with pytest.raises(AssertionError, match="wanted DataFrame on 1"):
        client.want(DataFrame, 1)


@pytest.fixture
def scripted() -> Iterator[tuple[RawClient, socket.socket]]:
    """A client and the other end of its socket, for what no good server sends."""
    ours, theirs = socket.socketpair()
    with RawClient(Server(), sock=ours, timeout=5) as client, theirs:
        yield client, theirs


def test_blocks_are_decoded_in_the_order_of_arrival(
    scripted: tuple[RawClient, socket.socket],
) -> None:
    client, peer = scripted
    encoder = hpack.Encoder()
    for stream_id, name in ((1, "first"), (3, "second"), (5, "first")):
        block = encoder.encode([(":status", "200"), ("x-name", name)])
        peer.sendall(headers_frames(stream_id, block, split=2))
    for stream_id, name in ((5, "first"), (1, "first"), (3, "second")):
        assert client.response(stream_id).header("x-name") == name


def test_interim_responses_trailers_and_resets(
    scripted: tuple[RawClient, socket.socket],
) -> None:
    client, peer = scripted
    encoder = hpack.Encoder()
    for fields in ([(":status", "103")], [(":status", "200")]):
        peer.sendall(headers_frames(1, encoder.encode(fields), end_stream=False))
    peer.sendall(data_frame(1, b"body"))
    peer.sendall(headers_frames(1, encoder.encode([("x-sum", "1")])))
    peer.sendall(rst_stream_frame(1, ErrorCode.NO_ERROR))
    peer.sendall(rst_stream_frame(3, ErrorCode.REFUSED_STREAM))
    response = client.response(1)
    assert response.interim == [[(b":status", b"103")]]
    assert (response.status, response.body) == (200, b"body")
    assert response.trailers == [(b"x-sum", b"1")]
    assert response.reset_code is None
    assert client.response(3).reset_code == ErrorCode.REFUSED_STREAM
    client.want_rst(1, ErrorCode.NO_ERROR)


def test_want_idle_sees_what_comes_before_the_ping_ack(
    scripted: tuple[RawClient, socket.socket],
) -> None:
    client, peer = scripted
    token = b"idle" + (1).to_bytes(4, "big")
    peer.sendall(data_frame(1, b"late") + ping_frame(token, ack=True))
    with pytest.raises(AssertionError, match="wanted nothing, got DataFrame"):
        client.want_idle()


def test_an_upload_stays_within_the_windows(scripted: tuple[RawClient, socket.socket]) -> None:
    client, peer = scripted
    peer.sendall(settings_frame({Setting.INITIAL_WINDOW_SIZE: 10}))
    client.want(SettingsFrame)
    peer.sendall(window_update_frame(1, 5) + rst_stream_frame(1))
    assert client.upload(1, bytes(100)) == 15
    assert client.send_window(0) == DEFAULT_WINDOW - 15
