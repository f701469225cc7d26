"""The peer's books: what went over the wire both ways, and whether the server kept the rules.

It reads the bytes of both directions and nothing of the server's state, so what it says
is what a strict peer would. Of what is sent to the server it understands whole frames and
asks no questions: whether they are right is for the server to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import hpack
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.support import wire
from tests.support.wire import PREFACE, Flag, FrameType

_DEFAULT_TABLE = 4_096


class Broken(AssertionError):
    """The server has done what it must never do."""


def must(condition: object, rule: str, *facts: object) -> None:
    """Hold the server to ``rule``."""
    if not condition:
        raise Broken(f"{rule}: {', '.join(map(repr, facts))}" if facts else rule)


class Ledger:
    """One connection, from the peer's end.

    What is counted by stream has the connection itself as stream 0.
    """

    def __init__(self) -> None:
        self._incoming = bytearray()
        self._preface_left = len(PREFACE)
        self._decoder = hpack.Decoder(max_header_list_size=1 << 24)
        #: What we have sent.
        self.bytes_sent = 0
        self.data_sent: Counter[int] = Counter()
        self.granted: Counter[int] = Counter()
        #: How far we may go on a stream: the server's SETTINGS hold once we have sent their ACK.
        self._server_window = wire.DEFAULT_WINDOW
        #: What our SETTINGS ask for.
        self.max_frame_size = wire.DEFAULT_FRAME_SIZE
        self.initial_window = wire.DEFAULT_WINDOW
        self.highest_stream_id = 0
        #: Streams on which we have sent END_STREAM or RST_STREAM.
        self.finished: set[int] = set()
        #: The header block that we are in the middle of is of this stream.
        self.block_stream = 0
        #: Table sizes of our SETTINGS that are not acknowledged yet.
        self._table_sizes: list[int] = []
        #: What the server has sent; the first is of its SETTINGS.
        self._announced_window = wire.DEFAULT_WINDOW
        self.control_bytes = 0
        self.data_received: Counter[int] = Counter()
        self.given_back: Counter[int] = Counter()
        self.bodies: dict[int, bytearray] = {}
        self.responded: set[int] = set()
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.goaways: list[GoAwayFrame] = []

    # -- to the server ---------------------------------------------------------

    def sent(self, data: bytes) -> None:
        """Enter bytes that we send."""
        self.bytes_sent += len(data)
        skipped = data[self._preface_left :]
        self._preface_left = max(0, self._preface_left - len(data))
        self._incoming += skipped
        for frame_type, flags, stream_id, payload in self._whole_frames():
            self._enter(frame_type, flags, stream_id, payload)

    @property
    def between_frames(self) -> bool:
        """Whether another frame could come next."""
        return not (self._preface_left or self._incoming or self.block_stream)

    def send_window(self, stream_id: int) -> int:
        """How many bytes of DATA the server may still send."""
        initial = self.initial_window if stream_id else wire.DEFAULT_WINDOW
        return initial + self.granted[stream_id] - self.data_received[stream_id]

    def receive_window(self, stream_id: int) -> int:
        """How many bytes of DATA the server takes on this stream now."""
        stream = self._server_window + self.given_back[stream_id] - self.data_sent[stream_id]
        whole = wire.DEFAULT_WINDOW + self.given_back[0] - self.data_sent[0]
        return min(stream, whole)

    def _whole_frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        incoming = self._incoming
        while len(incoming) >= wire.HEADER_LENGTH:
            end = wire.HEADER_LENGTH + int.from_bytes(incoming[:3], "big")
            if len(incoming) < end:
                break
            stream_id = int.from_bytes(incoming[5:9], "big") & 0x7FFFFFFF
            yield incoming[3], incoming[4], stream_id, bytes(incoming[wire.HEADER_LENGTH : end])
            del incoming[:end]

    def _enter(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        if frame_type == FrameType.RST_STREAM or (
            frame_type in (FrameType.DATA, FrameType.HEADERS) and flags & Flag.END_STREAM
        ):
            self.finished.add(stream_id)
        if frame_type == FrameType.DATA:
            self.data_sent.update({0: len(payload), stream_id: len(payload)})
        elif frame_type in (FrameType.HEADERS, FrameType.CONTINUATION):
            self.block_stream = 0 if flags & Flag.END_HEADERS else stream_id
            if not self.block_stream:
                self.highest_stream_id = max(self.highest_stream_id, stream_id)
        elif frame_type == FrameType.WINDOW_UPDATE:
            self.granted[stream_id] += int.from_bytes(payload, "big") & 0x7FFFFFFF
        elif frame_type == FrameType.SETTINGS and flags & Flag.ACK:
            self._server_window = self._announced_window
        elif frame_type == FrameType.SETTINGS:
            self._enter_settings(payload)

    def _enter_settings(self, payload: bytes) -> None:
        values = {
            int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(
                payload[at + 2 : at + 6], "big"
            )
            for at in range(0, len(payload), 6)
        }
        self.max_frame_size = values.get(SettingCodes.MAX_FRAME_SIZE, self.max_frame_size)
        self.initial_window = values.get(SettingCodes.INITIAL_WINDOW_SIZE, self.initial_window)
        latest = (
            self._table_sizes[-1] if self._table_sizes else self._decoder.max_allowed_table_size
        )
        self._table_sizes.append(values.get(SettingCodes.HEADER_TABLE_SIZE, latest))

    # -- from the server -------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Enter bytes that the server sends, whole frames always."""
        view = memoryview(data)
        block = b""
        first: HeadersFrame | None = None
        while view:
            must(len(view) >= wire.HEADER_LENGTH, "half a frame header")
            frame, length = Frame.parse_frame_header(view[: wire.HEADER_LENGTH], strict=True)
            end = wire.HEADER_LENGTH + length
            must(len(view) >= end, "half a frame", frame)
            must(length <= max(self.max_frame_size, wire.DEFAULT_FRAME_SIZE), "too large", frame)
            frame.parse_body(view[wire.HEADER_LENGTH : end])
            view = view[end:]
            if isinstance(frame, HeadersFrame):
                must(first is None, "inside a block", frame)
                first, block = frame, frame.data
            elif isinstance(frame, ContinuationFrame):
                must(first is not None, "outside of a block", frame)
                block += frame.data
            else:
                must(first is None, "inside a block", frame)
                self._other(frame, end)
            if first is not None and "END_HEADERS" in frame.flags:
                self._headers(first, dict(self._decoder.decode(block, raw=True)))
                first = None
        must(first is None, "half a header block")

    def _headers(self, frame: HeadersFrame, fields: dict[bytes, bytes]) -> None:
        stream_id = frame.stream_id
        self._must_be_open(frame)
        status = int(fields.get(b":status", b"0"))
        if stream_id in self.responded:
            must(not status and "END_STREAM" in frame.flags, "not trailers", frame)
        elif 100 <= status < 200:
            must("END_STREAM" not in frame.flags, "an informational response as the last", frame)
            return
        else:
            must(status >= 200, "a response without status", frame, fields)
            self.responded.add(stream_id)
        self._end(frame)

    def _other(self, frame: Frame, size: int) -> None:
        if not isinstance(frame, DataFrame):
            self.control_bytes += size
        match frame:
            case DataFrame():
                self._data(frame)
            case RstStreamFrame():
                must(
                    frame.stream_id % 2 and frame.stream_id <= self.highest_stream_id, "idle", frame
                )
                known = self.reset.get(frame.stream_id, ErrorCodes.STREAM_CLOSED)
                must(known == ErrorCodes.STREAM_CLOSED, "reset twice", frame, known)
                self.reset[frame.stream_id] = frame.error_code
            case WindowUpdateFrame():
                must(frame.window_increment, "an increment of 0", frame)
                must(frame.stream_id not in self.reset, "after RST_STREAM", frame)
                self.given_back[frame.stream_id] += frame.window_increment
            case SettingsFrame():
                self._settings(frame)
            case GoAwayFrame():
                self._goaway(frame)
            case _:
                must(isinstance(frame, PingFrame), "not a server's frame", frame)

    def _data(self, frame: DataFrame) -> None:
        stream_id = frame.stream_id
        self._must_be_open(frame)
        must(stream_id in self.responded, "DATA before HEADERS", frame)
        size = frame.flow_controlled_length
        if size:
            must(size <= self.send_window(stream_id), "beyond the stream's window", frame)
            must(size <= self.send_window(0), "beyond the connection's window", frame)
        self.data_received.update({0: size, stream_id: size})
        self.bodies.setdefault(stream_id, bytearray()).extend(frame.data)
        self._end(frame)

    def _settings(self, frame: SettingsFrame) -> None:
        if "ACK" in frame.flags:
            must(self._table_sizes, "an ACK of SETTINGS that were not sent")
            self._decoder.max_allowed_table_size = min(self._table_sizes.pop(0), _DEFAULT_TABLE)
        else:
            self._announced_window = frame.settings[SettingCodes.INITIAL_WINDOW_SIZE]

    def _goaway(self, frame: GoAwayFrame) -> None:
        self.goaways.append(frame)
        graceful = [each for each in self.goaways if each.error_code == ErrorCodes.NO_ERROR]
        must(len(graceful) <= 2, "more than two graceful GOAWAYs", self.goaways)
        must(len(self.goaways) - len(graceful) <= 1, "more than one failure", self.goaways)
        ids = [each.last_stream_id for each in self.goaways]
        must(ids == sorted(ids, reverse=True), "last ids that increase", self.goaways)

    def _must_be_open(self, frame: Frame) -> None:
        stream_id = frame.stream_id
        must(stream_id % 2 and stream_id <= self.highest_stream_id, "an idle stream", frame)
        must(stream_id not in self.ended, "after END_STREAM", frame)
        must(stream_id not in self.reset, "after RST_STREAM", frame)

    def _end(self, frame: Frame) -> None:
        if "END_STREAM" in frame.flags:
            self.ended.add(frame.stream_id)
