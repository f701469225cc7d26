"""One HTTP/2 connection: bytes in, requests out; response parts in, bytes out.

Pure, called on the loop thread; with its two halves, `requests` and `responses`, the
only user of `engine`, which is h2. In here is what concerns the connection as a whole:
its beginning and end, and the frames that are not part of a request. No clock, no
socket, no thread may be touched in here: time is passed in as ``now``, bytes are
passed in and handed out, and what the peer did is told to a `Handler`.

h2 keeps the state machines and the windows (RFC 9113 sections 5 and 6). What it
makes too dear or too strict is done before it sees the frame: bounds by
`guard`, field checks by `fields`, and here the frames that are better not shown
to it at all (PRIORITY, GOAWAY, unknown ones) or only in part (SETTINGS).
"""

from __future__ import annotations

from typing import Protocol

from h2.errors import ErrorCodes
from h2.events import PingAckReceived, SettingsAcknowledged, StreamReset
from hyperframe.frame import GoAwayFrame

from . import frames
from .engine import Engine
from .frames import ConnectionFault, Frame
from .guard import Guard
from .limits import Budget
from .requests import RequestHandler, Requests
from .responses import Responses
from .scheduler import parse_priority
from .settings import Settings
from .stream import Stream

#: How long the rest of a request is taken and dropped after its response, in seconds.
DISCARD_TIMEOUT = 2.0
#: RFC 9113 section 4.2: frames of this size must be taken.
_LEAST_MAX_FRAME_SIZE = 16_384


class Handler(RequestHandler, Protocol):
    """Who is told what the peer did. Called on L, from within `Connection.receive`."""

    def bytes_sent(self, stream: Stream, count: int) -> None:
        """``count`` body bytes of the response left (called from `bytes_to_send`)."""

    def ping_acknowledged(self, data: bytes) -> None:
        """The peer answered a PING of ours."""


class Connection:
    """The server's side of one HTTP/2 connection. Every field is owned by L.

    :param settings: limits and windows; see `gunicorn_h2.settings`.
    :param now: seconds, any monotonic clock, here and in every method.
    """

    def __init__(self, settings: Settings, handler: Handler, now: float) -> None:
        self._handler = handler
        self._control = Budget(settings.max_control_frames, settings.flood_interval, now)
        self.guard = Guard(
            settings.max_frame_size,
            # What fits into the smallest frame is read: the answer can be 431 then.
            max(settings.max_header_list_size, _LEAST_MAX_FRAME_SIZE),
            self._control,
            Budget(settings.max_empty_data, settings.flood_interval, now),
        )
        self._preface_left = frames.PREFACE
        #: The connection has failed: flush `bytes_to_send`, then close.
        self.failed = False
        self._released = False
        #: The peer has announced that it opens no further streams.
        self.peer_going_away = False
        self.settings_acknowledged = False
        self._h2 = Engine(settings)
        #: What the applications answer; the session queues it there.
        self.responses = Responses(self._h2, self._data_sent, self._complete)
        self._requests = Requests(self._h2, settings, handler, self.responses, now)
        #: Streams that are open or half-closed.
        self.streams = self._requests.streams

    # -- what the peer sends ------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the transport and tell the handler what they mean.

        Never raises for anything a peer can send: what it breaks sets `failed`,
        and `bytes_to_send` then ends with the GOAWAY that says why.
        """
        if self.failed:
            return
        try:
            if self._preface_left:
                data = self._receive_preface(data)
            for frame in self.guard.frames(data, now):
                self._receive_frame(frame, now)
        except ConnectionFault as fault:
            self.fail(fault.code)

    def fail(self, code: ErrorCodes) -> None:
        """End the connection with GOAWAY(``code``) for a fault of the peer."""
        if not self.failed:
            self._write_goaway(self._requests.fail(), code)
            self.failed = True

    def _receive_preface(self, data: bytes) -> bytes:
        left = self._preface_left
        part = data[: len(left)]
        if not left.startswith(part):
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "not the HTTP/2 preface")
        self._preface_left = left[len(part) :]
        self._h2.feed(part)
        return data[len(part) :]

    def _receive_frame(self, frame: Frame, now: float) -> None:
        match frame.type:
            case frames.DATA:
                self._requests.receive_data(frame, now)
            case frames.HEADERS | frames.CONTINUATION:
                self._requests.receive_headers(frame, now)
            case frames.WINDOW_UPDATE:
                self._receive_window_update(frame, now)
            case frames.RST_STREAM:
                self._requests.receive_reset(frame, now)
            case frames.SETTINGS:
                self._receive_settings(frame)
            case frames.PING:
                for event in self._h2.feed(frame.raw):
                    if isinstance(event, PingAckReceived):
                        self._handler.ping_acknowledged(event.ping_data or b"")
            case frames.PRIORITY:
                self._receive_priority(frame, now)
            case frames.PRIORITY_UPDATE:
                self._receive_priority_update(frame)
            case frames.GOAWAY:
                self._receive_goaway(frame)
            case _:
                # RFC 9113 section 5.5: frames of unknown types are discarded.
                pass

    def _receive_window_update(self, frame: Frame, now: float) -> None:
        increment = frames.window_increment(frame)
        stream = self.streams.get(frame.stream_id)
        if not increment:
            # RFC 9113 section 6.9: an error of the stream, where there is one to reset.
            if stream is None:
                raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "WINDOW_UPDATE of nothing")
            self._requests.peer_fault(stream, now)
            return
        for event in self._h2.feed_window_update(frame.stream_id, increment):
            if isinstance(event, StreamReset):
                self._requests.reset_by_h2(frame.stream_id, now)
            elif stream is not None:
                self.responses.window_opened(stream)
            else:
                self.responses.connection_window_opened()

    def _receive_settings(self, frame: Frame) -> None:
        for event in self._h2.feed_settings(*frames.known_settings(frame)):
            if isinstance(event, SettingsAcknowledged):
                self.settings_acknowledged = True
            else:
                for stream in self.streams.values():
                    self.responses.window_opened(stream)

    def _receive_priority(self, frame: Frame, now: float) -> None:
        # RFC 9113 section 5.3 deprecates the scheme; what remains is its errors.
        code = frames.priority_error(frame)
        if code is None:
            return
        stream = self.streams.get(frame.stream_id)
        if stream is None:
            # Nothing to reset on an idle or closed stream.
            raise ConnectionFault(code, "bad PRIORITY")
        self._requests.peer_fault(stream, now, code)

    def _receive_priority_update(self, frame: Frame) -> None:
        stream_id, value = frames.priority_update(frame)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.responses.reprioritize(stream, *parse_priority(value))
        else:
            self._requests.prioritize(
                stream_id, parse_priority(value), limited=self.settings_acknowledged
            )

    def _receive_goaway(self, frame: Frame) -> None:
        # h2 would close the connection at once and refuse the responses still
        # in flight; a GOAWAY only says that no new streams will come.
        frames.check_goaway(frame)
        self.peer_going_away = True

    # -- for the session ---------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Send RST_STREAM(``code``) and forget the stream."""
        self._requests.reset(stream, code)

    def credit(self, stream: Stream, count: int) -> None:
        """Give ``count`` flow-controlled bytes back: the application has read them."""
        self._requests.credit(stream, count)

    def application_waits(self, stream: Stream, now: float) -> None:
        """The application has read all that came, and waits for more."""
        self._requests.application_waits(stream, now)

    def discard_body(self, stream: Stream) -> None:
        """Nobody reads the body any more: give back what came, and what comes."""
        self._requests.discard_body(stream)

    def tick(self, now: float) -> None:
        """Reset the streams whose request goes on too long after its response."""
        for stream in list(self.streams.values()):
            if stream.completed_at is not None and now - stream.completed_at > DISCARD_TIMEOUT:
                self.reset(stream, ErrorCodes.NO_ERROR)

    def release(self) -> None:
        """The transport is gone: keep no memory until a garbage collector comes by.

        The streams must have been taken out before. What is still called after this,
        for threads that were running, finds nothing to do.
        """
        if not self._released:
            self.failed = self._released = True
            self._h2.release()
            del self._h2, self._handler, self._requests, self.responses

    def ping(self, data: bytes) -> None:
        """Queue a PING with 8 bytes of ``data``."""
        if not self.failed:
            self._h2.ping(data)

    def announce_goaway(self, last: bool) -> None:
        """Queue GOAWAY(NO_ERROR): with ``last``, naming the last stream that was
        accepted; before that, naming no limit yet (RFC 9113 section 6.8)."""
        if self.failed:
            return
        self._write_goaway(self._requests.leave(last), ErrorCodes.NO_ERROR)

    def _write_goaway(self, last_stream_id: int, code: ErrorCodes) -> None:
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code)
        self._h2.write(frame.serialize())

    # -- bytes for the transport ----------------------------------------------

    def bytes_to_send(self, room: int, now: float) -> bytearray:
        """Everything that must go, and as much of the responses as ``room`` bytes hold.

        Urgency is decided here, as late as possible: pass only the room that the
        transport has.
        """
        if self._released:
            return bytearray()
        if not self.failed:
            self.responses.fill(room, now)
        return self._h2.take()

    def _data_sent(self, stream: Stream, count: int) -> None:
        # A peer that takes data has reason to send WINDOW_UPDATE and PING.
        self._control.earn(2)
        self._handler.bytes_sent(stream, count)

    def _complete(self, stream: Stream, now: float) -> None:
        if stream.failed:
            self.reset(stream, ErrorCodes.INTERNAL_ERROR)
        elif stream.body_ended:
            self._requests.close(stream)
        else:
            # RFC 9113 section 8.1 allows for RST_STREAM(NO_ERROR) at once, but clients
            # that are still sending then lose the response: first let them finish.
            self.responses.forget(stream)
            self.discard_body(stream)
            stream.completed_at = now
