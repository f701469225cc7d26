"""Bodies of every size, in every style, in both directions, over both protocols.

What was sent arrives, byte for byte, and both ends know where it ends.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from tests.conftest import Serve
from tests.support.either import PROTOCOLS, ask
from tests.support.frames import RawClient
from tests.support.server import Server
from tests.support.wire import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, Setting
from tests.support.wsgi_bodies import READS, SENDS, payload

SIZES = {
    "empty": 0,
    "one byte": 1,
    "one frame": DEFAULT_FRAME_SIZE,
    "one window": DEFAULT_WINDOW,
    "8 MB": 8 << 20,
}


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve("tests.support.wsgi_apps:app")


def target(path: str, style: str, size: int = 0, sized: bool = False) -> str:
    query = {"style": style, "size": size} | ({"sized": 1} if sized else {})
    return f"/{path}?{urlencode(query)}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("style", SENDS)
@pytest.mark.parametrize("name", SIZES)
def test_download(server: Server, name: str, style: str, sized: bool, protocol: str) -> None:
    size = SIZES[name]
    answer = ask(server, protocol, target("download", style, size, sized))
    assert (answer.status, answer.whole) == (200, True)
    assert answer.body == payload(size)
    assert answer.values("content-length") == ([str(size)] if sized else [])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("style", READS)
@pytest.mark.parametrize("name", SIZES)
def test_upload(server: Server, name: str, style: str, sized: bool, protocol: str) -> None:
    body = payload(SIZES[name])
    answer = ask(server, protocol, target("upload", style), method="POST", body=body, sized=sized)
    announced = len(body) if sized else None
    digest = hashlib.sha256(body).hexdigest()
    assert answer.body.decode() == f"{len(body)} {digest} {announced}"


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("style", SENDS)
@pytest.mark.parametrize("window", [1, 1000, DEFAULT_WINDOW])
def test_the_end_needs_no_window(server: Server, window: int, style: str, sized: bool) -> None:
    """A response of exactly one window ends, though there is no credit left for a frame."""
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: window}) as client:
        client.headers(1, path=target("download", style, window, sized))
        response = client.response(1, auto_window=False)
        assert response.body == payload(window)
        client.want_idle(DataFrame)


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("window", [1, 1000, DEFAULT_WINDOW])
def test_an_end_that_comes_late_needs_no_window(server: Server, window: int, sized: bool) -> None:
    """The last DATA frame has gone, the windows are used up, then the application returns."""
    tag = f"late-{window}-{sized}"
    extra = [("x-size", str(window)), *([("x-sized", "1")] if sized else [])]
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: window}) as client:
        client.headers(1, path=f"/late_end?{tag}", extra=extra)
        client.want(HeadersFrame, 1)
        received = b""
        while len(received) < window:
            received += client.want(DataFrame, 1, end_stream=False).data
        client.headers(3, path="/open", extra=[("x-tag", tag)])
        rest = client.response(1, auto_window=False)
        assert (rest.chunks, rest.reset_code) == ([b""], None)
        assert received == payload(window)


@pytest.mark.parametrize("style", SENDS)
def test_eight_downloads_share_a_connection(server: Server, style: str) -> None:
    size = 1 << 20
    with RawClient(server).greet() as client:
        for stream_id in range(1, 17, 2):
            client.headers(stream_id, path=target("download", style, size + stream_id))
        for stream_id, response in client.responses(range(1, 17, 2)).items():
            assert response.reset_code is None
            assert response.body == payload(size + stream_id)


def test_an_answer_that_is_sent_while_the_body_is_read(server: Server) -> None:
    """Both directions at once, more than any window in each."""
    body = payload(1 << 20)
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path=target("echo_parts", ""), end_stream=False)
        assert client.upload(1, body) == len(body)
        response = client.response(1)
    assert response.body == body
