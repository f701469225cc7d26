"""What RFC 9113 demands of a server and no other test holds us to; RFC9113.rst is the list.

Numbers in the titles of sections are those of RFC 9113, unless another RFC is named.
"""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, SettingsFrame

from tests.support import wire
from tests.support.core import CorePeer, greeted_peer
from tests.support.wire import (
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    ErrorCode,
    FrameType,
    Setting,
)

RESERVED_BIT = 1 << 31


def integer(start: int, prefix: int, value: int) -> bytes:
    """A number as RFC 7541 section 5.1 writes it, in a byte that begins with ``start``."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes([start | value])
    coded = [start | limit]
    value -= limit
    while value >= 128:
        coded.append(0x80 | value % 128)
        value //= 128
    return bytes([*coded, value])


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 4.1, 5.5: what has no meaning --------------------------------------------------------


def reserved_bit_set(frame: bytes) -> bytes:
    return frame[:5] + bytes([frame[5] | 0x80]) + frame[6:]


def test_reserved_bits_mean_nothing(peer: CorePeer) -> None:
    block = peer.encode(peer.request_fields())
    peer.write_bytes(reserved_bit_set(wire.headers_frames(1, block, end_stream=False)))
    peer.write_bytes(reserved_bit_set(wire.data_frame(1, b"abc", end_stream=True)))
    peer.write_bytes(reserved_bit_set(wire.window_update_frame(1, RESERVED_BIT | 5)))
    peer.write_bytes(reserved_bit_set(wire.settings_frame()))
    peer.write_bytes(reserved_bit_set(wire.ping_frame(b"12345678")))
    peer.write_bytes(reserved_bit_set(wire.goaway_frame(RESERVED_BIT | 1)))
    assert peer.told(1) == ["started", "body", "ended"]
    assert [type(frame) for frame in peer.turn()] == [SettingsFrame, PingFrame]


@pytest.mark.parametrize(
    ("flags", "frame"),
    [
        (0xF6, wire.data_frame(1, b"abc")),
        (0x52, wire.headers_frames(1, b"\x00\x01a\x01b")),
        (0xFF, wire.priority_frame(1, (0, 16, False))),
        (0xFE, wire.settings_frame()),
        (0xFF, wire.goaway_frame()),
        (0xFF, wire.window_update_frame(1, 5)),
        (0xFF, wire.rst_stream_frame(1)),
    ],
    ids=lambda value: FrameType(value[3]).name if isinstance(value, bytes) else hex(value),
)
def test_flags_that_a_frame_does_not_define_mean_nothing(
    peer: CorePeer, flags: int, frame: bytes
) -> None:
    peer.headers(1, end_stream=False)
    other = greeted_peer()
    other.headers(1, end_stream=False)
    peer.write_bytes(frame[:4] + bytes([frame[4] | flags]) + frame[5:])
    other.write_bytes(frame)
    assert peer.take_events() == other.take_events()
    assert list(map(repr, peer.turn())) == list(map(repr, other.turn()))
    assert not peer.connection.failed


def test_unused_flags_of_a_continuation_mean_nothing(peer: CorePeer) -> None:
    block = peer.encode(peer.request_fields())
    peer.headers(1, block=block[:2], end_headers=False)
    peer.write_bytes(wire.frame(FrameType.CONTINUATION, 0xFF, 1, block[2:]))
    assert peer.told(1) == ["started", "ended"]
    peer.is_well()


@pytest.mark.parametrize("stream_id", [1, 3, 5])
def test_unknown_frames_on_streams_of_every_state(peer: CorePeer, stream_id: int) -> None:
    """Open, closed and idle ones."""
    peer.headers(1, end_stream=False)
    peer.headers(3)
    peer.respond(3)
    peer.response(3)
    peer.write_bytes(wire.frame(0x42, 0xFF, stream_id, b"anything"))
    peer.data(1, b"", end_stream=True)
    assert peer.told(1) == ["started", "ended"]
    peer.is_well()


def test_an_unknown_frame_inside_a_header_block(peer: CorePeer) -> None:
    peer.headers(1, end_headers=False)
    peer.write_bytes(wire.frame(0x42, 0, 1, b"anything"))
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


# -- 4.2: sizes -----------------------------------------------------------------------------


def test_frames_of_the_largest_size_are_taken(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.data(1, bytes(DEFAULT_FRAME_SIZE), end_stream=True)
    assert peer.handler.bodies[1] == bytes(DEFAULT_FRAME_SIZE)
    block = peer.encode(peer.request_fields())
    value = b"~" * (DEFAULT_FRAME_SIZE - len(block) - 6)
    block += b"\x00\x01x" + integer(0x00, 7, len(value)) + value
    assert len(block) == DEFAULT_FRAME_SIZE
    peer.headers(3, block=block)
    assert peer.handler.heads[3].fields == [(b"x", value)]


# -- 5.1: states ------------------------------------------------------------------------------


def test_a_header_block_without_an_end_on_a_half_closed_stream(peer: CorePeer) -> None:
    peer.headers(1)
    peer.headers(1, [("x", "y")], end_stream=False)
    peer.want_rst(1, ErrorCode.STREAM_CLOSED)
    peer.is_well()


def test_what_a_closed_stream_is_granted_is_no_error_even_when_it_is_too_much(
    peer: CorePeer,
) -> None:
    peer.headers(1)
    peer.respond(1)
    peer.response(1)
    peer.window_update(1, RESERVED_BIT - 1)
    peer.window_update(1, RESERVED_BIT - 1)
    assert peer.turn() == []
    peer.is_well()


def test_windows_of_streams_long_forgotten(peer: CorePeer) -> None:
    for stream_id in range(1, 4_001, 2):
        peer.headers(stream_id)
        peer.respond(stream_id)
        peer.turn()
    peer.window_update(1, 5)
    assert peer.turn() == []
    peer.is_well(4_001)


@pytest.mark.parametrize("code", [0x0E, 0xFFFF_FFFF])
def test_unknown_error_codes_are_like_others(peer: CorePeer, code: int) -> None:
    """7: of RST_STREAM; those of GOAWAY are in test_connection."""
    peer.headers(1)
    peer.rst(1, code)
    assert peer.told(1) == ["started", "ended", "aborted"]
    peer.is_well()


# -- 6.4: RST_STREAM ---------------------------------------------------------------------------


@pytest.mark.parametrize("leaving", [False, True])
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (wire.rst_stream_frame(2), ErrorCode.PROTOCOL_ERROR),
        (wire.rst_stream_frame(0), ErrorCode.PROTOCOL_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 1, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 99, b"abc"), ErrorCode.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.RST_STREAM, 0, 99, b"abcde"), ErrorCode.FRAME_SIZE_ERROR),
    ],
)
def test_a_reset_that_is_none(peer: CorePeer, leaving: bool, frame: bytes, code: int) -> None:
    """Nor is it while we leave, when resets of streams that never were are borne."""
    peer.headers(1)
    if leaving:
        peer.connection.announce_goaway(last=True)
        peer.turn()
    peer.write_bytes(frame)
    peer.want_fault(code)


def test_a_reset_of_a_request_that_was_never_sent_is_borne_while_we_leave(peer: CorePeer) -> None:
    """6.8: nghttp2 does so, and the streams that run are not to pay for it."""
    peer.headers(1)
    peer.connection.announce_goaway(last=True)
    peer.turn()
    peer.rst(99)
    peer.respond(1, b"x")
    assert peer.response(1).body == b"x"


@pytest.mark.parametrize(
    "frame",
    [
        wire.frame(FrameType.PRIORITY, 0, 5, bytes(4)),
        wire.priority_frame(5, (5, 16, False)),
        wire.window_update_frame(5, 0),
        wire.window_update_frame(5, RESERVED_BIT - 1),
        wire.data_frame(5, b"abc", end_stream=True),
    ],
)
def test_an_idle_stream_is_never_reset(peer: CorePeer, frame: bytes) -> None:
    peer.headers(1)
    peer.write_bytes(frame)
    assert [type(each) for each in peer.turn()] == [GoAwayFrame]


# -- 6.5, RFC 7541 4.2: SETTINGS ------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([0, 4_096], [0, 4_096]),
        ([0, 100, 20], [0, 20]),
        ([2**20, 30, 2**20], [30, 4_096]),
        ([4_096, 4_096], []),
    ],
)
def test_the_smallest_table_size_counts_within_one_frame_too(
    peer: CorePeer, asked: list[int], told: list[int]
) -> None:
    peer.settings([(Setting.HEADER_TABLE_SIZE, size) for size in asked])
    peer.headers(1)
    peer.respond(1)
    (head,) = [frame for frame in peer.turn() if isinstance(frame, HeadersFrame)]
    assert head.data == b"".join(integer(0x20, 5, size) for size in told) + b"\x88"


def test_settings_apply_before_they_are_acknowledged(peer: CorePeer) -> None:
    """And to the frames that follow: the smaller frames, and the larger window."""
    peer.settings({Setting.INITIAL_WINDOW_SIZE: 10, Setting.MAX_FRAME_SIZE: 20_000})
    peer.headers(1)
    peer.respond(1, bytes(30_000))
    peer.turn()
    peer.settings({Setting.INITIAL_WINDOW_SIZE: 30_000, Setting.MAX_FRAME_SIZE: 16_384})
    ack, *rest = peer.turn()
    assert isinstance(ack, SettingsFrame)
    sizes = [len(frame.data) for frame in rest if isinstance(frame, DataFrame)]
    assert sizes == [16_384, 30_000 - 10 - 16_384]


# -- 6.7: PING ---------------------------------------------------------------------------------


def test_the_ack_of_a_ping_is_not_answered(peer: CorePeer) -> None:
    peer.ping(b"whatever", ack=True)
    assert peer.turn() == []


# -- 6.8: GOAWAY -------------------------------------------------------------------------------


def test_what_comes_after_our_goaway_counts_for_hpack_and_the_window() -> None:
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW)
    peer.headers(1, end_stream=False)
    peer.connection.announce_goaway(last=True)
    for stream_id in range(3, 23, 2):
        peer.headers(stream_id, extra=[("x-late", "1")], end_stream=False)
        peer.data(stream_id, bytes(DEFAULT_FRAME_SIZE))
        peer.turn()
        # All of it is given back, so that the stream that goes on is not held up.
        assert peer.send_window(0) > DEFAULT_WINDOW // 2
    peer.headers(1, [("x-late", "1")])
    assert peer.take_events()[-1] == ("ended", 1, [(b"x-late", b"1")])
    assert not peer.connection.failed


def test_we_open_no_stream_after_a_goaway_of_the_peer(peer: CorePeer) -> None:
    """Nor before: server push is not implemented."""
    peer.headers(1)
    peer.goaway()
    peer.respond(1, b"x")
    assert {frame.stream_id for frame in peer.turn()} == {1}


# -- 6.9: windows -------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_data_in_error_counts_for_the_window_of_the_connection(late: bool) -> None:
    """On streams that have ended, and after a reset of ours."""
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW, max_resets=1_000)
    for stream_id in range(1, 41, 2):
        peer.headers(stream_id, end_stream=not late)
        if late:
            peer.connection.reset(peer.stream(stream_id), ErrorCodes.CANCEL)
        peer.data(stream_id, bytes(10_000), pad=100)
        peer.turn()
        assert peer.send_window(0) > DEFAULT_WINDOW // 2
    peer.is_well()


def test_an_end_without_data_needs_no_window_of_ours() -> None:
    peer = greeted_peer(initial_window_size=10)
    peer.headers(1, end_stream=False)
    peer.data(1, bytes(10))
    peer.data(1, b"", end_stream=True)
    assert peer.told(1) == ["started", "body", "ended"]


def test_what_is_no_data_needs_no_window() -> None:
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW)
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW)
    peer.headers(3)
    assert peer.told(3) == ["started", "ended"]
    peer.headers(1, [("x-sum", "1")])
    peer.ping(b"12345678")
    peer.want(PingFrame, ack=True)


# -- 6.10: CONTINUATION ----------------------------------------------------------------------


@pytest.mark.parametrize("stream_id", [0, 1, 3, 5])
def test_a_continuation_of_nothing(peer: CorePeer, stream_id: int) -> None:
    """On the connection, and on streams that are open, closed and idle."""
    peer.headers(1, end_stream=False, split=3)
    peer.headers(3)
    peer.rst(3)
    peer.write_bytes(wire.frame(FrameType.CONTINUATION, 0x4, stream_id, b"\x82"))
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


# -- 8: messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["head", "trailers"])
def test_no_name_has_a_forbidden_byte(place: str) -> None:
    """Wherever in the name: only a pseudo-header field begins with a colon."""
    peer = greeted_peer(max_resets=10_000)
    forbidden = [*range(0x21), *range(0x41, 0x5B), 0x3A, *range(0x7F, 0x100)]
    names = [name % byte for byte in forbidden for name in (b"a%c", b"a%ca", b"%ca")]
    for number, name in enumerate(names):
        stream_id = 2 * number + 1
        if place == "head":
            peer.headers(stream_id, extra=[(name, b"1")], end_stream=False)
        else:
            peer.headers(stream_id, end_stream=False)
            peer.headers(stream_id, [(name, b"1")])
        peer.want_rst(stream_id, ErrorCode.PROTOCOL_ERROR)
        assert "ended" not in peer.told(stream_id)
    peer.is_well(10_001)


@pytest.mark.parametrize("name", [":authority", ":method", ":scheme", ":path", "x"])
@pytest.mark.parametrize("value", ["\0", "a\nb", "a\r", " a", "a\t"])
def test_no_value_has_a_forbidden_byte(peer: CorePeer, name: str, value: str) -> None:
    fields = [(key, value if key == name else old) for key, old in peer.request_fields()]
    peer.headers(1, [*fields, ("x", value if name == "x" else "1")])
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    assert peer.told(1) == []
    peer.is_well()


# -- RFC 7541: HPACK --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x00\x01a\x82\x1f\xff", id="5.2: Huffman padding of more than 7 bits"),
        pytest.param(b"\x00\x01a\x81\x18", id="5.2: Huffman padding that is not of EOS"),
        pytest.param(b"\x00\x01a\x84\xff\xff\xff\xff", id="5.2: Huffman EOS"),
        pytest.param(b"\x7f" + b"\x80" * 20 + b"\x01", id="5.1: an integer too long"),
        pytest.param(b"\x80", id="6.1: index 0"),
        pytest.param(b"\xbe", id="2.3.3: an index beyond the table"),
        pytest.param(b"\x3f\xe2\x1f", id="6.3: a table larger than was offered"),
        pytest.param(b"\x82\x20", id="4.2: a size update after a field"),
    ],
)
def test_a_block_that_hpack_forbids(peer: CorePeer, block: bytes) -> None:
    peer.headers(1, block=block)
    peer.want_fault(ErrorCode.COMPRESSION_ERROR)


def test_an_entry_larger_than_the_table_empties_it(peer: CorePeer) -> None:
    """RFC 7541 section 4.4: it is no error, but nothing is left that could be referred to."""
    peer.headers(1, extra=[("x-small", "1")])
    peer.headers(3, extra=[("x-large", "~" * 5_000)])
    assert peer.told(3) == ["started", "ended"]
    peer.headers(5, block=b"\xbe")
    peer.want_fault(ErrorCode.COMPRESSION_ERROR)


# -- RFC 9218: priorities ---------------------------------------------------------------------


@pytest.mark.parametrize("stream_id", [0, 2, RESERVED_BIT - 2])
def test_a_priority_of_a_stream_that_no_client_opens(peer: CorePeer, stream_id: int) -> None:
    """7.1: nothing is pushed, so every stream of ours is idle."""
    peer.priority_update(stream_id, "u=1")
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)
