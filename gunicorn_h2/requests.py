"""What is received on a connection's streams: header blocks, DATA and RST_STREAM in, requests out.

Pure, called on the loop thread; the receiving half of `connection`. Streams are opened
and closed in here. Which frame is legal in which state is for h2 to say (RFC 9113
section 5.1); whether a message is well-formed (section 8) is checked here, since h2
would make an error of the connection of what is one of the stream.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived

from . import frames
from .engine import Engine
from .fields import MalformedFields, RequestHead, request_head, trailer_fields
from .frames import ConnectionFault, Frame, with_end_stream, without_priority
from .limits import Budget
from .responses import Responses
from .scheduler import parse_priority
from .settings import Settings
from .stream import Field, Stream

_MAX_STREAM_ID = 2**31 - 1
#: Streams that we have reset of which we remember that it was us.
_RESETS_REMEMBERED = Engine.MAX_CLOSED_STREAMS


class RequestHandler(Protocol):
    """Who is told of requests. Called on L, from within `Connection.receive`."""

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        """A request's header block is there; its body, if any, follows."""

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        """``credit`` flow-controlled bytes are owed to the peer once ``data`` is read."""

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        """The request is complete."""

    def stream_aborted(self, stream: Stream) -> None:
        """The stream is gone: reset by the peer, or by us for the peer's fault."""


class Requests:
    """The streams of one connection, and what is received on them. Owned by L.

    :param responses: told to forget the streams that are gone.
    """

    __slots__ = (
        "_failed",
        "_h2",
        "_handler",
        "_last_accepted",
        "_leaving",
        "_reset_lately",
        "_resets",
        "_responses",
        "_settings",
        "_trailers_go_on",
        "streams",
    )

    def __init__(
        self,
        h2: Engine,
        settings: Settings,
        handler: RequestHandler,
        responses: Responses,
        now: float,
    ) -> None:
        self._h2 = h2
        self._settings = settings
        self._handler = handler
        self._responses = responses
        #: Streams that are open or half-closed.
        self.streams: dict[int, Stream] = {}
        self._resets = Budget(settings.max_resets, settings.flood_interval, now)
        #: Streams that we reset lately: their peer may not know yet.
        self._reset_lately: deque[int] = deque(maxlen=_RESETS_REMEMBERED)
        #: The header block now being received goes on where only trailers may come,
        #: but without END_STREAM.
        self._trailers_go_on = False
        #: A GOAWAY has been sent, other than for a fault.
        self._leaving = False
        #: Ids above this one are refused: the last GOAWAY named it.
        self._last_accepted = _MAX_STREAM_ID
        #: The connection has failed: h2 takes nothing more.
        self._failed = False

    # -- header blocks -----------------------------------------------------------

    def receive_headers(self, frame: Frame, now: float) -> None:
        """A HEADERS or CONTINUATION frame."""
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
                self._start(frame.stream_id, fields, ended, now)
            elif isinstance(event, TrailersReceived):
                self._end_with_trailers(frame.stream_id, fields, now)
            elif isinstance(event, StreamReset):
                self.reset_by_h2(frame.stream_id, now)

    def _start(self, stream_id: int, fields: list[Field], ended: bool, now: float) -> None:
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
            self.peer_fault(stream, now)
            return
        self._end_body(stream, trailers, now)

    # -- bodies ------------------------------------------------------------------

    def receive_data(self, frame: Frame, now: float) -> None:
        """A DATA frame."""
        if self._is_gone(frame.stream_id):
            self._discard(frame.raw, frame.stream_id, now)
            return
        if len(frame.raw) == frames.HEADER_LENGTH and frame.stream_id in self.streams:
            self._h2.allow_empty_data(frame.stream_id)
        for event in self._h2.feed(frame.raw):
            if isinstance(event, StreamReset):
                self.reset_by_h2(frame.stream_id, now)
            elif isinstance(event, DataReceived):
                stream = self.streams[frame.stream_id]
                data, credit = event.data or b"", event.flow_controlled_length or 0
                stream.received += len(data)
                stream.uncredited += credit
                if stream.content_length is not None and stream.received > stream.content_length:
                    self.peer_fault(stream, now)
                    return
                if data and not stream.discards_body:
                    self._handler.body_received(stream, data, credit)
                else:
                    self.credit(stream, credit)
                if event.stream_ended is not None and stream.id in self.streams:
                    self._end_body(stream, [], now)

    def _end_body(self, stream: Stream, trailers: list[Field], now: float) -> None:
        if stream.content_length is not None and stream.received != stream.content_length:
            self.peer_fault(stream, now)
            return
        stream.body_ended = True
        if stream.completed_at is None:
            self._handler.body_ended(stream, trailers)
        else:
            self.close(stream)

    def credit(self, stream: Stream, count: int) -> None:
        """Give ``count`` flow-controlled bytes back: the application has read them."""
        if stream.uncredited and not self._failed:
            stream.uncredited -= count
            self._h2.acknowledge_received_data(count, stream.id)

    def discard_body(self, stream: Stream) -> None:
        """Nobody reads the body any more: give back what came, and what comes."""
        stream.discards_body = True
        self.credit(stream, stream.uncredited)

    # -- the end of a stream -------------------------------------------------------

    def receive_reset(self, frame: Frame, now: float) -> None:
        """An RST_STREAM frame."""
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
            self._abort(stream, now)

    def peer_fault(
        self, stream: Stream, now: float, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
    ) -> None:
        """Reset the stream for what its peer did."""
        self._send_reset(stream.id, code)
        self._abort(stream, now)

    def reset_by_h2(self, stream_id: int, now: float) -> None:
        """h2 has reset the stream for what its peer did."""
        self._reset_lately.append(stream_id)
        self._abort(self.streams[stream_id], now)

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Send RST_STREAM(``code``) and forget the stream."""
        self._send_reset(stream.id, code)
        self.close(stream)

    def close(self, stream: Stream) -> None:
        """The stream is closed: forget it."""
        del self.streams[stream.id]
        self._responses.forget(stream)
        self.credit(stream, stream.uncredited)

    def _abort(self, stream: Stream, now: float) -> None:
        self.close(stream)
        self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _send_reset(self, stream_id: int, code: ErrorCodes) -> None:
        # What a peer sends after its response may be wrong, and end the stream as well.
        if not self._failed and not self._h2.has_ended(stream_id):
            self._h2.reset_stream(stream_id, code)
            self._reset_lately.append(stream_id)

    def _charge_reset(self, now: float) -> None:
        if not self._resets.spend(now):
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "too many reset streams")

    # -- streams that are gone -------------------------------------------------------

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

    # -- the end of the connection ------------------------------------------------------

    def leave(self, last: bool) -> int:
        """The id for a GOAWAY to name: with ``last``, the newest, after which all are refused."""
        self._leaving = True
        if last:
            self._last_accepted = self._last()
        return self._last_accepted

    def fail(self) -> int:
        """Have nothing more to do with h2; the id for the GOAWAY that says why to name."""
        self._failed = True
        return self._last()

    def _last(self) -> int:
        """The newest stream of those that were accepted."""
        return min(self._h2.highest_inbound_stream_id, self._last_accepted)
