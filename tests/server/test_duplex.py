"""Reading and writing at the same time: the response does not wait for the request's end."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from tests.conftest import Serve
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, post, request
from tests.support.server import Server
from tests.support.wire import ErrorCode, Setting

APP = "tests.support.extension_apps:app"


@pytest.fixture(scope="module")
def servers(module_serve: Serve) -> dict[bool, Server]:
    return {tls: module_serve(APP, tls=tls, threads=4) for tls in (False, True)}


@pytest.fixture
def server(servers: dict[bool, Server], tls: bool) -> Server:
    return servers[tls]


class ChunkClient(Http1Client):
    """Reads a chunked response as it comes."""

    def read_chunk(self) -> bytes:
        """The next chunk; b"" is the last one."""
        data = self._read_exactly(int(self._file.readline(), 16))
        assert self._read_exactly(2) == b"\r\n"
        return data


def exchange(client: RawClient, stream_id: int, message: bytes) -> None:
    """Send a message, and see all of it come back before anything else is sent."""
    client.data(stream_id, message)
    want_bytes(client, stream_id, message)


def want_bytes(client: RawClient, stream_id: int, wanted: bytes) -> None:
    """See these bytes come, in however many frames, and no more in those."""
    received = b""
    while len(received) < len(wanted):
        received += client.want(DataFrame, stream_id, end_stream=False).data
    assert received == wanted


@pytest.mark.parametrize("size", [1, 4096, 65536])
def test_each_message_is_answered_before_the_next_is_sent(server: Server, size: int) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path=f"/duplex?size={size}", end_stream=False)
        # PEP 3333: the fields come with the first part of the body.
        client.want_idle()
        client.data(1, b"a")
        client.want(HeadersFrame, 1, end_stream=False)
        client.want(DataFrame, 1, data=b"a")
        for number in range(50):
            exchange(client, 1, b"message %d" % number)
        client.data(1, end_stream=True)
        assert client.response(1).body == b""


def test_what_is_there_is_not_held_back(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/duplex?size=10", end_stream=False)
        client.data(1, b"0123456789abc")
        client.want(HeadersFrame, 1)
        # The last read got less than it asked for.
        want_bytes(client, 1, b"0123456789abc")
        client.rst(1, ErrorCode.CANCEL)


def test_a_body_of_known_length_is_read_in_full(server: Server) -> None:
    with RawClient(server).greet() as client:
        length = [("content-length", "12")]
        client.headers(1, method="POST", path="/duplex?size=6", extra=length, end_stream=False)
        client.data(1, b"012")
        client.want_idle()
        client.data(1, b"345")
        client.want(HeadersFrame, 1)
        want_bytes(client, 1, b"012345")
        client.data(1, b"6789ab", end_stream=True)
        assert client.response(1).body == b"6789ab"


def test_padding_is_not_held_back(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/duplex", end_stream=False)
        client.data(1, b"a", pad=200)
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1, data=b"a")
        for _ in range(1000):
            # More than the window holds, were padding not given back.
            client.data(1, b"b", pad=255)
            client.want(DataFrame, 1, data=b"b")


def test_much_in_both_directions(server: Server) -> None:
    size = 2 * 1024 * 1024
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}) as client:
        client.window_update(0, 2**31 - 1 - 65535)
        client.headers(1, method="POST", path="/duplex", end_stream=False)
        # It cannot hold as much as this: it must read and write in turns.
        client.upload(1, bytes(size))
        assert len(client.response(1).body) == size


def test_streams_of_one_connection_take_turns(server: Server) -> None:
    with RawClient(server).greet() as client:
        ids = (1, 3, 5, 7)
        for stream_id in ids:
            client.headers(stream_id, method="POST", path="/duplex", end_stream=False)
            client.data(stream_id, b"a")
            client.want(HeadersFrame, stream_id)
            client.want(DataFrame, stream_id, data=b"a")
        for stream_id in (*ids, *reversed(ids)):
            exchange(client, stream_id, b"again")
        for stream_id in ids:
            client.data(stream_id, end_stream=True)
            assert client.response(stream_id).reset_code is None


def test_reading_after_the_response_has_begun(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/late-read", end_stream=False)
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1, data=b"begun;")
        client.data(1, b"body", end_stream=True)
        assert client.response(1).body == b"4"
    with ChunkClient(server) as http1:
        for _ in range(2):
            http1.send(request("/late-read", "Content-Length: 4", method="POST"))
            assert http1.interim().startswith(b"HTTP/1.1 200 ")
            http1.send(b"body")
            assert [http1.read_chunk() for _ in range(3)] == [b"begun;", b"4", b""]


def test_a_response_may_end_before_the_request(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/ignore", end_stream=False)
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1, data=b"no, thanks", end_stream=True)
        client.want(RstStreamFrame, 1, error_code=ErrorCode.NO_ERROR)
        # What was on its way does not disturb the others.
        client.data(1, b"late")
        assert client.request(path="/hints").body == b"page"


@pytest.mark.parametrize("size", [1024, 4096])
def test_chunks_are_answered_over_http1(server: Server, size: int) -> None:
    # As large as what the application asks for: Gunicorn's reader waits for that much.
    with ChunkClient(server) as client:
        client.send(request(f"/duplex?size={size}", "Transfer-Encoding: chunked", method="POST"))
        for number in range(20):
            message = bytes([number]) * size
            client.send(b"%x\r\n%b\r\n" % (size, message))
            if not number:
                assert client.interim().startswith(b"HTTP/1.1 200 ")
            assert client.read_chunk() == message
        client.send(b"0\r\n\r\n")
        assert client.read_chunk() == b""
        client.send(post("/echo", b"next"))
        assert client.response().body == b"next"
