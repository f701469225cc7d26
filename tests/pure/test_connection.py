"""One connection as a whole: prefaces, frames, header blocks, ids, and its end.

Numbers in the titles of sections are those of RFC 9113.
"""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    GoAwayFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support import wire
from tests.support.core import CorePeer, greeted_peer
from tests.support.wire import DEFAULT_WINDOW, PREFACE, ErrorCode, Flag, FrameType, Setting

MAX_STREAM_ID = 2**31 - 1


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 3.4, 6.5: the prefaces ------------------------------------------------------------


def test_our_settings_come_first_and_then_the_connection_window() -> None:
    peer = CorePeer(
        max_concurrent_streams=7,
        initial_window_size=50_000,
        max_frame_size=20_000,
        max_header_list_size=9_000,
        connection_window_size=100_000,
    )
    settings, window = peer.turn()
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {
        Setting.MAX_CONCURRENT_STREAMS: 7,
        Setting.INITIAL_WINDOW_SIZE: 50_000,
        Setting.MAX_FRAME_SIZE: 20_000,
        Setting.MAX_HEADER_LIST_SIZE: 9_000,
    }
    assert isinstance(window, WindowUpdateFrame)
    assert (window.stream_id, window.window_increment) == (0, 100_000 - DEFAULT_WINDOW)


def test_a_connection_window_of_the_default_size_needs_no_frame() -> None:
    assert len(CorePeer(connection_window_size=DEFAULT_WINDOW).turn()) == 1


def test_the_preface_may_come_in_pieces() -> None:
    peer = CorePeer()
    for byte in PREFACE + wire.settings_frame():
        peer.write_bytes(bytes([byte]))
    peer.want(SettingsFrame, ack=False)
    peer.want(SettingsFrame, ack=True)
    peer.is_well()


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", PREFACE[:-1] + b"x", b"\x16\x03\x01"])
def test_something_else_than_the_preface(sent: bytes) -> None:
    peer = CorePeer()
    peer.write_bytes(sent)
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


def test_the_ack_of_our_settings_is_noted() -> None:
    peer = CorePeer().greet(ack=False)
    assert not peer.connection.settings_acknowledged
    peer.settings(ack=True)
    assert peer.connection.settings_acknowledged


def test_acks_that_nobody_asked_for() -> None:
    peer = greeted_peer()
    peer.settings(ack=True)
    peer.is_well()


# -- 4.1, 5.5: frames in general -------------------------------------------------------


@pytest.mark.parametrize("frame_type", [0x0A, 0x0C, 0x11, 0x42, 0xFF])
@pytest.mark.parametrize("stream_id", [0, 1, 2, 99])
def test_frames_of_unknown_types_are_ignored(
    peer: CorePeer, frame_type: int, stream_id: int
) -> None:
    peer.write_bytes(wire.frame(frame_type, 0xFF, stream_id, b"anything"))
    peer.is_well()


def test_flags_that_mean_nothing_are_ignored(peer: CorePeer) -> None:
    peer.write_bytes(wire.frame(FrameType.PING, 0xFE, 0, bytes(8)))
    peer.want(PingFrame, ack=True)
    peer.write_bytes(wire.frame(FrameType.WINDOW_UPDATE, 0xFF, 0, struct.pack(">I", 5)))
    peer.is_well()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.frame(FrameType.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.HEADERS, Flag.END_HEADERS, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.HEADERS, 0, 0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.SETTINGS, Flag.ACK, 1), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.PUSH_PROMISE, 4, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.CONTINUATION, 4, 1, b"\x82"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.PRIORITY_UPDATE, 0, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.PRIORITY_UPDATE, 0, 0, bytes(4)), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 1, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.SETTINGS, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.SETTINGS, Flag.ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.PING, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.PING, 0, 0, bytes(9)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.GOAWAY, 0, 0, bytes(7)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.WINDOW_UPDATE, 0, 1, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.PRIORITY_UPDATE, 0, 0, bytes(3)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.HEADERS, 0x20, 3, bytes(4)), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.DATA, Flag.PADDED, 1), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.DATA, Flag.PADDED, 1, b"\x01"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.DATA, Flag.PADDED, 1, b"\xffabc"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.HEADERS, 4 | 8, 3, b"\x05\x82"), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.HEADERS, 4 | 8 | 0x20, 3, bytes([9, *bytes(6)])),
         ErrorCode.PROTOCOL_ERROR),
    ],
)  # fmt: skip
def test_frames_that_end_the_connection(peer: CorePeer, frame: bytes, code: int) -> None:
    peer.headers(1, end_stream=False)
    peer.write_bytes(frame)
    peer.want_fault(code)


def test_goaway_tells_which_requests_were_seen(peer: CorePeer) -> None:
    peer.headers(5)
    peer.data(0, b"x")
    assert peer.want_goaway().last_stream_id == 5


def test_what_was_owed_before_the_fault_is_sent_before_goaway(peer: CorePeer) -> None:
    with peer.one_write():
        peer.ping(b"12345678")
        peer.headers(1, extra=[("Bad", "1")])
        peer.data(0, b"x")
    ack, reset, goaway = peer.turn()
    assert isinstance(ack, PingFrame)
    assert isinstance(reset, RstStreamFrame)
    assert isinstance(goaway, GoAwayFrame)


def test_after_a_fault_nothing_is_read_or_written(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.data(1, b"x")
    peer.data(0, b"x")
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)
    peer.take_events()
    peer.headers(3)
    peer.respond(1, b"x")
    peer.read_body(1)
    peer.connection.ping(b"12345678")
    peer.connection.announce_goaway(last=True)
    peer.connection.fail(ErrorCodes.SETTINGS_TIMEOUT)
    peer.connection.reset(peer.stream(1), ErrorCodes.INTERNAL_ERROR)
    assert peer.take_events() == []
    assert peer.connection.bytes_to_send(peer.room, 0.0) == b""


def test_the_session_may_end_the_connection(peer: CorePeer) -> None:
    peer.connection.fail(ErrorCodes.SETTINGS_TIMEOUT)
    peer.want_fault(ErrorCode.SETTINGS_TIMEOUT)


# -- 4.3, 6.2, 6.10: header blocks -----------------------------------------------------


@pytest.mark.parametrize("pad", [None, 0, 200])
@pytest.mark.parametrize("priority", [None, (0, 1, False), (99, 256, True)])
@pytest.mark.parametrize("split", [None, 20])
def test_a_block_in_every_wrapping(
    peer: CorePeer, pad: int | None, priority: wire.PriorityValues | None, split: int | None
) -> None:
    peer.headers(1, path="/a/b/c", extra=[("x", "y" * 60)], pad=pad, priority=priority, split=split)
    assert peer.take_events() == [("started", 1), ("ended", 1, [])]
    assert peer.handler.heads[1].path == b"/a/b/c"
    assert peer.handler.heads[1].fields == [(b"x", b"y" * 60)]
    peer.is_well()


def test_a_stream_that_depends_on_itself_is_no_error_in_headers(peer: CorePeer) -> None:
    """RFC 9113 section 5.3.2: what is signalled this way is ignored."""
    peer.headers(1, priority=(1, 16, False))
    peer.is_well()


@pytest.mark.parametrize(
    "block",
    [
        b"\x20\x20\x20\x82\x86\x84\x01\x01a",
        b"\xbe",
        b"\x82\x00\x05ab",
        b"\x82\x3f\xe2\x1f",
    ],
)
@pytest.mark.parametrize("split", [None, 1])
def test_a_block_that_cannot_be_decoded(peer: CorePeer, block: bytes, split: int | None) -> None:
    peer.headers(1, block=block, split=split)
    peer.want_fault(ErrorCode.COMPRESSION_ERROR)


def test_fields_of_refused_and_of_late_blocks_still_count_for_hpack() -> None:
    peer = greeted_peer(max_concurrent_streams=1)
    peer.headers(1, end_stream=False)
    peer.headers(3, extra=[("x-refused", "1")])
    peer.want_rst(3, ErrorCode.REFUSED_STREAM)
    peer.respond(1)
    peer.response(1)
    peer.headers(1, [("x-late", "1")])
    peer.headers(5, extra=[("bad name", "1")])
    peer.want_rst(5, ErrorCode.PROTOCOL_ERROR)
    peer.headers(7, extra=[("x-refused", "1"), ("x-late", "1"), ("x-new", "1")])
    names = [name for name, _ in peer.handler.heads[7].fields]
    assert names == [b"x-refused", b"x-late", b"x-new"]


# -- 5.1.1, 5.1.2: ids and numbers of streams ------------------------------------------


def test_the_last_stream_there_can_be(peer: CorePeer) -> None:
    peer.headers(MAX_STREAM_ID)
    peer.respond(MAX_STREAM_ID, b"x")
    assert peer.response(MAX_STREAM_ID).body == b"x"


@pytest.mark.parametrize("ack", [False, True])
def test_one_stream_too_many(ack: bool) -> None:
    """Whether or not the peer has seen our limit yet (row 16)."""
    peer = CorePeer(max_concurrent_streams=2).greet(ack=ack)
    for stream_id in (1, 3, 5):
        peer.headers(stream_id, end_stream=False)
    peer.want_rst(5, ErrorCode.REFUSED_STREAM)
    assert peer.told(5) == []
    # What it sent before it could know is dropped.
    peer.data(5, b"abc")
    peer.rst(3)
    peer.is_well()


def test_refused_streams_are_counted() -> None:
    peer = greeted_peer(max_concurrent_streams=1, max_resets=10)
    peer.headers(1)
    for stream_id in range(3, 23, 2):
        peer.headers(stream_id)
    assert not peer.connection.failed
    peer.headers(23)
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def test_a_finished_stream_makes_room() -> None:
    peer = greeted_peer(max_concurrent_streams=1)
    for stream_id in range(1, 1_001, 2):
        peer.is_well(stream_id)


# -- 6.7: PING -------------------------------------------------------------------------


def test_a_ping_is_answered(peer: CorePeer) -> None:
    peer.ping(b"abcdefgh")
    assert peer.want(PingFrame, ack=True).opaque_data == b"abcdefgh"


def test_our_ping_and_its_answer(peer: CorePeer) -> None:
    peer.connection.ping(b"question")
    assert peer.want(PingFrame, ack=False).opaque_data == b"question"
    peer.ping(b"question", ack=True)
    assert peer.take_events() == [("pong", b"question")]


# -- 6.8: GOAWAY -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR, 0xFFFF])
def test_a_goaway_from_the_peer_lets_what_was_begun_end(peer: CorePeer, code: int) -> None:
    """Row 31."""
    peer.headers(1)
    peer.goaway(0, code, debug=b"bye")
    assert peer.connection.peer_going_away
    peer.respond(1, bytes(100_000), end=False)
    peer.turn()
    peer.window_update(0, 100_000)
    peer.window_update(1, 100_000)
    peer.connection.responses.end(peer.stream(1), [])
    assert "END_STREAM" in peer.turn()[-1].flags
    assert not peer.connection.failed


def test_leaving_in_two_steps(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.connection.announce_goaway(last=False)
    assert peer.want_goaway(ErrorCode.NO_ERROR).last_stream_id == MAX_STREAM_ID
    peer.headers(3)
    peer.connection.announce_goaway(last=True)
    assert peer.want_goaway(ErrorCode.NO_ERROR).last_stream_id == 3
    peer.headers(5)
    peer.want_rst(5, ErrorCode.REFUSED_STREAM)
    assert peer.told(5) == []
    for stream_id in (1, 3):
        peer.respond(stream_id, b"served")
        assert peer.response(stream_id).body == b"served"


def test_the_last_stream_is_never_raised(peer: CorePeer) -> None:
    """Not by streams that were refused, whether we leave in peace or not."""
    peer.headers(1)
    peer.connection.announce_goaway(last=True)
    peer.headers(3)
    peer.connection.announce_goaway(last=True)
    peer.data(0, b"x")
    goaways = [frame for frame in peer.turn() if isinstance(frame, GoAwayFrame)]
    assert [frame.last_stream_id for frame in goaways] == [1, 1, 1]
