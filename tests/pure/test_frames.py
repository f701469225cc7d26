"""The rewrites that frames undergo before h2 sees them."""

from __future__ import annotations

import struct

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import Frame as ParsedFrame
from hyperframe.frame import HeadersFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.frames import (
    HEADER_LENGTH,
    ConnectionFault,
    Frame,
    known_settings,
    with_end_stream,
    without_priority,
)
from tests.support import wire
from tests.support.wire import Flag, FrameType, Setting


def frame(raw: bytes) -> Frame:
    """The frame as the guard would cut it out."""
    stream_id = int.from_bytes(raw[5:9], "big")
    return Frame(raw[3], raw[4], stream_id, raw)


def parsed(raw: bytes) -> ParsedFrame:
    made, length = ParsedFrame.parse_frame_header(memoryview(raw[:HEADER_LENGTH]))
    assert length == len(raw) - HEADER_LENGTH
    made.parse_body(memoryview(raw[HEADER_LENGTH:]))
    return made


def settings_of(raw: bytes) -> dict[int, int]:
    made = parsed(raw)
    assert isinstance(made, SettingsFrame)
    return dict(made.settings)


def fault(call: object, *arguments: object) -> ErrorCodes:
    assert callable(call)
    with pytest.raises(ConnectionFault) as caught:
        call(*arguments)
    assert str(caught.value) == caught.value.reason
    return caught.value.code


def test_the_payload_is_what_follows_the_header() -> None:
    assert frame(wire.ping_frame(b"12345678")).payload == b"12345678"


# -- HEADERS ----------------------------------------------------------------------


@given(
    block=st.binary(min_size=1, max_size=50),
    pad=st.none() | st.integers(0, 20),
    end_stream=st.booleans(),
    end_headers=st.booleans(),
)
def test_a_headers_frame_loses_its_priority_and_nothing_else(
    block: bytes, pad: int | None, end_stream: bool, end_headers: bool
) -> None:
    def headers(priority: wire.PriorityValues | None) -> bytes:
        return wire.headers_frames(
            7,
            block,
            pad=pad,
            end_stream=end_stream,
            end_headers=end_headers,
            priority=priority,
        )

    assert without_priority(frame(headers((3, 256, True)))) == headers(None)


@pytest.mark.parametrize(
    ("flags", "payload"),
    [
        (Flag.PRIORITY, b""),
        (Flag.PRIORITY, bytes(4)),
        (Flag.PRIORITY | Flag.PADDED, b""),
        (Flag.PRIORITY | Flag.PADDED, bytes(5)),
    ],
)
def test_a_headers_frame_too_short_for_its_priority(flags: Flag, payload: bytes) -> None:
    raw = wire.frame(FrameType.HEADERS, flags, 1, payload)
    assert fault(without_priority, frame(raw)) is ErrorCodes.FRAME_SIZE_ERROR


@pytest.mark.parametrize("end_stream", [False, True])
def test_a_headers_frame_is_given_end_stream(end_stream: bool) -> None:
    given = wire.headers_frames(5, b"block", end_stream=end_stream, pad=3)
    made = parsed(with_end_stream(given))
    assert isinstance(made, HeadersFrame)
    assert (made.stream_id, made.data) == (5, b"block")
    assert sorted(made.flags) == ["END_HEADERS", "END_STREAM", "PADDED"]


# -- SETTINGS ---------------------------------------------------------------------


def test_settings_that_h2_knows_pass() -> None:
    known = {
        Setting.HEADER_TABLE_SIZE: 100,
        Setting.ENABLE_PUSH: 0,
        Setting.MAX_CONCURRENT_STREAMS: 2**32 - 1,
        Setting.INITIAL_WINDOW_SIZE: 2**31,
        Setting.MAX_FRAME_SIZE: 5,
        Setting.MAX_HEADER_LIST_SIZE: 7,
    }
    raw = wire.settings_frame(known)
    assert known_settings(frame(raw)) == raw


def test_settings_that_nobody_acts_upon_are_left_out() -> None:
    pairs = [(0, 1), (7, 1), (8, 1), (9, 1), (0xFFFF, 2**32 - 1), (4, 5)]
    assert settings_of(known_settings(frame(wire.settings_frame(pairs)))) == {4: 5}


def test_of_a_setting_that_comes_twice_the_last_counts() -> None:
    raw = wire.settings_frame([(4, 1), (3, 9), (4, 2)])
    assert settings_of(known_settings(frame(raw))) == {4: 2, 3: 9}


@pytest.mark.parametrize(("asked", "given"), [(0, 0), (4_096, 4_096), (2**32 - 1, 4_096)])
def test_the_encoder_table_is_capped(asked: int, given: int) -> None:
    raw = wire.settings_frame({Setting.HEADER_TABLE_SIZE: asked})
    assert settings_of(known_settings(frame(raw))) == {Setting.HEADER_TABLE_SIZE: given}


def test_an_ack_passes_as_it_is() -> None:
    raw = wire.settings_frame(ack=True)
    assert known_settings(frame(raw)) == raw


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
    assert settings_of(known_settings(frame(wire.settings_frame([(4, 1)] * 32)))) == {4: 1}


@given(st.binary(max_size=250), st.integers(0, 3), st.integers(0, 255))
def test_any_settings_frame_passes_in_part_or_ends_the_connection(
    payload: bytes, stream_id: int, flags: int
) -> None:
    raw = wire.frame(FrameType.SETTINGS, flags, stream_id, payload)
    try:
        passed = known_settings(frame(raw))
    except ConnectionFault:
        return
    pairs = list(struct.iter_unpack(">HI", payload))
    assert set(settings_of(passed)) <= {identifier for identifier, _ in pairs} & set(range(1, 7))
