"""The gate in front of h2: how bytes become frames, and which frames do not pass."""

from __future__ import annotations

import itertools

import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.frames import ConnectionFault, Frame
from gunicorn_h2.guard import MAX_CONTINUATIONS, Guard
from gunicorn_h2.limits import Budget
from tests.support import wire
from tests.support.wire import Flag, FrameType

MAX_FRAME = 16_384
MAX_BLOCK = 1_000
CONTROL, EMPTY_DATA, INTERVAL = 20, 5, 10.0

SETTINGS = wire.settings_frame()
PING = wire.ping_frame()


def make_guard(max_block_size: int = MAX_BLOCK) -> Guard:
    return Guard(
        MAX_FRAME,
        max_block_size,
        Budget(CONTROL, INTERVAL, 0.0),
        Budget(EMPTY_DATA, INTERVAL, 0.0),
    )


def greeted(max_block_size: int = MAX_BLOCK) -> Guard:
    guard = make_guard(max_block_size)
    assert list(guard.frames(SETTINGS, 0.0))
    return guard


def pass_all(guard: Guard, data: bytes, now: float = 0.0) -> list[bytes]:
    return [frame.raw for frame in guard.frames(data, now)]


def fault(guard: Guard, data: bytes, now: float = 0.0) -> ErrorCodes:
    with pytest.raises(ConnectionFault) as caught:
        pass_all(guard, data, now)
    return caught.value.code


def header(frame_type: int, length: int, stream_id: int = 0, flags: int = 0) -> bytes:
    """A frame header that announces a payload which never comes."""
    return wire.frame(frame_type, flags, stream_id, length=length)


# -- bytes into frames --------------------------------------------------------------


def test_a_frame_has_its_header_fields() -> None:
    raw = wire.data_frame(2**31 - 1, b"abc", end_stream=True)
    frames = list(greeted().frames(raw, 0.0))
    assert frames == [Frame(FrameType.DATA, Flag.END_STREAM, 2**31 - 1, b"abc")]
    assert frames[0].raw == raw


def test_the_reserved_bit_of_a_stream_id_is_ignored() -> None:
    raw = wire.frame(FrameType.DATA, 0, 2**31 + 5, b"x")
    assert [frame.stream_id for frame in greeted().frames(raw, 0.0)] == [5]


@given(st.lists(st.binary(max_size=30), max_size=8), st.lists(st.integers(0, 300), max_size=10))
def test_frames_come_out_whole_wherever_the_bytes_are_cut(
    payloads: list[bytes], cuts: list[int]
) -> None:
    sent = [SETTINGS, *(wire.frame(0x42, 7, 3, payload) for payload in payloads)]
    data = b"".join(sent)
    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    guard = make_guard()
    came = [
        raw for start, end in itertools.pairwise(marks) for raw in pass_all(guard, data[start:end])
    ]
    assert came == sent


def test_what_came_before_a_fault_stands() -> None:
    frames = greeted().frames(PING + wire.frame(FrameType.CONTINUATION, 0, 1) + PING, 0.0)
    assert next(frames).raw == PING
    with pytest.raises(ConnectionFault):
        next(frames)


# -- refused on the ninth byte ------------------------------------------------------


@pytest.mark.parametrize("length", [MAX_FRAME + 1, 2**24 - 1])
def test_an_oversize_frame(length: int) -> None:
    guard = greeted()
    announced = header(FrameType.DATA, length, 1)
    assert pass_all(guard, announced[:8]) == []
    assert fault(guard, announced[8:]) is ErrorCodes.FRAME_SIZE_ERROR


def test_the_largest_frame_passes() -> None:
    raw = wire.data_frame(1, bytes(MAX_FRAME))
    assert pass_all(greeted(), raw) == [raw]


@pytest.mark.parametrize(
    "first",
    [
        wire.settings_frame(ack=True),
        PING,
        header(FrameType.HEADERS, 50, 1),
        header(FrameType.DATA, 50, 1),
        header(0x42, 50),
    ],
)
def test_the_first_frame_is_not_settings(first: bytes) -> None:
    assert fault(make_guard(), first[:9]) is ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize("frame_type", [FrameType.PUSH_PROMISE, FrameType.CONTINUATION])
def test_frames_that_no_client_may_send_here(frame_type: int) -> None:
    assert fault(greeted(), header(frame_type, 50, 1)) is ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize(
    "intruder",
    [
        header(FrameType.DATA, 1, 1),
        header(FrameType.HEADERS, 1, 1),
        header(FrameType.CONTINUATION, 1, 3),
        header(FrameType.PING, 8),
        header(FrameType.SETTINGS, 0),
        header(FrameType.WINDOW_UPDATE, 4, 1),
        header(0x42, 1, 1),
    ],
)
@pytest.mark.parametrize("continued", [False, True])
def test_another_frame_inside_a_header_block(intruder: bytes, continued: bool) -> None:
    guard = greeted()
    pass_all(guard, wire.headers_frames(1, b"a", end_headers=False))
    if continued:
        pass_all(guard, wire.frame(FrameType.CONTINUATION, 0, 1, b"b"))
    assert fault(guard, intruder) is ErrorCodes.PROTOCOL_ERROR


# -- header blocks ------------------------------------------------------------------


def test_a_block_of_as_many_continuations_as_are_taken() -> None:
    guard = greeted()
    block = wire.headers_frames(1, bytes(MAX_CONTINUATIONS + 1), split=1)
    assert len(pass_all(guard, block)) == MAX_CONTINUATIONS + 1
    assert pass_all(guard, PING) == [PING]


def test_one_continuation_more() -> None:
    block = wire.headers_frames(1, bytes(MAX_CONTINUATIONS + 2), split=1)
    assert fault(greeted(), block) is ErrorCodes.ENHANCE_YOUR_CALM


def test_continuations_without_anything_in_them() -> None:
    guard = greeted()
    pass_all(guard, wire.headers_frames(1, b"", end_headers=False))
    flood = wire.frame(FrameType.CONTINUATION, 0, 1) * (MAX_CONTINUATIONS + 1)
    assert fault(guard, flood) is ErrorCodes.ENHANCE_YOUR_CALM


def test_a_block_of_the_largest_size() -> None:
    guard = greeted()
    assert len(pass_all(guard, wire.headers_frames(1, bytes(MAX_BLOCK), split=600))) == 2
    assert len(pass_all(guard, wire.headers_frames(1, bytes(MAX_BLOCK)))) == 1


@pytest.mark.parametrize("split", [None, 600])
def test_a_block_of_a_byte_more(split: int | None) -> None:
    block = wire.headers_frames(1, bytes(MAX_BLOCK + 1), split=split)
    assert fault(greeted(), block) is ErrorCodes.ENHANCE_YOUR_CALM


def test_blocks_do_not_add_up() -> None:
    guard = greeted()
    for stream_id in range(1, 101, 2):
        assert pass_all(guard, wire.headers_frames(stream_id, bytes(MAX_BLOCK), split=300))


def test_when_a_block_began() -> None:
    guard = greeted()
    assert guard.block_started is None
    pass_all(guard, wire.headers_frames(1, b"a", end_headers=False), now=5.0)
    assert guard.block_started == 5.0
    pass_all(guard, wire.frame(FrameType.CONTINUATION, 0, 1, b"b"), now=6.0)
    assert guard.block_started == 5.0
    pass_all(guard, wire.frame(FrameType.CONTINUATION, Flag.END_HEADERS, 1), now=7.0)
    assert guard.block_started is None


@pytest.mark.parametrize("end_headers", [False, True])
def test_a_block_that_comes_a_byte_at_a_time_began_with_its_frame_header(
    end_headers: bool,
) -> None:
    guard = greeted()
    frame = wire.headers_frames(1, b"abcdef", end_headers=end_headers)
    for now, start in enumerate(range(len(frame) - 1)):
        pass_all(guard, frame[start : start + 1], now=float(now))
        assert guard.block_started == (8.0 if now >= 8 else None)
    pass_all(guard, frame[-1:], now=99.0)
    assert guard.block_started == (None if end_headers else 8.0)


def test_no_block_began_with_a_frame_of_another_kind() -> None:
    guard = greeted()
    pass_all(guard, header(FrameType.DATA, 50, 1) + b"x")
    assert guard.block_started is None


# -- floods -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        SETTINGS,
        wire.settings_frame(ack=True),
        PING,
        wire.ping_frame(ack=True),
        wire.priority_frame(1, (0, 1, False)),
        wire.window_update_frame(0, 1),
        wire.rst_stream_frame(1),
        wire.priority_update_frame(1, "u=1"),
        wire.goaway_frame(),
        wire.frame(0x42, 0, 0),
    ],
    ids=lambda frame: f"type-{frame[3]:#x}-flags-{frame[4]}",
)
def test_a_flood_of_control_frames(frame: bytes) -> None:
    guard = greeted()
    # The greeting has taken one already.
    assert len(pass_all(guard, frame * (CONTROL - 1))) == CONTROL - 1
    assert fault(guard, frame) is ErrorCodes.ENHANCE_YOUR_CALM


def test_control_frames_at_a_bearable_rate() -> None:
    guard = greeted()
    for second in range(1, 200):
        assert pass_all(guard, PING, now=second * INTERVAL / CONTROL)


def test_data_does_not_excuse_control_frames() -> None:
    """It costs the peer nothing, and each PING has an answer that is to be kept."""
    flood = (wire.data_frame(1, b"x") + PING) * CONTROL
    assert fault(greeted(), flood) is ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize("pad", [None, 0, 200])
def test_a_flood_of_empty_data(pad: int | None) -> None:
    guard = greeted()
    empty = wire.data_frame(1, b"", pad=pad)
    assert len(pass_all(guard, empty * EMPTY_DATA)) == EMPTY_DATA
    assert fault(guard, empty) is ErrorCodes.ENHANCE_YOUR_CALM


def test_padding_flagged_where_there_is_no_payload_is_empty_data() -> None:
    empty = wire.frame(FrameType.DATA, Flag.PADDED, 1)
    assert fault(greeted(), empty * (EMPTY_DATA + 1)) is ErrorCodes.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    "frame",
    [
        wire.data_frame(1, b"x"),
        wire.data_frame(1, b"x", pad=255),
        wire.data_frame(1, b"", end_stream=True),
        wire.data_frame(1, b"", end_stream=True, pad=9),
        wire.headers_frames(1, b"x"),
    ],
)
def test_frames_that_are_no_flood(frame: bytes) -> None:
    assert len(pass_all(greeted(), frame * 200)) == 200


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_any_bytes_are_frames_or_a_fault(parts: list[bytes]) -> None:
    guard = greeted()
    try:
        for part in parts:
            for frame in guard.frames(part, 0.0):
                assert len(frame.payload) == int.from_bytes(frame.raw[:3], "big")
    except ConnectionFault as caught:
        assert caught.code is not ErrorCodes.NO_ERROR
