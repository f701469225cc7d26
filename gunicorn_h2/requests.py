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
from h2.events import RequestReceived, StreamReset, TrailersReceived

from . import frames
from .engine import Engine
from .fields import MalformedFields, RequestHead, request_head, trailer_fields
from .frames import ConnectionFault, Frame, block_fragment, unpadded
from .limits import Budget
from .responses import Responses
from .scheduler import parse_priority
from .settings import Settings
from .stream import Field, Stream
from .windows import ReceiveWindows

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
        "_block",
        "_block_ends",
        "_failed",
        "_h2",
        "_handler",
        "_last_accepted",
        "_leaving",
        "_priorities",
        "_reset_lately",
        "_resets",
        "_responses",
        "_settings",
        "_windows",
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
        self._windows = ReceiveWindows(h2, settings)
        self._resets = Budget(settings.max_resets, settings.flood_interval, now)
        #: Streams that we reset lately: their peer may not know yet.
        self._reset_lately: deque[int] = deque(maxlen=_RESETS_REMEMBERED)
        #: The header block now being received, and whether it ends its stream.
        self._block = b""
        self._block_ends = False
        #: Urgency and whether incremental, of streams that are still idle.
        self._priorities: dict[int, tuple[int, bool]] = {}
        #: A GOAWAY has been sent, other than for a fault.
        self._leaving = False
        #: Ids above this one are refused: the last GOAWAY named it.
        self._last_accepted = _MAX_STREAM_ID
        #: The connection has failed: h2 takes nothing more.
        self._failed = False

    # -- header blocks -----------------------------------------------------------

    def receive_headers(self, frame: Frame, now: float) -> None:
        """A HEADERS or CONTINUATION frame."""
        if frame.type == frames.HEADERS:
            self._block = block_fragment(frame)
            self._block_ends = bool(frame.flags & frames.END_STREAM)
        else:
            self._block += frame.payload
        if frame.flags & frames.END_HEADERS:
            block, self._block = self._block, b""
            self._receive_block(frame.stream_id, block, self._block_ends, now)

    def _receive_block(self, stream_id: int, block: bytes, ends: bool, now: float) -> None:
        gone = self._is_gone(stream_id)
        stream = self.streams.get(stream_id)
        # RFC 9113 section 8.1: trailers that do not end the stream are an error of the
        # stream. h2 takes the connection, unless it sees that they do.
        events = self._h2.feed_headers(stream_id, block, ends or stream is not None)
        fields = self._h2.fields.take()
        if gone:
            self._discarded(stream_id, now)
            return
        for event in events:
            if isinstance(event, RequestReceived):
                self._start(stream_id, fields, ends, now)
            elif isinstance(event, TrailersReceived) and stream is not None:
                self._end_with_trailers(stream, fields, ends, now)
            elif isinstance(event, StreamReset):
                self.reset_by_h2(stream_id, now)

    def _start(self, stream_id: int, fields: list[Field], ended: bool, now: float) -> None:
        settings = self._settings
        priority = self._take_priority(stream_id)
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
        if priority is None and head.priority:
            priority = parse_priority(head.priority)
        if priority is not None:
            stream.urgency, stream.incremental = priority
        self.streams[stream_id] = stream
        stream.body_ended = ended
        self._handler.request_started(stream, head)
        if ended and stream_id in self.streams:
            self._handler.body_ended(stream, [])

    def _end_with_trailers(
        self, stream: Stream, fields: list[Field], ends: bool, now: float
    ) -> None:
        settings = self._settings
        try:
            if not ends:
                raise MalformedFields("trailers without END_STREAM")
            trailers = trailer_fields(
                fields, settings.max_header_list_size, settings.max_header_fields
            )
        except MalformedFields:
            self.peer_fault(stream, now)
            return
        self._end_body(stream, trailers, now)

    def prioritize(self, stream_id: int, priority: tuple[int, bool], *, limited: bool) -> None:
        """Keep the urgency, and whether incremental, of a stream that is still idle.

        :param limited: the peer knows how many streams it may have, idle ones that it has
            prioritized included (RFC 9218 section 7.1).
        """
        if stream_id <= self._h2.highest_inbound_stream_id:
            return  # It is closed.
        count = len(self.streams) + len(self._priorities)
        if stream_id in self._priorities or count < self._settings.max_concurrent_streams:
            self._priorities[stream_id] = priority
        elif limited:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "too many prioritized streams")

    def _take_priority(self, stream_id: int) -> tuple[int, bool] | None:
        """What was kept for a stream that opens; idle streams below it are closed by that."""
        priority = self._priorities.get(stream_id)
        for each in [each for each in self._priorities if each <= stream_id]:
            del self._priorities[each]
        return priority

    # -- bodies ------------------------------------------------------------------

    def receive_data(self, frame: Frame, now: float) -> None:
        """A DATA frame."""
        stream_id, length = frame.stream_id, len(frame.payload)
        data = unpadded(frame)
        ends = bool(frame.flags & frames.END_STREAM)
        stream = self.streams.get(stream_id)
        if stream is not None and not length:
            self._h2.allow_empty_data(stream_id)
        events = self._h2.feed_data(stream_id, length, ends)
        if stream is None:
            self._discarded(stream_id, now)
        elif any(isinstance(event, StreamReset) for event in events):
            self.reset_by_h2(stream_id, now)
        else:
            self._receive_part(stream, data, length, ends, now)

    def _receive_part(
        self, stream: Stream, data: bytes, credit: int, ends: bool, now: float
    ) -> None:
        stream.received += len(data)
        stream.uncredited += credit
        if stream.content_length is not None and stream.received > stream.content_length:
            self.peer_fault(stream, now)
            return
        if data and not stream.discards_body:
            self._handler.body_received(stream, data, credit)
        else:
            self.credit(stream, credit)
        if ends and stream.id in self.streams:
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

    def application_waits(self, stream: Stream, now: float) -> None:
        """The application has read all that came, and waits for more."""
        if not stream.body_ended:
            self._windows.application_waits(stream, now)

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
        self._windows.forget(stream)
        self.credit(stream, stream.uncredited)
        if not self._failed:
            self._h2.forget(stream.id)

    def _abort(self, stream: Stream, now: float) -> None:
        self.close(stream)
        self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _send_reset(self, stream_id: int, code: ErrorCodes) -> None:
        # What a peer sends after its response may be wrong, and end the stream as well.
        if not self._failed and not self._h2.has_ended(stream_id):
            self._h2.reset_stream(stream_id, code)
            self._h2.forget(stream_id)
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

    def _discarded(self, stream_id: int, now: float) -> None:
        """h2 has answered a frame for a stream that is gone with RST_STREAM(STREAM_CLOSED)."""
        if stream_id in self._reset_lately:
            # RFC 9113 section 5.1: the peer could not know yet.
            self._h2.take_back_reset()
        else:
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
