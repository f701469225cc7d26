"""Which stream sends next: urgency first, then a round-robin (RFC 9218).

Pure, called on the loop thread. It knows streams that could send, not how much
they may: a stream that turns out to be blocked by flow control is left out of
the ring until its window opens.
"""

from __future__ import annotations

from collections import deque

from .stream import Stream


class Scheduler:
    """Rings of streams that have something to send, one ring per urgency."""

    __slots__ = ("_rings",)

    def __init__(self) -> None:
        #: By urgency, and none is empty: even an empty deque takes 0.7 KB, and most
        #: connections are idle.
        self._rings: dict[int, deque[Stream]] = {}

    def add(self, stream: Stream) -> None:
        """Let ``stream`` take part, at the end of its ring. No-op if it does already."""
        if not stream.ready:
            stream.ready = True
            self._rings.setdefault(stream.urgency, deque()).append(stream)

    def remove(self, stream: Stream) -> None:
        """Take ``stream`` out, wherever it stands. No-op if it is not in a ring."""
        if stream.ready:
            stream.ready = False
            ring = self._rings[stream.urgency]
            ring.remove(stream)
            if not ring:
                del self._rings[stream.urgency]

    def reprioritize(self, stream: Stream, urgency: int, incremental: bool) -> None:
        """Apply a priority signal (`priority` field or PRIORITY_UPDATE)."""
        was_ready = stream.ready
        self.remove(stream)
        stream.urgency = urgency
        stream.incremental = incremental
        if was_ready:
            self.add(stream)

    def next(self) -> Stream | None:
        """The stream whose turn it is; it stays in the ring until `remove`."""
        return self._rings[min(self._rings)][0] if self._rings else None

    def rotate(self, stream: Stream) -> None:
        """``stream``, just returned by `next`, has had its turn.

        A non-incremental response is of use only when it is whole (RFC 9218
        section 4.2), so such a stream keeps its turn until it is done or blocked.
        """
        if stream.incremental:
            self._rings[stream.urgency].rotate(-1)


def parse_priority(value: bytes) -> tuple[int, bool]:
    """Read a `priority` field value: (urgency, incremental).

    What cannot be read is ignored, member by member, as RFC 9218 section 4
    asks; only the two known members are looked at.
    """
    urgency, incremental = 3, False
    for member in value.split(b","):
        name, _, argument = member.strip(b" \t").partition(b";")[0].partition(b"=")
        if name == b"u" and len(argument) == 1 and b"0" <= argument <= b"7":
            urgency = int(argument)
        elif name == b"i":
            if argument in (b"", b"?1"):
                incremental = True
            elif argument == b"?0":
                incremental = False
    return urgency, incremental
