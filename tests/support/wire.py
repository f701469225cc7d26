"""HTTP/2 frames as bytes, right or wrong: nothing here checks anything.

hyperframe refuses to build many of the frames that a broken peer sends, so the
tests' client builds its own; hyperframe only reads what the server sends.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Mapping

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

#: What a peer may send in one frame before it has seen any SETTINGS.
DEFAULT_FRAME_SIZE = 16384
DEFAULT_WINDOW = 65535
HEADER_LENGTH = 9


class FrameType(enum.IntEnum):
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
    PRIORITY_UPDATE = 0x10


class Flag(enum.IntFlag):
    NONE = 0x0
    ACK = 0x1
    END_STREAM = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class ErrorCode(enum.IntEnum):
    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    CONNECT_ERROR = 0xA
    ENHANCE_YOUR_CALM = 0xB
    INADEQUATE_SECURITY = 0xC
    HTTP_1_1_REQUIRED = 0xD


class Setting(enum.IntEnum):
    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8
    NO_RFC7540_PRIORITIES = 0x9


#: Pairs rather than a mapping where a setting is to be sent twice.
SettingsValues = Mapping[Setting, int] | Mapping[int, int] | Iterable[tuple[int, int]]

#: (stream depended on, weight 1 to 256, exclusive)
PriorityValues = tuple[int, int, bool]


def frame(
    frame_type: int,
    flags: int = 0,
    stream_id: int = 0,
    payload: bytes = b"",
    *,
    length: int | None = None,
) -> bytes:
    """Return one frame; `length` is what the header says, if not the truth."""
    announced = len(payload) if length is None else length
    return struct.pack(">I", announced)[1:] + struct.pack(
        f">BBI{len(payload)}s", frame_type, flags, stream_id, payload
    )


def settings_frame(values: SettingsValues = (), *, ack: bool = False) -> bytes:
    pairs = values.items() if isinstance(values, Mapping) else values
    payload = b"".join(struct.pack(">HI", identifier, value) for identifier, value in pairs)
    return frame(FrameType.SETTINGS, Flag.ACK if ack else 0, 0, payload)


def data_frame(
    stream_id: int, data: bytes = b"", *, end_stream: bool = False, pad: int | None = None
) -> bytes:
    flags = Flag.END_STREAM if end_stream else Flag.NONE
    if pad is not None:
        flags |= Flag.PADDED
        data = bytes([pad]) + data + bytes(pad)
    return frame(FrameType.DATA, flags, stream_id, data)


def headers_frames(
    stream_id: int,
    block: bytes,
    *,
    end_stream: bool = True,
    end_headers: bool = True,
    priority: PriorityValues | None = None,
    pad: int | None = None,
    split: int | None = None,
) -> bytes:
    """Return a HEADERS frame and the CONTINUATION frames its block needs.

    :param split: the most bytes of the block in one frame.
    :param end_headers: False leaves the block open.
    """
    size = split or DEFAULT_FRAME_SIZE
    fragments = [block[start : start + size] for start in range(0, len(block), size)] or [b""]
    flags = Flag.END_STREAM if end_stream else Flag.NONE
    payload = fragments[0]
    if priority is not None:
        flags |= Flag.PRIORITY
        payload = _priority_payload(priority) + payload
    if pad is not None:
        flags |= Flag.PADDED
        payload = bytes([pad]) + payload + bytes(pad)
    if end_headers and len(fragments) == 1:
        flags |= Flag.END_HEADERS
    frames = [frame(FrameType.HEADERS, flags, stream_id, payload)]
    for fragment in fragments[1:]:
        frames.append(frame(FrameType.CONTINUATION, 0, stream_id, fragment))
    if end_headers and len(fragments) > 1:
        frames[-1] = frame(FrameType.CONTINUATION, Flag.END_HEADERS, stream_id, fragments[-1])
    return b"".join(frames)


def priority_frame(stream_id: int, priority: PriorityValues) -> bytes:
    return frame(FrameType.PRIORITY, 0, stream_id, _priority_payload(priority))


def rst_stream_frame(stream_id: int, error_code: int = ErrorCode.CANCEL) -> bytes:
    return frame(FrameType.RST_STREAM, 0, stream_id, struct.pack(">I", error_code))


def ping_frame(data: bytes = bytes(8), *, ack: bool = False) -> bytes:
    return frame(FrameType.PING, Flag.ACK if ack else 0, 0, data)


def goaway_frame(
    last_stream_id: int = 0, error_code: int = ErrorCode.NO_ERROR, debug: bytes = b""
) -> bytes:
    return frame(FrameType.GOAWAY, 0, 0, struct.pack(">II", last_stream_id, error_code) + debug)


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame(FrameType.WINDOW_UPDATE, 0, stream_id, struct.pack(">I", increment))


def priority_update_frame(stream_id: int, value: str) -> bytes:
    payload = struct.pack(">I", stream_id) + value.encode()
    return frame(FrameType.PRIORITY_UPDATE, 0, 0, payload)


def _priority_payload(priority: PriorityValues) -> bytes:
    depends_on, weight, exclusive = priority
    return struct.pack(">IB", depends_on | exclusive << 31, weight - 1)
