"""Frames as bytes: names for what RFC 9113 numbers, and the reading of what h2 does not get
to see, or not as it came.

Pure, called on the loop thread.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import SettingsFrame

DATA = 0x0
HEADERS = 0x1
PRIORITY = 0x2
RST_STREAM = 0x3
SETTINGS = 0x4
PUSH_PROMISE = 0x5
PING = 0x6
GOAWAY = 0x7
WINDOW_UPDATE = 0x8
CONTINUATION = 0x9
#: RFC 9218 section 7.1.
PRIORITY_UPDATE = 0x10

END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY_FLAG = 0x20

HEADER_LENGTH = 9
_PRIORITY_LENGTH = 5
#: Length (in two parts), type, flags, stream.
HEADER = struct.Struct(">BHBBL")

#: Of a connection, and of a stream until SETTINGS say otherwise (RFC 9113 section 6.9.2).
DEFAULT_WINDOW = 65_535

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The encoder's table never grows past the protocol's default, whatever the
#: peer offers: a larger one makes every response slower to encode.
_MAX_ENCODER_TABLE = 4_096
_MAX_SETTINGS_ENTRIES = 32
#: Those that are passed on as they are.
_KNOWN_SETTINGS = frozenset(
    (
        SettingCodes.ENABLE_PUSH,
        SettingCodes.MAX_CONCURRENT_STREAMS,
        SettingCodes.INITIAL_WINDOW_SIZE,
        SettingCodes.MAX_FRAME_SIZE,
        SettingCodes.MAX_HEADER_LIST_SIZE,
    )
)


class ConnectionFault(Exception):
    """The peer broke the connection: it ends with GOAWAY(``code``).

    ``reason`` is ours, never the peer's input, and short enough to be logged.
    """

    def __init__(self, code: ErrorCodes, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """One whole frame."""

    type: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def raw(self) -> bytes:
        """Its bytes, but for what is reserved in them."""
        return frame_header(len(self.payload), self.type, self.flags, self.stream_id) + self.payload


def frame_header(length: int, frame_type: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of ``length`` bytes (RFC 9113 section 4.1)."""
    return HEADER.pack(length >> 16, length & 0xFFFF, frame_type, flags, stream_id)


def unpadded(frame: Frame) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding (RFC 9113 section 6.1)."""
    payload = frame.payload
    if not frame.flags & PADDED:
        return payload
    if not payload:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "padded frame without a length")
    if payload[0] >= len(payload):
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def block_fragment(frame: Frame) -> bytes:
    """What a HEADERS frame has of its block; its priority is deprecated (section 5.3.2)."""
    fragment = unpadded(frame)
    if not frame.flags & PRIORITY_FLAG:
        return fragment
    if len(fragment) < _PRIORITY_LENGTH:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short HEADERS")
    return fragment[_PRIORITY_LENGTH:]


def known_settings(frame: Frame) -> tuple[bytes, int | None]:
    """A SETTINGS frame with only what h2 should act upon, each setting once.

    :returns: also the least of the values that it gives HEADER_TABLE_SIZE.
    """
    payload = frame.payload
    if frame.stream_id:
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "SETTINGS on a stream")
    if frame.flags & ACK:
        if payload:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS ACK with settings")
        return frame.raw, None
    if len(payload) % 6:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS of odd length")
    if len(payload) > _MAX_SETTINGS_ENTRIES * 6:
        raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "too many settings")
    known: dict[int, int] = {}
    table_sizes = []
    for code, value in struct.iter_unpack(">HI", payload):
        if code == SettingCodes.HEADER_TABLE_SIZE:
            table_sizes.append(value)
            known[code] = min(value, _MAX_ENCODER_TABLE)
        elif code in _KNOWN_SETTINGS:
            known[code] = value
    return SettingsFrame(0, settings=known).serialize(), min(table_sizes, default=None)


def window_increment(frame: Frame) -> int:
    """By how many bytes a WINDOW_UPDATE opens its window, without the reserved bit."""
    if len(frame.payload) != 4:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "WINDOW_UPDATE of a wrong length")
    return int.from_bytes(frame.payload, "big") & 0x7FFFFFFF


def priority_error(frame: Frame) -> ErrorCodes | None:
    """What is wrong with a PRIORITY frame, as an error of its stream."""
    if not frame.stream_id:
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY on stream 0")
    if len(frame.payload) != _PRIORITY_LENGTH:
        return ErrorCodes.FRAME_SIZE_ERROR
    depends_on = int.from_bytes(frame.payload[:4], "big") & 0x7FFFFFFF
    return ErrorCodes.PROTOCOL_ERROR if depends_on == frame.stream_id else None


def priority_update(frame: Frame) -> tuple[int, bytes]:
    """The stream that a PRIORITY_UPDATE is about, and its priority (RFC 9218 section 7.1)."""
    payload = frame.payload
    if frame.stream_id:
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
    if len(payload) < 4:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short PRIORITY_UPDATE")
    stream_id = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
    if not stream_id % 2:
        # Stream 0 is the connection, and the others are for pushes: all of them are idle.
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY_UPDATE for no request")
    return stream_id, payload[4:]


def check_goaway(frame: Frame) -> None:
    """See that a GOAWAY frame is one."""
    if frame.stream_id:
        raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "GOAWAY on a stream")
    if len(frame.payload) < 8:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short GOAWAY")
