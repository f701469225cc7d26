"""Frames on streams of every state (RFC 9113 sections 5.1 and 6), and their priorities."""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    RstStreamFrame,
    WindowUpdateFrame,
)

from tests.support import wire
from tests.support.core import CorePeer, greeted_peer
from tests.support.wire import ErrorCode, Flag, FrameType


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 5.1, 6: frames on streams of every state ------------------------------------------


def idle(peer: CorePeer) -> int:
    peer.headers(1)
    return 3


def even(peer: CorePeer) -> int:
    peer.headers(1)
    return 2


def skipped(peer: CorePeer) -> int:
    peer.headers(3)
    return 1


def half_closed(peer: CorePeer) -> int:
    peer.headers(1)
    return 1


def ended(peer: CorePeer) -> int:
    peer.headers(1)
    peer.respond(1)
    peer.response(1)
    return 1


def ended_and_forgotten(peer: CorePeer) -> int:
    ended(peer)
    peer.headers(3)
    return 1


def reset_by_peer(peer: CorePeer) -> int:
    peer.headers(1, end_stream=False)
    peer.rst(1)
    return 1


def reset_by_us(peer: CorePeer) -> int:
    peer.headers(1, end_stream=False)
    peer.connection.reset(peer.stream(1), ErrorCodes.CANCEL)
    peer.want_rst(1)
    return 1


def reset_by_us_and_forgotten(peer: CorePeer) -> int:
    reset_by_us(peer)
    peer.headers(3)
    return 1


CONNECTION = "GOAWAY"
STREAM = "RST_STREAM"
IGNORED = "ignored"

#: Stands in for the id, which the state gives.
ANY = 0x7A7B7C7D
HEADERS = wire.headers_frames(ANY, b"\x82\x86\x84\x01\x01a")
TRAILERS = wire.headers_frames(ANY, b"\x00\x01a\x01b")
LONG_TRAILERS = wire.headers_frames(ANY, b"\x00\x01a\x01b", split=2)
DATA = wire.data_frame(ANY, b"abc")
LAST_DATA = wire.data_frame(ANY, b"abc", end_stream=True, pad=5)
RST = wire.rst_stream_frame(ANY)
WINDOW = wire.window_update_frame(ANY, 5)
PRIORITY = wire.priority_frame(ANY, (0, 1, False))


@pytest.mark.parametrize(
    ("state", "frame", "consequence", "code"),
    [
        (idle, DATA, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (idle, RST, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (idle, WINDOW, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (idle, PRIORITY, IGNORED, 0),
        (even, HEADERS, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (even, DATA, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (even, RST, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (even, WINDOW, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (even, PRIORITY, IGNORED, 0),
        # 5.1.1: the first use of an id closes the lower ones that were idle.
        (skipped, HEADERS, CONNECTION, ErrorCode.PROTOCOL_ERROR),
        (skipped, DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (skipped, RST, IGNORED, 0),
        (skipped, WINDOW, IGNORED, 0),
        (skipped, PRIORITY, IGNORED, 0),
        (half_closed, TRAILERS, STREAM, ErrorCode.STREAM_CLOSED),
        (half_closed, LONG_TRAILERS, STREAM, ErrorCode.STREAM_CLOSED),
        (half_closed, DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (half_closed, LAST_DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (half_closed, WINDOW, IGNORED, 0),
        (half_closed, PRIORITY, IGNORED, 0),
        (ended, TRAILERS, CONNECTION, ErrorCode.STREAM_CLOSED),
        (ended, DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (ended, RST, IGNORED, 0),
        (ended, WINDOW, IGNORED, 0),
        (ended, PRIORITY, IGNORED, 0),
        (ended_and_forgotten, TRAILERS, CONNECTION, ErrorCode.STREAM_CLOSED),
        (ended_and_forgotten, DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (ended_and_forgotten, RST, IGNORED, 0),
        (ended_and_forgotten, WINDOW, IGNORED, 0),
        (reset_by_peer, TRAILERS, STREAM, ErrorCode.STREAM_CLOSED),
        (reset_by_peer, DATA, STREAM, ErrorCode.STREAM_CLOSED),
        (reset_by_peer, RST, IGNORED, 0),
        (reset_by_peer, WINDOW, IGNORED, 0),
        # The peer could not know yet.
        (reset_by_us, TRAILERS, IGNORED, 0),
        (reset_by_us, LONG_TRAILERS, IGNORED, 0),
        (reset_by_us, DATA, IGNORED, 0),
        (reset_by_us, LAST_DATA, IGNORED, 0),
        (reset_by_us, RST, IGNORED, 0),
        (reset_by_us, WINDOW, IGNORED, 0),
        (reset_by_us, PRIORITY, IGNORED, 0),
        (reset_by_us_and_forgotten, TRAILERS, IGNORED, 0),
        (reset_by_us_and_forgotten, LONG_TRAILERS, IGNORED, 0),
        (reset_by_us_and_forgotten, DATA, IGNORED, 0),
    ],
)  # fmt: skip
def test_a_frame_on_a_stream_in_a_state(
    peer: CorePeer, state: object, frame: bytes, consequence: str, code: int
) -> None:
    assert callable(state)
    stream_id = state(peer)
    peer.turn()
    peer.write_bytes(frame.replace(struct.pack(">I", ANY), struct.pack(">I", stream_id)))
    if consequence == CONNECTION:
        peer.want_fault(code)
        return
    expected = [(stream_id, code)] if consequence == STREAM else []
    resets = [frame for frame in peer.turn() if not isinstance(frame, WindowUpdateFrame)]
    assert [(each.stream_id, getattr(each, "error_code", None)) for each in resets] == expected
    peer.is_well()


def test_a_half_closed_stream_that_is_reset_for_its_peers_fault_is_gone(peer: CorePeer) -> None:
    """DATA on it, and the application is told; its response is never sent."""
    peer.headers(1)
    peer.respond(1, b"queued already")
    peer.data(1, b"x")
    assert peer.told(1) == ["started", "ended", "aborted"]
    assert peer.connection.streams == {}
    assert [type(frame) for frame in peer.turn()] == [RstStreamFrame]


def test_a_block_whose_stream_is_reset_in_its_middle(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    block = peer.encode([("x-sum", "1")])
    peer.headers(1, block=block[:2], end_headers=False)
    peer.connection.reset(peer.stream(1), ErrorCodes.CANCEL)
    peer.write_bytes(wire.frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1, block[2:]))
    peer.headers(3, extra=[("x-sum", "1")])
    assert peer.handler.heads[3].fields == [(b"x-sum", b"1")]
    assert peer.told(1) == ["started"]
    peer.is_well()


def test_a_reset_from_each_side_crosses_the_other(peer: CorePeer) -> None:
    reset_by_us(peer)
    peer.rst(1)
    peer.data(1, b"x")
    assert [frame for frame in peer.turn() if isinstance(frame, RstStreamFrame)] == []
    peer.is_well()


# -- 6.3, RFC 9218: priorities ---------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.frame(FrameType.PRIORITY, 0, 1, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.PRIORITY, 0, 1, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.priority_frame(1, (1, 16, True)), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_a_bad_priority_frame(peer: CorePeer, frame: bytes, code: int) -> None:
    peer.headers(1)
    peer.write_bytes(frame)
    peer.want_rst(1, code)
    assert peer.told(1) == ["started", "ended", "aborted"]
    peer.is_well()
    # There is no stream to reset any more.
    peer.write_bytes(frame)
    peer.want_fault(code)


def priority(peer: CorePeer, stream_id: int) -> tuple[int, bool]:
    stream = peer.stream(stream_id)
    return stream.urgency, stream.incremental


def test_priorities_of_streams(peer: CorePeer) -> None:
    peer.headers(1, extra=[("priority", "u=1")])
    peer.headers(3)
    peer.priority_update(3, "u=5, i")
    assert [priority(peer, each) for each in (1, 3)] == [(1, False), (5, True)]
    peer.is_well()


def test_a_priority_of_an_idle_stream_holds_once_it_opens(peer: CorePeer) -> None:
    """It counts for more than the field, and of several the last counts."""
    peer.priority_update(1, "u=7")
    peer.priority_update(3, "u=6")
    peer.priority_update(1, "u=0, i")
    peer.headers(1, extra=[("priority", "u=2")])
    peer.headers(3, end_stream=False)
    peer.headers(5, extra=[("priority", "u=2")])
    assert [priority(peer, each) for each in (1, 3, 5)] == [(0, True), (6, False), (2, False)]
    peer.priority_update(3, "u=1")
    assert priority(peer, 3) == (1, False)


@pytest.mark.parametrize("active", [0, 1, 2])
def test_priorities_of_more_idle_streams_than_may_be_open(active: int) -> None:
    """Those that are open count, however they came to be so."""
    peer = greeted_peer(max_concurrent_streams=3)
    for stream_id in range(1, 2 * active, 2):
        peer.headers(stream_id)
    for stream_id in range(101, 107 - 2 * active, 2):
        peer.priority_update(stream_id, "u=1")
        peer.priority_update(stream_id, "u=2")
    assert not peer.connection.failed
    peer.priority_update(201, "u=1")
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


def test_a_client_that_cannot_know_the_limit_may_prioritize_more_idle_streams() -> None:
    peer = CorePeer(max_concurrent_streams=2).greet(ack=False)
    for stream_id in (1, 3, 5):
        peer.priority_update(stream_id, "u=1")
    for stream_id in (1, 3):
        peer.headers(stream_id)
        peer.rst(stream_id)
    peer.headers(5)
    # What is beyond the limit is not kept.
    assert [priority(peer, each) for each in (1, 3, 5)] == [(1, False), (1, False), (3, True)]
    peer.settings(ack=True)
    peer.is_well()


@pytest.mark.parametrize("refused", [False, True])
def test_nothing_is_kept_of_idle_streams_that_are_passed_over(refused: bool) -> None:
    """They are closed, as is one that was opened, served or not."""
    peer = greeted_peer(max_concurrent_streams=3)
    for first in range(1, 1_001, 100):
        for stream_id in (first, first + 2, first + 4):
            peer.priority_update(stream_id, "u=1")
        peer.headers(first + 4, extra=[("bad name", "x")] if refused else [])
        # Closed ones are not counted, and have no use for it.
        for stream_id in (first, first + 2):
            peer.priority_update(stream_id, "u=1")
        if not refused:
            peer.respond(first + 4)
            peer.turn()
    peer.is_well()
