"""The applications behind a connection that is fuzzed: what they are told, and what they do.

They keep the rules of a session: one head, nothing after the end of a response, and no
more queued than the high-water mark lets through.
"""

from __future__ import annotations

from h2.errors import ErrorCodes

from gunicorn_h2.connection import Connection
from gunicorn_h2.fields import RequestHead
from gunicorn_h2.stream import Field, Stream
from tests.support.core import Recorder

from .choices import Choices
from .ledger import must

HIGH_WATER_MARK = 65_536
PART_SIZES = [0, 1, 10, 1_000, 9_000, 40_000, 70_000]

#: Bytes that say where in a body they belong; 251 is prime to the sizes of frames.
_PATTERN = bytes(range(251)) * 400


def body_of(stream_id: int, start: int, size: int) -> bytes:
    """What stream ``stream_id`` is answered, from byte ``start`` on."""
    first = (start + stream_id) % 251
    whole = _PATTERN * (1 + (first + size) // len(_PATTERN))
    return whole[first : first + size]


class Applications(Recorder):
    """Remembers what the handler was told, and sees that it is told in order."""

    #: To be set before the first of them acts.
    connection: Connection

    def __init__(self, choices: Choices) -> None:
        super().__init__()
        self._choices = choices
        self._now = 0.0
        self._goaways_announced = 0
        #: Streams of which nothing has been heard that ended them.
        self.open: set[int] = set()
        self.body_ended_of: set[int] = set()
        self.written: dict[int, int] = {}
        #: Head queued; response ended, and by failing.
        self.heads_of: set[int] = set()
        self.answered: set[int] = set()
        self.failed_of: set[int] = set()
        self._acts = [
            self._answer,
            self._write,
            self.end,
            self._read,
            self._inform,
            self._fail,
            self._reset,
            self._discard,
            self._ping,
            self._drain,
        ]

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        super().request_started(stream, head)
        self.open.add(stream.id)
        self.written[stream.id] = 0
        must(head.method, "a request without method", head)
        for name, value in head.fields:
            must(name and name == name.lower() and name[:1] != b":", "a field name", name)
            must(not {0, 10, 13} & set(value), "a field value", value)

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        self._must_be_open(stream)
        must(stream.id not in self.body_ended_of, "a body after its end", stream.id)
        super().body_received(stream, data, credit)
        length = stream.content_length
        must(length is None or stream.received <= length, "a body too long", stream.id)

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        self._must_be_open(stream)
        must(stream.id not in self.body_ended_of, "two ends of a body", stream.id)
        self.body_ended_of.add(stream.id)
        must(stream.content_length in (None, 0, stream.received), "a body too short", stream.id)
        super().body_ended(stream, trailers)

    def stream_aborted(self, stream: Stream) -> None:
        self._must_be_open(stream)
        self.open.remove(stream.id)
        super().stream_aborted(stream)

    def _must_be_open(self, stream: Stream) -> None:
        must(stream.id in self.open, "told of a stream that is gone", stream.id)

    # -- what they do --------------------------------------------------------------

    def act(self, now: float) -> None:
        """One application does one thing, if there is any that is running."""
        self._now = now
        streams = list(self.connection.streams.values())
        act = self._choices.pick(self._acts)
        if streams:
            act(self._choices.pick(streams))

    def _answer(self, stream: Stream) -> None:
        if stream.id not in self.heads_of | self.answered:
            self.heads_of.add(stream.id)
            # More than one frame holds, but hpack is slow with it.
            field = (b"x", b"X" * 17_000 if self._choices.one_in(32) else b"y")
            self.connection.responses.add_head(stream, [(b":status", b"200"), field])

    def _write(self, stream: Stream) -> None:
        if stream.id in self.answered or stream.queued > HIGH_WATER_MARK:
            return
        self._answer(stream)
        start = self.written[stream.id]
        self.written[stream.id] += (size := self._choices.pick(PART_SIZES))
        self.connection.responses.add_data(stream, [body_of(stream.id, start, size)], self._now)

    def end(self, stream: Stream) -> None:
        """The response is complete, however much of it there was."""
        if stream.id not in self.answered:
            self._answer(stream)
            self.answered.add(stream.id)
            trailers = [(b"x", b"y")] if self._choices.one_in(3) else []
            self.connection.responses.end(stream, trailers)

    def _read(self, stream: Stream) -> None:
        owed = self.owed[stream.id]
        count = owed if self._choices.one_in(2) else owed // 2
        self.owed[stream.id] -= count
        self.connection.credit(stream, count)
        if count == owed:
            self.connection.application_waits(stream, self._now)

    def _inform(self, stream: Stream) -> None:
        if stream.id not in self.answered:
            self.connection.responses.add_informational(stream, [(b":status", b"103")])

    def _fail(self, stream: Stream) -> None:
        if stream.id not in self.answered:
            self.answered.add(stream.id)
            self.failed_of.add(stream.id)
            self.connection.responses.fail(stream)

    def _reset(self, stream: Stream) -> None:
        self.connection.reset(stream, ErrorCodes.CANCEL)
        self.open.remove(stream.id)

    def _discard(self, stream: Stream) -> None:
        self.connection.discard_body(stream)

    def _ping(self, _: Stream) -> None:
        self.connection.ping(b"alive?!?")

    def _drain(self, _: Stream) -> None:
        if self._goaways_announced < 2:
            self._goaways_announced += 1
            self.connection.announce_goaway(last=self._goaways_announced == 2)
