"""An HTTP/2 client of raw frames, for the load: it obeys GOAWAY to the letter, and nothing else.

Built on hyperframe and hpack and not on h2, which ends a connection at the first
GOAWAY. What it cannot repeat by RFC 9113 section 8.7 it reports as lost, with the
frames that came last.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass, field

import hpack
from hyperframe.frame import (
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
from tests.support.wire import DEFAULT_FRAME_SIZE, DEFAULT_WINDOW, ErrorCode, Setting

from .load import Lost, NotServed, Request, Tally, pid_of

#: Opened at once, so that no answer ever waits for credit.
_WINDOW = 1 << 30
_MAX_STREAM_ID = 2**31 - 1


@dataclass
class _Exchange:
    request: Request
    answer: asyncio.Future[tuple[int, bytes]]
    #: What of the request's body is not sent yet.
    unsent: memoryview
    window: int
    status: int = 0
    body: list[bytes] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection; `ready` once the server's SETTINGS are there."""

    def __init__(self, scheme: str, tally: Tally) -> None:
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self._leaving = False
        self._closed = asyncio.Event()
        self._loop = loop
        self._scheme = scheme
        self._tally = tally
        self._transport: asyncio.Transport
        self._buffer = bytearray()
        self._encoder = hpack.Encoder()
        self._decoder = hpack.Decoder()
        self._exchanges: dict[int, _Exchange] = {}
        self._next_id = 1
        self._last_id = _MAX_STREAM_ID
        self._window = DEFAULT_WINDOW
        self._initial_window = DEFAULT_WINDOW
        #: The worker at the other end, once it has answered.
        self._pid = 0
        self._recent: deque[str] = deque(maxlen=6)

    @property
    def leaving(self) -> bool:
        """Whether the server wants no further streams here, or is gone."""
        return self._leaving or self._transport.is_closing()

    async def request(self, request: Request) -> tuple[int, bytes]:
        """Make one request.

        :raises NotServed: it may be repeated on another connection.
        :raises Lost: it may not.
        """
        stream_id, self._next_id = self._next_id, self._next_id + 2
        body = memoryview(request.body)
        fields = [
            (":method", request.method),
            (":scheme", self._scheme),
            (":authority", "localhost"),
            (":path", request.path),
        ]
        if body:
            fields.append(("content-length", str(len(body))))
        answer = self._loop.create_future()
        exchange = _Exchange(request, answer, body, self._initial_window)
        self._exchanges[stream_id] = exchange
        block = self._encoder.encode(fields)
        self._transport.write(wire.headers_frames(stream_id, block, end_stream=not body))
        self._upload(stream_id, exchange)
        return await answer

    # -- asyncio.Protocol -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        settings = wire.settings_frame({Setting.INITIAL_WINDOW_SIZE: _WINDOW})
        self._transport.write(wire.PREFACE + settings + wire.window_update_frame(0, _WINDOW))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        buffer = self._buffer
        while len(buffer) >= wire.HEADER_LENGTH:
            frame, length = Frame.parse_frame_header(
                memoryview(bytes(buffer[: wire.HEADER_LENGTH]))
            )
            end = wire.HEADER_LENGTH + length
            if len(buffer) < end:
                return
            frame.parse_body(memoryview(bytes(buffer[wire.HEADER_LENGTH : end])))
            del buffer[:end]
            self._receive(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self._leaving = True
        self._closed.set()
        reason = f"connection lost ({exc or 'closed'})"
        if not self.ready.done():
            self.ready.set_exception(Lost(f"{reason} before SETTINGS", self._pid))
        for stream_id in list(self._exchanges):
            self._lose(stream_id, reason)

    # -- frames ---------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        if not isinstance(frame, (HeadersFrame, DataFrame, WindowUpdateFrame)):
            self._recent.append(repr(frame)[:90])
        match frame:
            case HeadersFrame():
                fields = dict(self._decoder.decode(frame.data, raw=True))
                exchange = self._exchanges.get(frame.stream_id)
                if exchange is not None:
                    exchange.status = int(fields[b":status"])
            case DataFrame():
                exchange = self._exchanges.get(frame.stream_id)
                if exchange is not None:
                    exchange.body.append(frame.data)
            case SettingsFrame() if "ACK" not in frame.flags:
                self._take_settings(frame)
            case PingFrame() if "ACK" not in frame.flags:
                self._transport.write(wire.ping_frame(frame.opaque_data, ack=True))
            case WindowUpdateFrame():
                self._take_credit(frame)
            case RstStreamFrame():
                self._take_reset(frame)
            case GoAwayFrame():
                self._take_goaway(frame)
        if "END_STREAM" in frame.flags:
            self._complete(frame.stream_id)
        self._close_if_done()

    def _take_settings(self, frame: SettingsFrame) -> None:
        initial = frame.settings.get(Setting.INITIAL_WINDOW_SIZE, self._initial_window)
        for exchange in self._exchanges.values():
            exchange.window += initial - self._initial_window
        self._initial_window = initial
        self._transport.write(wire.settings_frame(ack=True))
        if not self.ready.done():
            self.ready.set_result(None)

    def _take_credit(self, frame: WindowUpdateFrame) -> None:
        if not frame.stream_id:
            self._window += frame.window_increment
        elif frame.stream_id in self._exchanges:
            self._exchanges[frame.stream_id].window += frame.window_increment
        for stream_id, exchange in self._exchanges.items():
            self._upload(stream_id, exchange)

    def _take_reset(self, frame: RstStreamFrame) -> None:
        if frame.error_code == ErrorCode.REFUSED_STREAM:
            self._refuse(frame.stream_id)
        else:
            self._lose(frame.stream_id, f"RST_STREAM({frame.error_code})")

    def _take_goaway(self, frame: GoAwayFrame) -> None:
        self._leaving = True
        self._last_id = frame.last_stream_id
        for stream_id in list(self._exchanges):
            if stream_id > self._last_id:
                self._refuse(stream_id)
            elif frame.error_code != ErrorCode.NO_ERROR:
                self._lose(stream_id, f"GOAWAY({frame.error_code})")

    # -- exchanges --------------------------------------------------------------------

    def _upload(self, stream_id: int, exchange: _Exchange) -> None:
        while exchange.unsent:
            size = min(len(exchange.unsent), exchange.window, self._window, DEFAULT_FRAME_SIZE)
            if size <= 0:
                return
            data, exchange.unsent = exchange.unsent[:size], exchange.unsent[size:]
            exchange.window -= size
            self._window -= size
            last = not exchange.unsent
            self._transport.write(wire.data_frame(stream_id, bytes(data), end_stream=last))

    def _complete(self, stream_id: int) -> None:
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is not None and not exchange.answer.done():
            body = b"".join(exchange.body)
            self._pid = pid_of(exchange.request, exchange.status, body)
            exchange.answer.set_result((exchange.status, body))

    def _refuse(self, stream_id: int) -> None:
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is not None and not exchange.answer.done():
            exchange.answer.set_exception(NotServed)

    def _lose(self, stream_id: int, reason: str) -> None:
        exchange = self._exchanges.pop(stream_id, None)
        if exchange is not None and not exchange.answer.done():
            frames = "; ".join(self._recent)
            exchange.answer.set_exception(Lost(f"{reason}; frames before: {frames}", self._pid))

    def _close_if_done(self) -> None:
        if self._leaving and not self._exchanges and not self._transport.is_closing():
            self._tally.drained += 1
            self._transport.close()

    async def close(self) -> None:
        """Close, with nothing more to come."""
        self._leaving = True
        self._transport.close()
        await self._closed.wait()


class Client:
    """Fetches over one connection at a time, and over a new one once that is left."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, tally: Tally) -> None:
        self._port = port
        self._tls = tls
        self._tally = tally
        self._connections: list[Connection] = []
        self._connecting = asyncio.Lock()

    async def fetch(self, request: Request) -> tuple[int, bytes]:
        """Make one request: see `load.Fetch`."""
        async with self._connecting:
            # One that is new may lead to a worker that is already leaving.
            while not self._connections or self._connections[-1].leaving:
                self._connections.append(await self._connect())
            connection = self._connections[-1]
        return await connection.request(request)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        scheme = "https" if self._tls is not None else "http"
        _, connection = await loop.create_connection(
            lambda: Connection(scheme, self._tally),
            "127.0.0.1",
            self._port,
            ssl=self._tls,
            server_hostname="localhost" if self._tls is not None else None,
        )
        await connection.ready
        return connection

    async def close(self) -> None:
        """Close what is open."""
        for connection in self._connections:
            await connection.close()
