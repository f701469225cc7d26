"""A raw-frame HTTP/2 client that can break every rule of the protocol.

Built on hyperframe and hpack, never on h2, so that the tests do not judge the
server by the library it runs on. It keeps no state of the protocol but what it
needs to read on: HPACK, and the windows for `upload()`. Nothing is answered,
acknowledged or credited unless a test asks for it.

    with RawClient(server).greet() as client:
        client.headers(1, path="/hello")
        headers = client.want(HeadersFrame, 1)
        client.want(DataFrame, 1, data=b"Hello, world!")
        client.want_idle()
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

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

from .rawconn import Arrival, Field, FieldInput, FrameConnection
from .rawconn import NothingArrived as NothingArrived
from .rawconn import ServerClosed as ServerClosed
from .wire import DEFAULT_FRAME_SIZE, PREFACE, SettingsValues

AnyFrame = TypeVar("AnyFrame", bound=Frame)


@dataclass
class Response:
    """What came on one stream, up to its end or its reset."""

    status: int = 0
    headers: list[Field] = field(default_factory=list)
    #: The DATA frames that came, empty ones too.
    chunks: list[bytes] = field(default_factory=list, repr=False)
    trailers: list[Field] = field(default_factory=list)
    #: The error code of RST_STREAM, where that ended the stream.
    reset_code: int | None = None
    #: The header lists of 1xx responses.
    interim: list[list[Field]] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: str) -> str | None:
        """Return the value of a header that is there at most once."""
        values = [value.decode("latin-1") for key, value in self.headers if key == name.encode()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class RawClient(FrameConnection):
    """Writes frames, states what must come back, and makes whole requests."""

    _pings = 0

    def __enter__(self) -> RawClient:
        return self

    # -- what must come, in the order of arrival ----------------------------

    def greet(self, settings: SettingsValues = (), *, ack: bool = True) -> RawClient:
        """Exchange prefaces: wait for the server's SETTINGS and its ACK of ours."""
        with self.one_write():
            self.write_bytes(PREFACE)
            self.settings(settings)
        self._find(lambda frame: _is_settings(frame, ack=False), "SETTINGS")
        if ack:
            self.settings(ack=True)
        self._find(lambda frame: _is_settings(frame, ack=True), "the ACK of our SETTINGS")
        return self

    def want(
        self,
        frame_type: type[AnyFrame],
        stream_id: int | None = None,
        *,
        timeout: float | None = None,
        **attributes: object,
    ) -> AnyFrame:
        """Return the next frame, which must be this one.

        WINDOW_UPDATE, SETTINGS and the ACKs of PING are dropped when they are
        not it. Attributes are those of hyperframe's class, and `end_stream`
        and `ack`.
        """
        deadline = self._deadline(timeout)
        while True:
            frame = self._next(deadline).frame
            if isinstance(frame, frame_type) and _matches(frame, stream_id, attributes):
                return frame
            wanted = _describe(frame_type, stream_id, attributes)
            assert _is_noise(frame), f"wanted {wanted}, got {frame!r}"

    def want_idle(
        self,
        frame_type: type[Frame] = Frame,
        stream_id: int | None = None,
        *,
        timeout: float | None = None,
        **attributes: object,
    ) -> None:
        """See that no such frame comes before the answer to a PING sent now.

        Without a type, none but WINDOW_UPDATE, SETTINGS and the ACKs of PING.
        What else arrives stays to be read.
        """
        self._pings += 1
        token = struct.pack(">4sI", b"idle", self._pings)
        self.ping(token)

        def ends(frame: Frame) -> bool:
            if isinstance(frame, PingFrame) and frame.opaque_data == token:
                return True
            unwanted = isinstance(frame, frame_type) and _matches(frame, stream_id, attributes)
            if unwanted and not (frame_type is Frame and _is_noise(frame)):
                raise AssertionError(f"wanted nothing, got {frame!r}")
            return False

        self._find(ends, "the ACK of our PING", timeout)

    def want_goaway(
        self, error_code: int | None = None, *, timeout: float | None = None
    ) -> GoAwayFrame:
        """Return the next GOAWAY, leaving what came before it to be read."""
        frame = self._find(lambda each: isinstance(each, GoAwayFrame), "GOAWAY", timeout)
        assert isinstance(frame, GoAwayFrame)
        assert error_code in (None, frame.error_code), f"wanted {error_code!r}, got {frame!r}"
        return frame

    def want_rst(
        self, stream_id: int, error_code: int | None = None, *, timeout: float | None = None
    ) -> RstStreamFrame:
        """Return the stream's RST_STREAM, leaving what came before it to be read."""
        what = f"RST_STREAM on {stream_id}"
        frame = self._find(
            lambda each: isinstance(each, RstStreamFrame) and each.stream_id == stream_id,
            what,
            timeout,
        )
        assert isinstance(frame, RstStreamFrame)
        assert error_code in (None, frame.error_code), f"wanted {error_code!r}, got {frame!r}"
        return frame

    def want_closed(self, *, timeout: float | None = None) -> list[Frame]:
        """Wait until the server closes; return what it still sent."""
        deadline = self._deadline(timeout)
        frames = []
        while True:
            try:
                frames.append(self._next(deadline).frame)
            except ServerClosed:
                return frames

    # -- whole exchanges ----------------------------------------------------

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *,
        body: bytes | None = None,
        extra: Iterable[FieldInput] = (),
        stream_id: int | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Make one request within the server's windows and return its response."""
        stream_id = self.next_stream_id if stream_id is None else stream_id
        self.headers(stream_id, method=method, path=path, extra=extra, end_stream=body is None)
        if body is not None:
            self.upload(stream_id, body, timeout=timeout)
        return self.response(stream_id, timeout=timeout)

    def response(
        self, stream_id: int, *, auto_window: bool = True, timeout: float | None = None
    ) -> Response:
        """Return what the server answers on a stream: see `responses`."""
        return self.responses([stream_id], auto_window=auto_window, timeout=timeout)[stream_id]

    def responses(
        self,
        stream_ids: Iterable[int],
        *,
        auto_window: bool = True,
        timeout: float | None = None,
    ) -> dict[int, Response]:
        """Read until all these streams have ended; keep the frames of others.

        :param auto_window: give credit for the DATA that arrives, at once.
        :param timeout: seconds of silence on these streams.
        """
        responses: dict[int, Response] = {each: Response() for each in stream_ids}
        pending = set(responses)
        others: list[Arrival] = []
        deadline = self._deadline(timeout)
        try:
            while pending:
                arrival = self._next(deadline, credit=auto_window)
                frame = arrival.frame
                if frame.stream_id not in pending:
                    others.append(arrival)
                    continue
                deadline = self._deadline(timeout)
                if auto_window:
                    self._give_credit(arrival)
                if self._add(responses[frame.stream_id], frame):
                    pending.remove(frame.stream_id)
        finally:
            self._inbox.extendleft(reversed(others))
        return responses

    def upload(
        self,
        stream_id: int,
        body: bytes,
        *,
        end_stream: bool = True,
        pad: int | None = None,
        timeout: float | None = None,
    ) -> int:
        """Send a body within the server's windows; return the bytes it took.

        That is fewer than all when the server resets the stream meanwhile.
        """
        overhead = 0 if pad is None else pad + 1
        sent = 0
        while True:
            rest = len(body) - sent
            room = min(self.send_window(stream_id), self.send_window(0), DEFAULT_FRAME_SIZE)
            if room > overhead or not rest:
                size = max(0, min(rest, room - overhead))
                last = end_stream and size == rest
                self.data(stream_id, body[sent : sent + size], end_stream=last, pad=pad)
                sent += size
                if sent == len(body):
                    return sent
            else:
                if self._was_reset(stream_id):
                    return sent
                self._pull(self._deadline(timeout), credit=True)

    # -- inside -------------------------------------------------------------

    def _was_reset(self, stream_id: int) -> bool:
        return any(
            isinstance(each.frame, RstStreamFrame) and each.frame.stream_id == stream_id
            for each in self._inbox
        )

    def _add(self, response: Response, frame: Frame) -> bool:
        """Add a frame to its response; return whether the stream has ended."""
        if isinstance(frame, RstStreamFrame):
            response.reset_code = frame.error_code
            return True
        if isinstance(frame, DataFrame):
            response.chunks.append(frame.data)
        elif isinstance(frame, HeadersFrame):
            fields = self.fields(frame)
            status = int(dict(fields).get(b":status", b"0"))
            if 100 <= status < 200:
                response.interim.append(fields)
            elif not response.status:
                response.status, response.headers = status, fields
            else:
                response.trailers = fields
        return "END_STREAM" in frame.flags


def _is_settings(frame: Frame, *, ack: bool) -> bool:
    return isinstance(frame, SettingsFrame) and ("ACK" in frame.flags) == ack


def _is_noise(frame: Frame) -> bool:
    if isinstance(frame, PingFrame):
        return "ACK" in frame.flags
    return isinstance(frame, (WindowUpdateFrame, SettingsFrame))


def _matches(frame: Frame, stream_id: int | None, attributes: Mapping[str, object]) -> bool:
    if stream_id not in (None, frame.stream_id):
        return False
    for name, wanted in attributes.items():
        if name in ("end_stream", "ack"):
            actual: object = name.upper() in frame.flags
        else:
            actual = getattr(frame, name)
        if actual != wanted:
            return False
    return True


def _describe(
    frame_type: type[Frame], stream_id: int | None, attributes: Mapping[str, object]
) -> str:
    on = "" if stream_id is None else f" on {stream_id}"
    return f"{frame_type.__name__}{on} {dict(attributes) or ''}".strip()
