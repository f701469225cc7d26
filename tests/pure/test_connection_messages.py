"""Requests and responses (RFC 9113 section 8)."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, RstStreamFrame, WindowUpdateFrame

from gunicorn_h2.connection import DISCARD_TIMEOUT
from gunicorn_h2.fields import RequestHead
from gunicorn_h2.stream import Stream
from tests.support.core import CorePeer, greeted_peer
from tests.support.rawconn import FieldInput
from tests.support.wire import ErrorCode

LENGTH_3 = [("content-length", "3")]


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 8.1: requests ---------------------------------------------------------------------


def test_the_request_is_told_before_its_body_comes(peer: CorePeer) -> None:
    peer.headers(1, method="POST", end_stream=False)
    assert peer.take_events() == [("started", 1)]
    peer.data(1, b"ab")
    peer.data(1, b"c", end_stream=True)
    assert peer.take_events() == [("body", 1, b"ab"), ("body", 1, b"c"), ("ended", 1, [])]


def test_a_body_ends_with_an_empty_frame(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc")
    peer.data(1, end_stream=True)
    assert peer.take_events() == [("started", 1), ("body", 1, b"abc"), ("ended", 1, [])]


def test_a_body_ends_with_trailers(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc")
    peer.headers(1, [("x-sum", "1"), ("host", "evil")], split=3)
    assert peer.take_events()[1:] == [("body", 1, b"abc"), ("ended", 1, [(b"x-sum", b"1")])]


@pytest.mark.parametrize("split", [None, 2])
@pytest.mark.parametrize(
    ("trailers", "end_stream"),
    [
        ([("x-sum", "1")], False),
        ([(":path", "/"), ("x", "1")], True),
        ([("X", "1")], True),
        ([("transfer-encoding", "chunked")], True),
        ([("x", "y" * 170)], True),
    ],
)
def test_bad_trailers(trailers: list[FieldInput], end_stream: bool, split: int | None) -> None:
    """Row 29: an error of the stream."""
    peer = greeted_peer(max_header_list_size=200)
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc")
    peer.headers(1, trailers, end_stream=end_stream, split=split and 40)
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    assert peer.told(1) == ["started", "body", "aborted"]
    peer.is_well()


def test_a_second_head_is_bad_trailers(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.headers(1)
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    peer.is_well()


@pytest.mark.parametrize("parts", [[b"abc"], [b"a", b"bc"], [b"abc", b""], [b"", b"abc"]])
@pytest.mark.parametrize("trailers", [False, True])
def test_a_content_length_that_is_kept(peer: CorePeer, parts: list[bytes], trailers: bool) -> None:
    peer.headers(1, extra=LENGTH_3, end_stream=False)
    for part in parts[:-1]:
        peer.data(1, part, pad=4)
    peer.data(1, parts[-1], end_stream=not trailers, pad=4)
    if trailers:
        peer.headers(1, [("x", "y")])
    assert peer.told(1)[-1] == "ended"
    peer.is_well()


@pytest.mark.parametrize("parts", [[b"abcd"], [b"abc", b"d"], [b"ab"], [b""], [b"a", b""]])
@pytest.mark.parametrize("trailers", [False, True])
def test_a_content_length_that_is_not_kept(
    peer: CorePeer, parts: list[bytes], trailers: bool
) -> None:
    """Row 23: the application never takes a short body for a whole one."""
    peer.headers(1, extra=LENGTH_3, end_stream=False)
    for part in parts[:-1]:
        peer.data(1, part)
    peer.data(1, parts[-1], end_stream=not trailers)
    if trailers and not sum(map(len, parts)) > 3:
        peer.headers(1, [("x", "y")])
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    seen = peer.told(1)
    assert seen[-1] == "aborted"
    assert "ended" not in seen
    peer.is_well()


def test_a_body_that_is_too_long_is_refused_as_soon_as_it_is(peer: CorePeer) -> None:
    peer.headers(1, extra=LENGTH_3, end_stream=False)
    peer.data(1, b"abcd")
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    assert peer.handler.bodies[1] == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_content_length_and_no_body(peer: CorePeer, method: str) -> None:
    peer.headers(1, method=method, extra=LENGTH_3)
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    assert peer.take_events() == []
    peer.headers(3, method=method, extra=[("content-length", "0")])
    assert peer.told(3) == ["started", "ended"]
    peer.is_well()


@pytest.mark.parametrize(
    "fields",
    [
        [("content-length", "+5")],
        [("content-length", " 5")],
        [("content-length", "5"), ("content-length", "5")],
        [("X", "1")],
        [("x", "a\r\nb: c")],
        [("x", "a\x00")],
        [("x", " a")],
        [("x ", "a")],
        [("connection", "keep-alive")],
        [("te", "gzip")],
        [(":path", "/again")],
    ],
)
@pytest.mark.parametrize("end_stream", [False, True])
def test_a_malformed_request(peer: CorePeer, fields: list[FieldInput], end_stream: bool) -> None:
    """Rows 23 and 24: the stream's fault alone, and the application never knows."""
    peer.headers(1, end_stream=False)
    peer.headers(3, extra=fields, end_stream=end_stream)
    peer.want_rst(3, ErrorCode.PROTOCOL_ERROR)
    assert peer.told(3) == []
    peer.data(1, b"sibling", end_stream=True)
    peer.respond(1, b"fine")
    assert peer.response(1).body == b"fine"


def test_too_many_fields_are_for_the_application_side_to_answer() -> None:
    """Row 13: 431 is a response like any other."""
    peer = greeted_peer(max_header_fields=10)
    peer.headers(1, extra=[("x", "1")] * 11)
    assert peer.handler.heads[1].too_large
    peer.respond(1, b"431")
    assert peer.response(1).body == b"431"


def test_a_head_beyond_a_small_limit_is_for_the_application_side_to_answer_too() -> None:
    """Siblings are not to suffer from a large cookie."""
    peer = greeted_peer(max_header_list_size=1_000)
    peer.headers(1, end_stream=False)
    peer.headers(3, extra=[("cookie", "~" * 5_000)])
    assert peer.handler.heads[3].too_large
    peer.respond(3, b"431")
    assert peer.response(3).body == b"431"
    assert list(peer.connection.streams) == [1]


def test_a_compression_bomb() -> None:
    """Row 13: an entry of 4 KB, referenced thousands of times."""
    peer = greeted_peer()
    peer.headers(1, extra=[("x", "y" * 4_000)])
    bomb = peer.encode(peer.request_fields()) + b"\xbe" * 10_000
    peer.headers(3, block=bomb)
    assert peer.handler.heads[3].too_large
    assert peer.handler.heads[3].fields == []
    peer.is_well()


# -- 8.1: responses --------------------------------------------------------------------


def test_a_response_before_the_end_of_the_request_comes_whole(peer: CorePeer) -> None:
    """Row 22: END_STREAM first, and RST_STREAM(NO_ERROR) for who does not stop."""
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc")
    peer.respond(1, bytes(100_000))
    assert peer.response(1).reset_code is None
    peer.now += DISCARD_TIMEOUT
    peer.connection.tick(peer.now)
    assert peer.turn() == []
    peer.now += 0.1
    peer.connection.tick(peer.now)
    peer.want_rst(1, ErrorCode.NO_ERROR)
    assert peer.connection.streams == {}


@pytest.mark.parametrize("end", ["data", "trailers"])
def test_a_request_may_be_finished_after_its_response(peer: CorePeer, end: str) -> None:
    """Clients that send all of it before they read would lose the response by a reset."""
    peer.headers(1, end_stream=False, extra=[("content-length", "200000")])
    peer.respond(1, b"refused")
    assert peer.response(1).body == b"refused"
    for _ in range(20):
        peer.data(1, bytes(10_000))
        assert {type(frame) for frame in peer.turn()} <= {WindowUpdateFrame}
        assert peer.send_window(0) > 10_000
    if end == "data":
        peer.data(1, b"", end_stream=True)
    else:
        peer.headers(1, [("x-sum", "1")])
    assert peer.connection.streams == {}
    assert peer.turn() == []
    assert [event for event in peer.take_events() if event[0] == "body"] == []
    peer.is_well()


def test_a_response_after_the_end_of_the_request_is_not_reset(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.respond(1, b"x", end=False)
    peer.turn()
    peer.data(1, b"abc", end_stream=True)
    peer.connection.responses.end(peer.stream(1), [])
    assert [type(frame) for frame in peer.turn()] == [DataFrame]


def test_the_application_may_give_up(peer: CorePeer) -> None:
    peer.headers(1)
    peer.respond(1, b"begun", end=False)
    peer.connection.reset(peer.stream(1), ErrorCodes.INTERNAL_ERROR)
    assert [type(frame) for frame in peer.turn()] == [RstStreamFrame]
    peer.is_well()


def test_a_handler_may_reset_a_stream_while_it_is_told_of_its_body(peer: CorePeer) -> None:
    def refuse(stream: Stream, data: bytes, credit: int) -> None:
        peer.connection.reset(stream, ErrorCodes.CANCEL)

    peer.handler.body_received = refuse  # type: ignore[method-assign]
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc", end_stream=True)
    peer.want_rst(1, ErrorCode.CANCEL)
    assert peer.told(1) == ["started"]
    peer.is_well()


def test_a_handler_may_reset_a_stream_while_it_is_told_of_it() -> None:
    for end_stream in (False, True):
        peer = greeted_peer()

        def refuse(stream: Stream, head: RequestHead, peer: CorePeer = peer) -> None:
            peer.connection.reset(stream, ErrorCodes.REFUSED_STREAM)

        peer.handler.request_started = refuse  # type: ignore[method-assign]
        peer.headers(1, end_stream=end_stream)
        peer.want_rst(1, ErrorCode.REFUSED_STREAM)
        assert peer.take_events() == []
        peer.data(1, b"x")
        assert peer.turn() == []
