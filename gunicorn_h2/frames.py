"""Frames as bytes: names for what RFC 9113 numbers, and the few rewrites made before h2 reads.

Pure, called on the loop thread. Frames that we write come from hyperframe;
reading one needs only its nine-byte header, so that is all there is in here.
"""

from __future__ import annotations

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

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: The encoder's table never grows past the protocol's default, whatever the
#: peer offers: a larger one makes every response slower to encode.
_MAX_ENCODER_TABLE = 4_096
_MAX_SETTINGS_ENTRIES = 32
_KNOWN_SETTINGS = frozenset(
    (
        SettingCodes.HEADER_TABLE_SIZE,
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
    """One whole frame: its header's fields and its bytes, header included."""

    type: int
    flags: int
    stream_id: int
    raw: bytes

    @property
    def payload(self) -> bytes:
        return self.raw[HEADER_LENGTH:]


def without_priority(frame: Frame) -> bytes:
    """A HEADERS frame without its priority, which RFC 9113 section 5.3.2 deprecates."""
    payload = frame.payload
    start = 1 if frame.flags & PADDED else 0
    if len(payload) < start + 5:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short HEADERS")
    rest = payload[:start] + payload[start + 5 :]
    return (
        len(rest).to_bytes(3, "big")
        + bytes((frame.type, frame.flags & ~PRIORITY_FLAG))
        + frame.stream_id.to_bytes(4, "big")
        + rest
    )


def known_settings(frame: Frame) -> bytes:
    """A SETTINGS frame with only what h2 should act upon, each setting once."""
    payload = frame.payload
    if len(payload) % 6:
        raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "SETTINGS of odd length")
    if len(payload) > _MAX_SETTINGS_ENTRIES * 6:
        raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "too many settings")
    known: dict[int, int] = {}
    for start in range(0, len(payload), 6):
        code = int.from_bytes(payload[start : start + 2], "big")
        if code in _KNOWN_SETTINGS:
            known[code] = int.from_bytes(payload[start + 2 : start + 6], "big")
    table_size = known.get(SettingCodes.HEADER_TABLE_SIZE)
    if table_size is not None:
        known[SettingCodes.HEADER_TABLE_SIZE] = min(table_size, _MAX_ENCODER_TABLE)
    return SettingsFrame(frame.stream_id, settings=known).serialize()
