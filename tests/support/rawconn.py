"""HTTP/2 frames over a socket, in both directions, judged by nobody.

The lower half of the tests' client. Its only state of the protocol is what it
needs to read on (HPACK) and a passive account of the windows.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary

import hpack
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from . import wire
from .server import Address, Server
from .wire import DEFAULT_WINDOW, ErrorCode, Setting

#: Seconds to wait for one thing; generous, as only failures ever wait so long.
TIMEOUT = 10.0

Field = tuple[bytes, bytes]
FieldInput = tuple[str | bytes, str | bytes]


class NothingArrived(AssertionError):
    """The server stayed silent, or did not send what was waited for."""


class ServerClosed(AssertionError):
    """The server closed the connection while something was waited for."""


@dataclass
class Arrival:
    """A frame that no test has taken yet."""

    frame: Frame
    credited: bool = False


class FrameConnection:
    """One connection to a server.

    :param address: one of `server.addresses`, by default the first.
    :param timeout: seconds to wait for each thing, unless told otherwise.
    :param context: for TLS; by default it trusts the server and offers h2.
    :param sock: a connected socket to use; TLS, if any, is already up on it.
    """

    def __init__(
        self,
        server: Server,
        *,
        address: Address | None = None,
        timeout: float = TIMEOUT,
        context: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
    ) -> None:
        self.timeout = timeout
        self.scheme = "https" if server.tls else "http"
        self.authority = "localhost"
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=1 << 24)
        #: Every setting the server has sent so far.
        self.peer_settings: dict[int, int] = {}
        self.sock = sock or self._connect(server, address, context)
        self._buffer = bytearray()
        self._held: list[bytes] | None = None
        self._inbox: deque[Arrival] = deque()
        self._fields: WeakKeyDictionary[Frame, list[Field]] = WeakKeyDictionary()
        self._highest_stream_id = -1
        self._recent: deque[str] = deque(maxlen=12)
        # Flow-controlled bytes, by stream; the connection is stream 0.
        self._sent: Counter[int] = Counter()
        self._granted: Counter[int] = Counter()

    def __enter__(self) -> FrameConnection:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    # -- writing ------------------------------------------------------------

    def write(self, *frames: Frame) -> None:
        """Send frames of hyperframe in one write."""
        self.write_bytes(b"".join(frame.serialize() for frame in frames))

    def write_bytes(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        self.sock.settimeout(self.timeout)
        try:
            self.sock.sendall(data)
        except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise ServerClosed(f"{error}; before: {list(self._recent)}") from None

    def try_write(self, data: bytes) -> bool:
        """Send bytes unless the server has closed; return whether it took them."""
        try:
            self.write_bytes(data)
        except ServerClosed:
            return False
        return True

    @contextmanager
    def one_write(self) -> Iterator[None]:
        """Send all that is written inside the block together, at its end."""
        assert self._held is None, "one_write() does not nest"
        held: list[bytes] = []
        self._held = held
        try:
            yield
        finally:
            self._held = None
        self.write_bytes(b"".join(held))

    def encode(self, fields: Iterable[FieldInput]) -> bytes:
        """Return a header block; what is encoded must be sent, and in this order."""
        return self.encoder.encode([(_bytes(name), _bytes(value)) for name, value in fields])

    def headers(
        self,
        stream_id: int,
        fields: Iterable[FieldInput] | None = None,
        *,
        method: str = "GET",
        path: str = "/",
        extra: Iterable[FieldInput] = (),
        block: bytes | None = None,
        end_stream: bool = True,
        end_headers: bool = True,
        priority: wire.PriorityValues | None = None,
        pad: int | None = None,
        split: int | None = None,
    ) -> None:
        """Send HEADERS, and CONTINUATIONs when the block needs or `split` asks for them.

        :param fields: the whole list; without it, a request for method and path.
        :param extra: appended to either.
        :param block: sent as it is, instead of any fields.
        """
        self._highest_stream_id = max(self._highest_stream_id, stream_id)
        if block is None:
            if fields is None:
                fields = self.request_fields(method, path)
            block = self.encode([*fields, *extra])
        self.write_bytes(
            wire.headers_frames(
                stream_id,
                block,
                end_stream=end_stream,
                end_headers=end_headers,
                priority=priority,
                pad=pad,
                split=split,
            )
        )

    @property
    def next_stream_id(self) -> int:
        """The lowest odd id above all that `headers` was called with."""
        return (self._highest_stream_id + 1) | 1

    def request_fields(self, method: str = "GET", path: str = "/") -> list[FieldInput]:
        return [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", self.authority),
            (":path", path),
        ]

    def data(
        self,
        stream_id: int,
        data: bytes = b"",
        *,
        end_stream: bool = False,
        pad: int | None = None,
    ) -> None:
        """Send one DATA frame, whatever the windows and the frame size are."""
        frame = wire.data_frame(stream_id, data, end_stream=end_stream, pad=pad)
        flow_controlled = len(frame) - wire.HEADER_LENGTH
        self._sent.update({0: flow_controlled, stream_id: flow_controlled})
        self.write_bytes(frame)

    def rst(self, stream_id: int, error_code: int = ErrorCode.CANCEL) -> None:
        self.write_bytes(wire.rst_stream_frame(stream_id, error_code))

    def window_update(self, stream_id: int, increment: int) -> None:
        self.write_bytes(wire.window_update_frame(stream_id, increment))

    def ping(self, data: bytes = bytes(8), *, ack: bool = False) -> None:
        self.write_bytes(wire.ping_frame(data, ack=ack))

    def settings(self, values: wire.SettingsValues = (), *, ack: bool = False) -> None:
        pairs = list(values.items() if isinstance(values, Mapping) else values)
        for identifier, value in pairs:
            if identifier == Setting.HEADER_TABLE_SIZE:
                self.decoder.max_allowed_table_size = value
        self.write_bytes(wire.settings_frame(pairs, ack=ack))

    def goaway(
        self, last_stream_id: int = 0, error_code: int = ErrorCode.NO_ERROR, debug: bytes = b""
    ) -> None:
        self.write_bytes(wire.goaway_frame(last_stream_id, error_code, debug))

    def priority(self, stream_id: int, priority: wire.PriorityValues) -> None:
        self.write_bytes(wire.priority_frame(stream_id, priority))

    def priority_update(self, stream_id: int, value: str) -> None:
        """Send RFC 9218's PRIORITY_UPDATE, with a value such as ``u=1, i``."""
        self.write_bytes(wire.priority_update_frame(stream_id, value))

    # -- reading ------------------------------------------------------------

    def read_frame(self, timeout: float | None = None) -> Frame:
        """Return the next frame, whatever it is."""
        return self._next(self._deadline(timeout)).frame

    def fields(self, frame: Frame) -> list[Field]:
        """Return the header list that a HEADERS frame began."""
        return self._fields[frame]

    def send_window(self, stream_id: int) -> int:
        """Return how much the server takes now, on a stream or (0) on all together."""
        initial = DEFAULT_WINDOW
        if stream_id:
            initial = self.peer_settings.get(Setting.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW)
        return initial + self._granted[stream_id] - self._sent[stream_id]

    # -- inside -------------------------------------------------------------

    def _connect(
        self, server: Server, address: Address | None, context: ssl.SSLContext | None
    ) -> socket.socket:
        plain = server.connect(address, self.timeout)
        if not server.tls:
            return plain
        try:
            assert server.certs is not None
            default = server.certs.client_context()
            secure = (context or default).wrap_socket(plain, server_hostname="localhost")
        except BaseException:
            plain.close()
            raise
        if context is None and secure.selected_alpn_protocol() != "h2":
            secure.close()
            raise AssertionError("the server does not choose h2 by ALPN")
        return secure

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _next(self, deadline: float, *, credit: bool = False) -> Arrival:
        if not self._inbox:
            self._pull(deadline, credit=credit)
        return self._inbox.popleft()

    def _find(
        self, matches: Callable[[Frame], bool], what: str, timeout: float | None = None
    ) -> Frame:
        """Take the first matching frame out of the order of arrival."""
        deadline = self._deadline(timeout)
        passed: list[Arrival] = []
        try:
            while True:
                arrival = self._next(deadline)
                if matches(arrival.frame):
                    return arrival.frame
                passed.append(arrival)
        except (NothingArrived, ServerClosed) as error:
            raise type(error)(f"wanted {what}: {error}") from None
        finally:
            self._inbox.extendleft(reversed(passed))

    def _pull(self, deadline: float, *, credit: bool = False) -> None:
        """Read one frame, or a whole header block, off the socket."""
        frames = [self._parse(deadline)]
        first = frames[0]
        if isinstance(first, HeadersFrame):
            while "END_HEADERS" not in frames[-1].flags:
                frames.append(self._parse(deadline))
                assert isinstance(frames[-1], ContinuationFrame), f"{frames[-1]!r} in a block"
            block = b"".join(each.data for each in frames)  # type: ignore[attr-defined]
            self._fields[first] = list(self.decoder.decode(block, raw=True))
        elif isinstance(first, SettingsFrame):
            self.peer_settings.update(first.settings)
            table_size = first.settings.get(
                Setting.HEADER_TABLE_SIZE, self.encoder.header_table_size
            )
            self.encoder.header_table_size = min(table_size, self.encoder.header_table_size)
        elif isinstance(first, WindowUpdateFrame):
            self._granted[first.stream_id] += first.window_increment
        arrivals = [Arrival(each) for each in frames]
        if credit:
            self._give_credit(arrivals[0])
        self._inbox.extend(arrivals)

    def _parse(self, deadline: float) -> Frame:
        frame, length = Frame.parse_frame_header(self._peek(wire.HEADER_LENGTH, deadline))
        frame.parse_body(self._peek(wire.HEADER_LENGTH + length, deadline)[wire.HEADER_LENGTH :])
        del self._buffer[: wire.HEADER_LENGTH + length]
        self._recent.append(repr(frame)[:100])
        return frame

    def _peek(self, size: int, deadline: float) -> memoryview:
        """Return the next bytes without taking them, so that a timeout loses none."""
        while len(self._buffer) < size:
            remaining = deadline - time.monotonic()
            try:
                if remaining <= 0:
                    raise TimeoutError
                self.sock.settimeout(remaining)
                received = self.sock.recv(1 << 16)
            except TimeoutError:
                raise NothingArrived(f"nothing arrived; before: {list(self._recent)}") from None
            except ConnectionError as error:
                raise ServerClosed(f"{error}; before: {list(self._recent)}") from None
            if not received:
                raise ServerClosed(f"closed; before: {list(self._recent)}")
            self._buffer += received
        return memoryview(bytes(self._buffer[:size]))

    def _give_credit(self, arrival: Arrival) -> None:
        frame = arrival.frame
        if arrival.credited or not isinstance(frame, DataFrame):
            return
        arrival.credited = True
        if frame.flow_controlled_length:
            updates = wire.window_update_frame(0, frame.flow_controlled_length)
            if "END_STREAM" not in frame.flags:
                updates += wire.window_update_frame(frame.stream_id, frame.flow_controlled_length)
            self.try_write(updates)


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
