"""What is to be sent on a connection's streams: queued here, framed as windows and room allow.

Pure, called on the loop thread; the sending half of `connection`. Windows are
asked of h2 for every frame and never kept here (RFC 9113 section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable

from .engine import Engine
from .frames import HEADER_LENGTH
from .scheduler import Scheduler
from .stream import Field, Stream

#: One turn of a stream, in bytes; larger frames would let it hold up the others.
_MAX_DATA_FRAME = 65_536


class Responses:
    """The responses of one connection that are not on the wire yet. Owned by L.

    :param sent: told of every DATA frame: the stream, and its bytes.
    :param completed: told when END_STREAM, or RST_STREAM in its place, has been written.
    """

    __slots__ = ("_completed", "_h2", "_held", "_scheduler", "_sent")

    def __init__(
        self,
        h2: Engine,
        sent: Callable[[Stream, int], None],
        completed: Callable[[Stream, float], None],
    ) -> None:
        self._h2 = h2
        self._sent = sent
        self._completed = completed
        self._scheduler = Scheduler()
        #: Streams whose data the connection's window holds back, in the order of their turns.
        self._held: dict[Stream, None] = {}

    # -- what the application answers ----------------------------------------------

    def add_informational(self, stream: Stream, fields: list[Field]) -> None:
        """Queue a 1xx response; ``fields`` begins with `:status`.

        Nothing once the head is on the wire: RFC 9110 section 15.2 has it come before.
        """
        if not stream.head_sent:
            stream.informational.append(fields)
            self._scheduler.add(stream)

    def add_head(self, stream: Stream, fields: list[Field]) -> None:
        """Queue the response's header block; ``fields`` begins with `:status`."""
        stream.head = fields
        self._scheduler.add(stream)

    def add_data(self, stream: Stream, parts: list[bytes], now: float) -> None:
        """Queue parts of the response's body."""
        size = sum(map(len, parts))
        if size:
            if not stream.queued:
                stream.last_progress = now
            stream.outbox.extend(parts)
            stream.queued += size
            self._scheduler.add(stream)

    def end(self, stream: Stream, trailers: list[Field]) -> None:
        """Queue the end of the response."""
        stream.response_ended = True
        stream.trailers = trailers
        self._scheduler.add(stream)

    def fail(self, stream: Stream) -> None:
        """The response ends here without being whole; what is queued is still sent."""
        stream.response_ended = stream.failed = True
        self._scheduler.add(stream)

    def forget(self, stream: Stream) -> None:
        """The stream is gone; drop what it still had to send."""
        self._scheduler.remove(stream)
        self._held.pop(stream, None)
        stream.outbox.clear()
        stream.queued = 0

    # -- what the peer allows ----------------------------------------------------

    def reprioritize(self, stream: Stream, urgency: int, incremental: bool) -> None:
        """Apply a priority signal (RFC 9218)."""
        self._scheduler.reprioritize(stream, urgency, incremental)

    def window_opened(self, stream: Stream) -> None:
        """The stream's window may have grown."""
        if stream.has_output:
            self._scheduler.add(stream)

    def connection_window_opened(self) -> None:
        """The connection's window has grown: who waited for it goes on where it was."""
        held, self._held = self._held, {}
        for stream in held:
            self.window_opened(stream)

    # -- frames ------------------------------------------------------------------

    def fill(self, room: int, now: float) -> None:
        """Have h2 frame as much as ``room`` bytes hold, the most urgent first."""
        while room > 0:
            stream = self._scheduler.next()
            if stream is None:
                break
            room -= self._send_turn(stream, room, now)

    def _send_turn(self, stream: Stream, room: int, now: float) -> int:
        """Send one turn of ``stream``; bytes used, about."""
        h2 = self._h2
        used = 0
        for fields in stream.informational:
            h2.write_fields(stream.id, fields, informational=True, ends=False)
            used += HEADER_LENGTH
        stream.informational.clear()
        ends = stream.response_ended
        if stream.head is not None:
            bare = ends and not (stream.queued or stream.trailers or stream.failed)
            h2.write_fields(stream.id, stream.head, ends=bare)
            stream.head = None
            stream.head_sent = True
            used += HEADER_LENGTH
            if bare:
                self._completed(stream, now)
                return used
        if stream.queued:
            window = min(h2.local_flow_control_window(stream.id), stream.queued)
            if window <= 0:
                # Others may have fields to send, which no window holds back.
                self._scheduler.remove(stream)
                if h2.outbound_flow_control_window <= 0:
                    self._held[stream] = None
                return used
            size = min(window, room, h2.max_outbound_frame_size, _MAX_DATA_FRAME)
            data = _take(stream, size)
            last = ends and not (stream.queued or stream.trailers or stream.failed)
            h2.write_data(stream.id, data, ends=last)
            stream.last_progress = now
            self._sent(stream, len(data))
            used += len(data)
            if last:
                self._completed(stream, now)
            elif stream.queued:
                self._scheduler.rotate(stream)
            elif not ends:
                self._scheduler.remove(stream)
            return used
        if ends:
            if stream.trailers:
                h2.write_fields(stream.id, stream.trailers, ends=True)
            elif not stream.failed:
                h2.write_data(stream.id, b"", ends=True)
            self._completed(stream, now)
            return used + HEADER_LENGTH
        self._scheduler.remove(stream)
        return used


def _take(stream: Stream, size: int) -> bytes | memoryview:
    """Take the next ``size`` bytes, at most, off the outbox; small parts are joined."""
    outbox = stream.outbox
    first = outbox[0]
    data: bytes | memoryview
    if len(first) > size:
        view = memoryview(first)
        outbox[0] = view[size:]
        data = view[:size]
    else:
        outbox.popleft()
        if len(first) < size and outbox:
            parts = [first]
            left = size - len(first)
            while outbox and len(outbox[0]) <= left:
                left -= len(outbox[0])
                parts.append(outbox.popleft())
            data = b"".join(parts)
        else:
            data = first
    stream.queued -= len(data)
    return data
