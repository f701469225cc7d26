"""What a peer may do often, and how the connection ends when it overdoes it."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    WindowUpdateFrame,
)

from tests.support import wire
from tests.support.core import CorePeer, greeted_peer
from tests.support.rawconn import FieldInput
from tests.support.wire import ErrorCode, FrameType

MAX_WINDOW = 2**31 - 1


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 6.4: RST_STREAM -------------------------------------------------------------------


def test_a_cancelled_stream_is_gone(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.data(1, b"abc")
    peer.respond(1, b"queued")
    peer.rst(1)
    assert peer.told(1) == ["started", "body", "aborted"]
    assert peer.connection.streams == {}
    assert peer.turn() == []
    peer.is_well()


def test_cancelling_a_hundred_requests_at_once_is_what_browsers_do(peer: CorePeer) -> None:
    for start in (1, 201):
        ids = range(start, start + 200, 2)
        with peer.one_write():
            for stream_id in ids:
                peer.headers(stream_id)
        with peer.one_write():
            for stream_id in ids:
                peer.rst(stream_id)
    peer.is_well()


def test_rapid_reset(peer: CorePeer) -> None:
    """Row 14."""
    started = 0
    for stream_id in range(1, 20_001, 2):
        peer.headers(stream_id)
        peer.rst(stream_id)
        started += ("started", stream_id) in peer.take_events()
    assert started <= 201
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def overflow_window(peer: CorePeer, stream_id: int) -> None:
    peer.window_update(stream_id, MAX_WINDOW)


def empty_window_update(peer: CorePeer, stream_id: int) -> None:
    peer.window_update(stream_id, 0)


def data_after_the_end(peer: CorePeer, stream_id: int) -> None:
    peer.data(stream_id, b"x")


def headers_after_the_end(peer: CorePeer, stream_id: int) -> None:
    peer.headers(stream_id, [("x", "y")])


def bad_priority(peer: CorePeer, stream_id: int) -> None:
    peer.write_bytes(wire.frame(FrameType.PRIORITY, 0, stream_id, b"x"))


def depend_on_itself(peer: CorePeer, stream_id: int) -> None:
    peer.priority(stream_id, (stream_id, 16, False))


def cancel_and_go_on(peer: CorePeer, stream_id: int) -> None:
    peer.rst(stream_id)
    # A reset of its own and two that it provokes.
    peer.data(stream_id, b"x")
    peer.headers(stream_id, [("x", "y")])


@pytest.mark.parametrize(
    ("provoke", "each_costs"),
    [
        (overflow_window, 1),
        (empty_window_update, 1),
        (data_after_the_end, 1),
        (headers_after_the_end, 1),
        (bad_priority, 1),
        (depend_on_itself, 1),
        (cancel_and_go_on, 3),
    ],
)
def test_provoked_resets(provoke: object, each_costs: int) -> None:
    """Row 15: whatever makes us reset streams, it has the same budget."""
    assert callable(provoke)
    peer = greeted_peer(max_resets=30)
    for stream_id in range(1, 60 // each_costs, 2):
        peer.headers(stream_id)
        provoke(peer, stream_id)
        assert not peer.connection.failed
    peer.headers(99)
    provoke(peer, 99)
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


@pytest.mark.parametrize(
    "fields",
    [
        [("content-length", "5")],
        [("Upper", "1")],
        [("connection", "close")],
    ],
)
def test_malformed_requests_are_counted(fields: list[FieldInput]) -> None:
    peer = greeted_peer(max_resets=5)
    for stream_id in range(1, 11, 2):
        peer.headers(stream_id, extra=fields)
        peer.want_rst(stream_id, ErrorCode.PROTOCOL_ERROR)
    peer.headers(11, extra=fields)
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def test_resets_are_forgiven_with_time() -> None:
    peer = greeted_peer(max_resets=5, flood_interval=10)
    for stream_id in range(1, 101, 2):
        peer.now += 2.1
        peer.headers(stream_id)
        peer.rst(stream_id)
    peer.is_well()


def test_frames_on_a_stream_that_we_reset_are_dropped_for_as_long_as_they_come() -> None:
    """Rows 20 and 22: not one answer, not one byte of the window lost."""
    peer = greeted_peer(connection_window_size=70_000, max_resets=5)
    peer.headers(1, end_stream=False)
    peer.connection.reset(peer.stream(1), ErrorCodes.CANCEL)
    peer.want_rst(1, ErrorCode.CANCEL)
    peer.turn()
    for _ in range(500):
        peer.data(1, bytes(1_000), pad=255)
        assert [type(frame) for frame in peer.turn()] in ([], [WindowUpdateFrame])
        peer.headers(1, [("x", "y")])
    assert peer.turn() == []
    peer.is_well()


# -- floods ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        wire.settings_frame(),
        wire.settings_frame([(0x1000 + number, 1) for number in range(32)]),
        wire.ping_frame(),
        wire.priority_frame(9, (0, 1, False)),
        wire.priority_update_frame(9, "u=1"),
        wire.window_update_frame(0, 1),
        wire.window_update_frame(1, 1),
        wire.data_frame(1),
        wire.data_frame(1, pad=100),
        wire.data_frame(1, b"x") + wire.ping_frame(),
        wire.data_frame(1, b"x") + wire.ping_frame() + wire.ping_frame(),
    ],
)
def test_a_flood_of_a_peer_that_reads_nothing(frame: bytes) -> None:
    """Rows 6 and 7: the connection ends before 64 KB of answers have gathered."""
    peer = greeted_peer()
    peer.headers(1, end_stream=False)
    sent = 0
    while not peer.connection.failed:
        peer.write_bytes(frame)
        sent += 1
        assert sent <= 1_000
    assert len(peer.connection.bytes_to_send(0, 0.0)) < 65_536


def test_who_downloads_may_grant_windows_as_it_reads() -> None:
    peer = greeted_peer(max_control_frames=10)
    peer.headers(1)
    peer.respond(1, bytes(2_000_000))
    assert len(peer.response(1).body) == 2_000_000


@pytest.mark.parametrize("announced", [16_385, 2**24 - 1])
def test_an_oversize_frame_ends_the_connection_on_its_ninth_byte(
    peer: CorePeer, announced: int
) -> None:
    """Row 5."""
    peer.write_bytes(wire.frame(FrameType.DATA, 0, 1, length=announced))
    peer.want_fault(ErrorCode.FRAME_SIZE_ERROR)


def test_an_endless_header_block(peer: CorePeer) -> None:
    """Row 10."""
    peer.headers(1, block=bytes(9_000), split=16_000, end_headers=False)
    for _ in range(8):
        peer.write_bytes(wire.frame(FrameType.CONTINUATION, 0, 1, b"x"))
    assert not peer.connection.failed
    peer.write_bytes(wire.frame(FrameType.CONTINUATION, 0, 1, b"x"))
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def test_a_header_block_larger_than_any_list_we_take(peer: CorePeer) -> None:
    """Row 10: a literal of a megabyte is refused before it is decoded, or held."""
    literal = b"\x00\x01x" + b"\xff\x80\x80\x40" + bytes(100_000)
    peer.headers(1, block=literal)
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def test_another_frame_inside_a_header_block(peer: CorePeer) -> None:
    """Row 11."""
    peer.headers(1, end_headers=False)
    peer.ping()
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


def test_little_is_remembered_of_streams_that_are_closed(peer: CorePeer) -> None:
    """Row 33, as far as h2 is concerned: it would keep 65,536 of them."""
    h2 = peer.connection._h2
    for stream_id in range(1, 6_001, 2):
        peer.headers(stream_id)
        peer.respond(stream_id)
        peer.turn()
    assert len(h2.streams) + len(h2._closed_streams) < 1_100
