"""What is read from frames, and the rewrites that some undergo before h2 sees them."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import Frame as ParsedFrame
from hyperframe.frame import SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.frames import (
    HEADER_LENGTH,
    ConnectionFault,
    Frame,
    block_fragment,
    known_settings,
    unpadded,
)
from tests.support import wire
from tests.support.wire import Flag, FrameType, Setting


def frame(raw: bytes) -> Frame:
    """The frame as the guard would cut it out."""
    stream_id = int.from_bytes(raw[5:9], "big")
    return Frame(raw[3], raw[4], stream_id, raw[HEADER_LENGTH:])


def parsed(raw: bytes) -> ParsedFrame:
    made, length = ParsedFrame.parse_frame_header(memoryview(raw[:HEADER_LENGTH]))
    assert length == len(raw) - HEADER_LENGTH
    made.parse_body(memoryview(raw[HEADER_LENGTH:]))
    return made


def settings_of(raw: bytes) -> dict[int, int]:
    made = parsed(raw)
    assert isinstance(made, SettingsFrame)
    return dict(made.settings)


def known(raw: bytes) -> bytes:
    """What h2 gets to see of a SETTINGS frame."""
    return known_settings(frame(raw))[0]


def fault(call: object, *arguments: object) -> ErrorCodes:
    assert callable(call)
    with pytest.raises(ConnectionFault) as caught:
        call(*arguments)
    assert str(caught.value) == caught.value.reason
    return caught.value.code


def test_a_frame_knows_its_bytes() -> None:
    raw = wire.data_frame(2**31 - 1, b"12345678", pad=3)
    assert frame(raw).raw == raw


# -- padding and priority -----------------------------------------------------------

PRIORITIES = st.none() | st.just((3, 256, True))


@given(st.binary(max_size=50), st.none() | st.integers(0, 255), PRIORITIES)
def test_a_headers_frame_loses_its_padding_and_its_priority(
    block: bytes, pad: int | None, priority: wire.PriorityValues | None
) -> None:
    raw = wire.headers_frames(7, block, pad=pad, priority=priority)
    assert block_fragment(frame(raw)) == block


@given(st.binary(max_size=50), st.none() | st.integers(0, 255))
def test_a_data_frame_loses_its_padding(data: bytes, pad: int | None) -> None:
    assert unpadded(frame(wire.data_frame(7, data, pad=pad))) == data


@pytest.mark.parametrize("payload", [b"\x01", b"\x05abcd", b"\xff" + bytes(254)])
@pytest.mark.parametrize("read", [unpadded, block_fragment])
def test_more_padding_than_there_is(read: Callable[[Frame], bytes], payload: bytes) -> None:
    padded = Frame(FrameType.HEADERS, Flag.PADDED, 1, payload)
    assert fault(read, padded) is ErrorCodes.PROTOCOL_ERROR


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        (Flag.PRIORITY, b""),
        (Flag.PRIORITY, bytes(4)),
        (Flag.PADDED, b""),
        (Flag.PRIORITY | Flag.PADDED, b""),
        (Flag.PRIORITY | Flag.PADDED, bytes(5)),
        (Flag.PRIORITY | Flag.PADDED, b"\x01" + bytes(5)),
    ],
)
def test_a_headers_frame_too_short_for_what_its_flags_say(flags: Flag, payload: bytes) -> None:
    headers = Frame(FrameType.HEADERS, flags, 1, payload)
    assert fault(block_fragment, headers) is ErrorCodes.FRAME_SIZE_ERROR


# -- SETTINGS ---------------------------------------------------------------------


def test_settings_that_h2_knows_pass() -> None:
    values = {
        Setting.HEADER_TABLE_SIZE: 100,
        Setting.ENABLE_PUSH: 0,
        Setting.MAX_CONCURRENT_STREAMS: 2**32 - 1,
        Setting.INITIAL_WINDOW_SIZE: 2**31,
        Setting.MAX_FRAME_SIZE: 5,
        Setting.MAX_HEADER_LIST_SIZE: 7,
    }
    raw = wire.settings_frame(values)
    assert known(raw) == raw


def test_settings_that_nobody_acts_upon_are_left_out() -> None:
    pairs = [(0, 1), (7, 1), (8, 1), (9, 1), (0xFFFF, 2**32 - 1), (4, 5)]
    assert settings_of(known(wire.settings_frame(pairs))) == {4: 5}


def test_of_a_setting_that_comes_twice_the_last_counts() -> None:
    raw = wire.settings_frame([(4, 1), (3, 9), (4, 2)])
    assert settings_of(known(raw)) == {4: 2, 3: 9}


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (4_096, 4_096), (2**32 - 1, 4_096)])
def test_the_encoder_table_is_capped(asked: int, given: int) -> None:
    raw = wire.settings_frame({Setting.HEADER_TABLE_SIZE: asked})
    assert settings_of(known(raw)) == {Setting.HEADER_TABLE_SIZE: given}


@pytest.mark.parametrize(
    ("pairs", "smallest"),
    [([(1, 9_000), (4, 5), (1, 10), (1, 4_096)], 10), ([(1, 9_000)], 9_000), ([(4, 5)], None)],
)
def test_the_smallest_table_size_is_told(
    pairs: list[tuple[int, int]], smallest: int | None
) -> None:
    assert known_settings(frame(wire.settings_frame(pairs)))[1] == smallest


def test_an_ack_passes_as_it_is() -> None:
    raw = wire.settings_frame(ack=True)
    assert known_settings(frame(raw)) == (raw, None)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (wire.frame(FrameType.SETTINGS, 0, 1, b""), ErrorCodes.PROTOCOL_ERROR),
        (wire.frame(FrameType.SETTINGS, Flag.ACK, 1, b""), ErrorCodes.PROTOCOL_ERROR),
        (wire.frame(FrameType.SETTINGS, Flag.ACK, 0, bytes(6)), ErrorCodes.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.SETTINGS, 0, 0, bytes(5)), ErrorCodes.FRAME_SIZE_ERROR),
        (wire.frame(FrameType.SETTINGS, 0, 0, bytes(13)), ErrorCodes.FRAME_SIZE_ERROR),
        (wire.settings_frame([(9, 1)] * 33), ErrorCodes.ENHANCE_YOUR_CALM),
    ],
)
def test_settings_frames_that_end_the_connection(raw: bytes, code: ErrorCodes) -> None:
    assert fault(known_settings, frame(raw)) is code


def test_as_many_settings_as_are_taken() -> None:
    assert settings_of(known(wire.settings_frame([(4, 1)] * 32))) == {4: 1}


@given(st.binary(max_size=250), st.integers(0, 3), st.integers(0, 255))
def test_any_settings_frame_passes_in_part_or_ends_the_connection(
    payload: bytes, stream_id: int, flags: int
) -> None:
    raw = wire.frame(FrameType.SETTINGS, flags, stream_id, payload)
    try:
        passed = known(raw)
    except ConnectionFault:
        return
    pairs = list(struct.iter_unpack(">HI", payload))
    assert set(settings_of(passed)) <= {identifier for identifier, _ in pairs} & set(range(1, 7))
