"""A recorded trace of a client, served by the pure core; `instructions` counts what that takes.

    python -m benchmarks.core_trace FILE [--count-calls]

It imports no more than it needs, since an instruction counted is one that takes long.
"""

from __future__ import annotations

import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from gunicorn_h2.connection import Connection
from gunicorn_h2.fields import RequestHead
from gunicorn_h2.settings import Settings
from gunicorn_h2.stream import Field, Stream

#: The size of a response's body, by path.
SIZES = {b"/small": 13, b"/large": 262_144}
_ROOM = 1 << 20
_LENGTH = struct.Struct(">I")


def pack(reads: list[bytes]) -> bytes:
    """What `unpack` takes."""
    return b"".join(_LENGTH.pack(len(read)) + read for read in reads)


def unpack(recorded: bytes) -> Iterator[bytes]:
    """What the loop found in the socket, one turn after another."""
    position = 0
    while position < len(recorded):
        (length,) = _LENGTH.unpack_from(recorded, position)
        position += _LENGTH.size
        yield recorded[position : position + length]
        position += length


class Application:
    """A `Handler` that answers each request when it is complete."""

    def __init__(self) -> None:
        self.connection = Connection(Settings(), self, now=0.0)
        self.answered = 0
        self._sizes: dict[int, int] = {}

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        self._sizes[stream.id] = SIZES[head.path]

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        self.connection.credit(stream, credit)

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        size = self._sizes.pop(stream.id)
        responses = self.connection.responses
        head = [(b":status", b"200"), (b"server", b"gunicorn"), (b"content-type", b"text/plain")]
        responses.add_head(stream, [*head, (b"content-length", b"%d" % size)])
        responses.add_data(stream, [bytes(size)], 0.0)
        responses.end(stream, [])
        self.answered += 1

    def stream_aborted(self, stream: Stream) -> None:
        raise AssertionError(f"stream {stream.id} was aborted")

    def bytes_sent(self, stream: Stream, count: int) -> None:
        """Nothing is done when a body's bytes leave."""

    def ping_acknowledged(self, data: bytes) -> None:
        """None is sent."""


def replay(recorded: bytes) -> int:
    """Serve the trace; how many requests were answered."""
    application = Application()
    connection = application.connection
    for data in unpack(recorded):
        connection.receive(data, 0.0)
        while connection.bytes_to_send(_ROOM, 0.0):
            pass
    assert not connection.failed and not connection.streams
    return application.answered


def count_calls(recorded: bytes) -> int:
    """The calls of functions, those of C too, that `replay` takes."""
    events: Counter[str] = Counter()

    def note(_: FrameType, event: str, __: object) -> None:
        events[event] += 1

    sys.setprofile(note)
    try:
        replay(recorded)
    finally:
        sys.setprofile(None)
    return events["call"] + events["c_call"]


if __name__ == "__main__":
    trace = Path(sys.argv[1]).read_bytes()
    print(count_calls(trace) if "--count-calls" in sys.argv else replay(trace))
