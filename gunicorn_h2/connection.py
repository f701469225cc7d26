"""One HTTP/2 connection: bytes in, requests out; response parts in, bytes out.

Pure, called on the loop thread; with its sending half, `responses`, the only user
of `engine`, which is h2. No clock, no socket, no thread may be touched in here:
time is passed in as ``now``, bytes are passed in and handed out, and what the peer
did is told to a `Handler`.

h2 keeps the state machines and the windows (RFC 9113 sections 5 and 6). What it
makes too dear or too strict is done before it sees the frame: bounds by
`guard`, field checks by `fields`, and here the frames that are better not shown
to it at all (PRIORITY, GOAWAY, unknown ones) or only in part (SETTINGS).
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import GoAwayFrame

from . import frames
from .engine import Engine
from .fields import MalformedFields, RequestHead, request_head, trailer_fields
from .frames import ConnectionFault, Frame, known_settings, with_end_stream, without_priority
from .guard import Guard
from .limits import Budget
from .responses import Responses
from .scheduler import parse_priority
from .settings import Settings
from .stream import Field, Stream

#: How long the rest of a request is taken and dropped after its response, in seconds.
DISCARD_TIMEOUT = 2.0
_MAX_STREAM_ID = 2**31 - 1
#: RFC 9113 section 4.2: frames of this size must be taken.
_LEAST_MAX_FRAME_SIZE = 16_384
#: Streams that we have reset of which we remember that it was us.
_RESETS_REMEMBERED = Engine.MAX_CLOSED_STREAMS


class Handler(Protocol):
    """Who is told what the peer did. Called on L, from within `Connection.receive`."""

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        """A request's header block is there; its body, if any, follows."""

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        """``credit`` flow-controlled bytes are owed to the peer once ``data`` is read."""

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        """The request is complete."""

    def stream_aborted(self, stream: Stream) -> None:
        """The stream is gone: reset by the peer, or by us for the peer's fault."""

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
        self._settings = settings
        self._handler = handler
        self._control = Budget(settings.max_control_frames, settings.flood_interval, now)
        self._resets = Budget(settings.max_resets, settings.flood_interval, now)
        self.guard = Guard(
            settings.max_frame_size,
            # What fits into the smallest frame is read: the answer can be 431 then.
            max(settings.max_header_list_size, _LEAST_MAX_FRAME_SIZE),
            self._control,
            Budget(settings.max_empty_data, settings.flood_interval, now),
        )
        #: Streams that are open or half-closed.
        self.streams: dict[int, Stream] = {}
        #: A GOAWAY has been sent, other than for a fault.
        self._leaving = False
        #: Ids above this one are refused: the last GOAWAY named it.
        self._last_accepted = _MAX_STREAM_ID
        self._preface_left = frames.PREFACE
        #: The header block now being received goes on where only trailers may come,
        #: but without END_STREAM.
        self._trailers_go_on = False
        #: Streams that we reset lately: their peer may not know yet.
        self._reset_lately: deque[int] = deque(maxlen=_RESETS_REMEMBERED)
        #: The connection has failed: flush `bytes_to_send`, then close.
        self.failed = False
        self._released = False
        #: The peer has announced that it opens no further streams.
        self.peer_going_away = False
        self.settings_acknowledged = False
        self._h2 = Engine(settings)
        #: What the applications answer; the session queues it there.
        self.responses = Responses(self._h2, self._data_sent, self._complete)

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
            self._write_goaway(min(self._h2.highest_inbound_stream_id, self._last_accepted), code)
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
                self._receive_data(frame, now)
            case frames.HEADERS | frames.CONTINUATION:
                self._receive_headers(frame, now)
            case frames.WINDOW_UPDATE:
                self._receive_window_update(frame, now)
            case frames.RST_STREAM:
                self._receive_reset(frame, now)
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

    def _receive_headers(self, frame: Frame, now: float) -> None:
        raw = frame.raw
        if frame.type == frames.HEADERS:
            if frame.flags & frames.PRIORITY_FLAG:
                raw = without_priority(frame)
            self._trailers_go_on = (
                frame.stream_id in self.streams and not frame.flags & frames.END_STREAM
            )
            if self._trailers_go_on:
                # RFC 9113 section 8.1: an error of the stream. h2 takes the connection,
                # unless it sees the flag.
                raw = with_end_stream(raw)
        if not frame.flags & frames.END_HEADERS:
            self._h2.feed(raw)
            return
        if self._is_gone(frame.stream_id):
            self._discard(raw, frame.stream_id, now)
            self._h2.fields.take()
            return
        events = self._h2.feed(raw)
        fields = self._h2.fields.take()
        ended = any(isinstance(event, StreamEnded) for event in events)
        for event in events:
            if isinstance(event, RequestReceived):
                self._start_request(frame.stream_id, fields, ended, now)
            elif isinstance(event, TrailersReceived):
                self._end_with_trailers(frame.stream_id, fields, now)
            elif isinstance(event, StreamReset):
                self._reset_by_h2(frame.stream_id, now)

    def _start_request(self, stream_id: int, fields: list[Field], ended: bool, now: float) -> None:
        settings = self._settings
        if stream_id > self._last_accepted or len(self.streams) >= settings.max_concurrent_streams:
            self._send_reset(stream_id, ErrorCodes.REFUSED_STREAM)
            self._charge_reset(now)
            return
        try:
            head = request_head(fields, settings.max_header_list_size, settings.max_header_fields)
            if ended and head.content_length:
                raise MalformedFields("content-length without a body")
        except MalformedFields:
            self._send_reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            self._charge_reset(now)
            return
        stream = Stream(stream_id, head.content_length, now)
        if head.priority:
            stream.urgency, stream.incremental = parse_priority(head.priority)
        self.streams[stream_id] = stream
        stream.body_ended = ended
        self._handler.request_started(stream, head)
        if ended and stream_id in self.streams:
            self._handler.body_ended(stream, [])

    def _end_with_trailers(self, stream_id: int, fields: list[Field], now: float) -> None:
        stream = self.streams[stream_id]
        settings = self._settings
        try:
            if self._trailers_go_on:
                raise MalformedFields("trailers without END_STREAM")
            trailers = trailer_fields(
                fields, settings.max_header_list_size, settings.max_header_fields
            )
        except MalformedFields:
            self._peer_fault(stream, now)
            return
        self._end_body(stream, trailers, now)

    def _receive_data(self, frame: Frame, now: float) -> None:
        if self._is_gone(frame.stream_id):
            self._discard(frame.raw, frame.stream_id, now)
            return
        if len(frame.raw) == frames.HEADER_LENGTH and frame.stream_id in self.streams:
            self._h2.allow_empty_data(frame.stream_id)
        for event in self._h2.feed(frame.raw):
            if isinstance(event, StreamReset):
                self._reset_by_h2(frame.stream_id, now)
            elif isinstance(event, DataReceived):
                stream = self.streams[frame.stream_id]
                data, credit = event.data or b"", event.flow_controlled_length or 0
                stream.received += len(data)
                stream.uncredited += credit
                if stream.content_length is not None and stream.received > stream.content_length:
                    self._peer_fault(stream, now)
                    return
                if data and not stream.discards_body:
                    self._handler.body_received(stream, data, credit)
                else:
                    self.credit(stream, credit)
                if event.stream_ended is not None and stream.id in self.streams:
                    self._end_body(stream, [], now)

    def _end_body(self, stream: Stream, trailers: list[Field], now: float) -> None:
        if stream.content_length is not None and stream.received != stream.content_length:
            self._peer_fault(stream, now)
            return
        stream.body_ended = True
        if stream.completed_at is None:
            self._handler.body_ended(stream, trailers)
        else:
            self._close(stream)

    def _receive_window_update(self, frame: Frame, now: float) -> None:
        increment, raw = frames.window_update(frame)
        stream = self.streams.get(frame.stream_id)
        if stream is not None and increment == 0:
            # RFC 9113 section 6.9: an error of the stream; h2 takes the connection.
            self._peer_fault(stream, now)
            return
        for event in self._h2.feed(raw):
            if isinstance(event, StreamReset):
                self._reset_by_h2(frame.stream_id, now)
            elif stream is not None:
                self.responses.window_opened(stream)
            else:
                self.responses.connection_window_opened(self.streams.values())

    def _receive_reset(self, frame: Frame, now: float) -> None:
        if len(frame.payload) != 4:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "RST_STREAM of a wrong length")
        even = frame.stream_id % 2 == 0
        if even or frame.stream_id > self._h2.highest_inbound_stream_id:
            if self._leaving and not even:
                # nghttp2 resets what it had queued when our GOAWAY came, and has never sent.
                # RFC 9113 section 6.8 lets us discard it; the streams that run go on.
                return
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self._h2.feed(frame.raw)
        stream = self.streams.get(frame.stream_id)
        if stream is not None:
            self._close(stream)
            self._handler.stream_aborted(stream)
            self._charge_reset(now)

    def _receive_settings(self, frame: Frame) -> None:
        raw = known_settings(frame)
        for event in self._h2.feed_settings(raw, frames.smallest_table_size(frame)):
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
        self._peer_fault(stream, now, code)

    def _receive_priority_update(self, frame: Frame) -> None:
        stream_id, value = frames.priority_update(frame)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self.responses.reprioritize(stream, *parse_priority(value))

    def _receive_goaway(self, frame: Frame) -> None:
        # h2 would close the connection at once and refuse the responses still
        # in flight; a GOAWAY only says that no new streams will come.
        frames.check_goaway(frame)
        self.peer_going_away = True

    def _peer_fault(
        self, stream: Stream, now: float, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
    ) -> None:
        self.reset(stream, code)
        self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _reset_by_h2(self, stream_id: int, now: float) -> None:
        stream = self.streams[stream_id]
        self._reset_lately.append(stream_id)
        self._close(stream)
        self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _is_gone(self, stream_id: int) -> bool:
        """Whether the peer has used the stream, and it is closed now."""
        return (
            stream_id not in self.streams
            and stream_id % 2 == 1
            and stream_id <= self._h2.highest_inbound_stream_id
        )

    def _discard(self, raw: bytes, stream_id: int, now: float) -> None:
        """Drop a frame for a stream that is gone (RFC 9113 section 5.1)."""
        if stream_id in self._reset_lately:
            self._h2.feed_unanswered(raw)
        else:
            self._h2.feed(raw)
            # h2 has answered with RST_STREAM(STREAM_CLOSED).
            self._charge_reset(now)

    def _charge_reset(self, now: float) -> None:
        if not self._resets.spend(now):
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "too many reset streams")

    # -- for the session ---------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Send RST_STREAM(``code``) and forget the stream."""
        self._send_reset(stream.id, code)
        self._close(stream)

    def _send_reset(self, stream_id: int, code: ErrorCodes) -> None:
        # What a peer sends after its response may be wrong, and end the stream as well.
        if not self.failed and not self._h2.has_ended(stream_id):
            self._h2.reset_stream(stream_id, code)
            self._reset_lately.append(stream_id)

    def credit(self, stream: Stream, count: int) -> None:
        """Give ``count`` flow-controlled bytes back: the application has read them."""
        if stream.uncredited and not self.failed:
            stream.uncredited -= count
            self._h2.acknowledge_received_data(count, stream.id)

    def discard_body(self, stream: Stream) -> None:
        """Nobody reads the body any more: give back what came, and what comes."""
        stream.discards_body = True
        self.credit(stream, stream.uncredited)

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
            del self._h2, self._handler, self.responses

    def ping(self, data: bytes) -> None:
        """Queue a PING with 8 bytes of ``data``."""
        if not self.failed:
            self._h2.ping(data)

    def announce_goaway(self, last: bool) -> None:
        """Queue GOAWAY(NO_ERROR): with ``last``, naming the last stream that was
        accepted; before that, naming no limit yet (RFC 9113 section 6.8)."""
        if self.failed:
            return
        self._leaving = True
        if last:
            self._last_accepted = min(self._h2.highest_inbound_stream_id, self._last_accepted)
        self._write_goaway(self._last_accepted, ErrorCodes.NO_ERROR)

    def _write_goaway(self, last_stream_id: int, code: ErrorCodes) -> None:
        frame = GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code)
        self._h2.write(frame.serialize())

    def _close(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self.responses.forget(stream)
        self.credit(stream, stream.uncredited)

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
            self._send_reset(stream.id, ErrorCodes.INTERNAL_ERROR)
            self._close(stream)
        elif stream.body_ended:
            self._close(stream)
        else:
            # RFC 9113 section 8.1 allows for RST_STREAM(NO_ERROR) at once, but clients
            # that are still sending then lose the response: first let them finish.
            self.responses.forget(stream)
            self.discard_body(stream)
            stream.completed_at = now
