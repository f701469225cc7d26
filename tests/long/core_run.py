"""One input of the fuzzer, run: a `Connection`, its peer and its applications, step by step.

After every step the rules of `_check` hold, and those of the `Ledger`. At the end the
peer opens its windows and the applications answer everything: all of it must come out.
"""

from __future__ import annotations

from h2.errors import ErrorCodes

from gunicorn_h2.connection import DISCARD_TIMEOUT, Connection
from gunicorn_h2.fields import RequestHead
from gunicorn_h2.settings import Settings
from gunicorn_h2.stream import Field, Stream
from tests.support import wire
from tests.support.core import UNLIMITED, Recorder
from tests.support.wire import HEADER_LENGTH

from .choices import MAX_WINDOW, Choices, Sender
from .ledger import Ledger, must

#: What connections are set up with; small, so that every limit is within reach.
_SETTINGS = [
    Settings(max_concurrent_streams=3, initial_window_size=30_000),
    Settings(max_concurrent_streams=100, connection_window_size=65_535),
    Settings(
        max_concurrent_streams=5,
        initial_window_size=1,
        max_header_list_size=2_000,
        max_resets=5,
        max_empty_data=3,
        max_control_frames=20,
    ),
    Settings(initial_window_size=100_000, max_frame_size=20_000, max_header_fields=4),
]
_JUMPS = [0.01, 1.0, DISCARD_TIMEOUT + 0.1, 11.0, 100.0]
_ROOMS = [UNLIMITED, 0, 1, 10, 10_000]
_PART_SIZES = [0, 1, 10, 1_000, 9_000, 40_000, 70_000]
#: What the layers above let one response have queued: the mark, and one part above it.
_MAX_QUEUED = 65_536 + max(_PART_SIZES)
#: Control frames that answer to nothing: our greeting, GOAWAYs, a PING, resets of timers.
_CONTROL_SLACK = 2_000


def run(data: bytes) -> None:
    """Run one input; raises whatever there is to find."""
    choices = Choices(data)
    CoreRun(choices, choices.pick(_SETTINGS)).run()


class Applications(Recorder):
    """Remembers what the handler was told, and sees that it is told in order."""

    def __init__(self) -> None:
        super().__init__()
        #: Streams of which nothing has been heard that ended them.
        self.open: set[int] = set()
        self.body_ended_of: set[int] = set()
        self.written: dict[int, int] = {}
        #: Head queued; response ended, and by failing.
        self.heads_of: set[int] = set()
        self.answered: set[int] = set()
        self.failed_of: set[int] = set()

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


class CoreRun:
    """A connection that is taken through what ``choices`` say."""

    def __init__(self, choices: Choices, settings: Settings) -> None:
        self._choices = choices
        self._settings = settings
        self._now = 0.0
        self._apps = Applications()
        self._ledger = Ledger()
        self._sender = Sender(choices, self._ledger)
        self._connection = Connection(settings, self._apps, self._now)
        self._on_its_way = b""
        self._goaways_announced = 0
        self._acts = [
            self._answer,
            self._write,
            self._end,
            self._read,
            self._inform,
            self._fail,
            self._reset,
            self._discard,
            self._ping,
            self._drain,
        ]

    def run(self) -> None:
        """Take the connection through all that was chosen, and then to its end."""
        choices = self._choices
        if not choices.one_in(32):
            self._receive(wire.PREFACE + wire.settings_frame())
            self._check()
            if not choices.one_in(8):
                self._receive(wire.settings_frame(ack=True))
        steps = [self._frames, self._frames, self._act, self._act, self._flush, self._more]
        while choices.left and not self._connection.failed:
            choices.pick(steps)()
            self._check()
        if not self._connection.failed:
            self._finish()
        if self._connection.failed:
            self._check_failed()
        for stream_id, body in self._ledger.bodies.items():
            must(body == _body(stream_id, 0, len(body)), "another body", stream_id)

    # -- steps of the peer -------------------------------------------------------

    def _frames(self) -> None:
        self._on_its_way += self._sender.frames()
        size = len(self._on_its_way)
        self._deliver(self._choices.below(size + 1) if self._choices.one_in(6) else size)

    def _more(self) -> None:
        """What is rarer: time, noise, and many of the same."""
        choices = self._choices
        if choices.one_in(2):
            self._now += choices.pick(_JUMPS)
            self._tick()
        elif self._sender.rude():
            self._on_its_way += self._sender.noise()
            self._deliver(len(self._on_its_way))
        else:
            frames = self._sender.frames()
            most = 256 if len(frames) < 100 and self._sender.rude() else 4
            self._on_its_way += frames * (1 + choices.below(most))
            self._deliver(len(self._on_its_way))

    def _deliver(self, size: int) -> None:
        data, self._on_its_way = self._on_its_way[:size], self._on_its_way[size:]
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        self._ledger.sent(data)
        self._connection.receive(data, self._now)

    def _flush(self) -> None:
        self._take(self._choices.pick(_ROOMS))

    def _take(self, room: int) -> None:
        ledger = self._ledger
        before = ledger.data_received[0]
        ledger.received(self._connection.bytes_to_send(room, self._now))
        must(ledger.data_received[0] - before <= room, "more than there was room for", room)

    def _tick(self) -> None:
        """Time passes, as the session has it pass."""
        connection, settings, now = self._connection, self._settings, self._now
        if not connection.settings_acknowledged and now > settings.handshake_timeout:
            connection.fail(ErrorCodes.SETTINGS_TIMEOUT)
        started = connection.guard.block_started
        if started is not None and now - started > settings.header_timeout:
            connection.fail(ErrorCodes.ENHANCE_YOUR_CALM)
        connection.tick(now)
        for stream in list(connection.streams.values()):
            if stream.queued and now - stream.last_progress > settings.write_timeout:
                connection.reset(stream, ErrorCodes.CANCEL)
                self._apps.stream_aborted(stream)

    # -- steps of the applications -------------------------------------------------

    def _act(self) -> None:
        streams = list(self._connection.streams.values())
        act = self._choices.pick(self._acts)
        if streams:
            act(self._choices.pick(streams))

    def _answer(self, stream: Stream) -> None:
        if stream.id not in self._apps.heads_of | self._apps.answered:
            self._apps.heads_of.add(stream.id)
            fields = self._choices.pick([(), ((b"x", b"y"),), ((b"large", b"X" * 17_000),)])
            self._connection.responses.add_head(stream, [(b":status", b"200"), *fields])

    def _write(self, stream: Stream) -> None:
        apps = self._apps
        if stream.id in apps.answered or stream.queued > 65_536:
            return
        self._answer(stream)
        start = apps.written[stream.id]
        apps.written[stream.id] += (size := self._choices.pick(_PART_SIZES))
        self._connection.responses.add_data(stream, _body(stream.id, start, size), self._now)

    def _end(self, stream: Stream) -> None:
        if stream.id not in self._apps.answered:
            self._answer(stream)
            self._apps.answered.add(stream.id)
            trailers = [(b"x", b"y")] if self._choices.one_in(3) else []
            self._connection.responses.end(stream, trailers)

    def _read(self, stream: Stream) -> None:
        apps = self._apps
        owed = apps.owed[stream.id]
        count = owed if self._choices.one_in(2) else owed // 2
        apps.owed[stream.id] -= count
        self._connection.credit(stream, count)

    def _inform(self, stream: Stream) -> None:
        if stream.id not in self._apps.answered:
            self._connection.responses.add_informational(stream, [(b":status", b"103")])

    def _fail(self, stream: Stream) -> None:
        if stream.id not in self._apps.answered:
            self._apps.answered.add(stream.id)
            self._apps.failed_of.add(stream.id)
            self._connection.responses.fail(stream)

    def _reset(self, stream: Stream) -> None:
        self._connection.reset(stream, ErrorCodes.CANCEL)
        self._apps.open.remove(stream.id)

    def _discard(self, stream: Stream) -> None:
        self._connection.discard_body(stream)

    def _ping(self, _: Stream) -> None:
        self._connection.ping(b"alive?!?")

    def _drain(self, _: Stream) -> None:
        if self._goaways_announced < 2:
            self._goaways_announced += 1
            self._connection.announce_goaway(last=self._goaways_announced == 2)

    # -- what holds after every step -----------------------------------------------

    def _check(self) -> None:
        connection = self._connection
        if connection.failed:
            return
        # Control frames leave whatever room there is: the books are to be complete.
        self._take(0)
        ledger, settings, h2 = self._ledger, self._settings, connection._h2
        must(not ledger.goaways or not ledger.goaways[-1].error_code, "failed, but goes on")
        last_id = ledger.goaways[-1].last_stream_id if ledger.goaways else MAX_WINDOW
        must(all(each <= last_id for each in connection.streams), "beyond GOAWAY", last_id)
        must(len(connection.streams) <= settings.max_concurrent_streams, "too many streams")
        must(len(h2.streams) <= 2 * settings.max_concurrent_streams + 2, "too many in h2")
        must(len(h2._closed_streams) <= h2.MAX_CLOSED_STREAMS, "too many closed ones in h2")
        must(
            len(connection.guard._buffer) <= HEADER_LENGTH + settings.max_frame_size,
            "more than one frame held",
        )
        must(ledger.control_bytes <= 2 * ledger.bytes_sent + _CONTROL_SLACK, "amplified")
        self._check_streams()
        self._check_windows()

    def _check_streams(self) -> None:
        apps, ledger, streams = self._apps, self._ledger, self._connection.streams
        for stream_id in apps.open - streams.keys():
            # It went without an abort: its exchange must be complete.
            apps.open.remove(stream_id)
            if stream_id in apps.failed_of:
                must(stream_id in ledger.reset, "a failed response without reset", stream_id)
            else:
                must(stream_id in ledger.ended, "a stream lost", stream_id)
                written = apps.written[stream_id]
                must(len(ledger.bodies.get(stream_id, b"")) == written, "a part lost", stream_id)
        must(streams.keys() <= apps.open, "streams that were never told of, or are gone")
        for stream_id, stream in streams.items():
            must(stream.queued == sum(map(len, stream.outbox)), "queued bytes", stream_id)
            must(stream.queued <= _MAX_QUEUED, "too much queued", stream_id)
            must(stream_id not in ledger.reset, "open, but reset", stream_id)

    def _check_windows(self) -> None:
        """Every flow-controlled byte is in a window, unread, or about to be given back."""
        ledger, settings, h2 = self._ledger, self._settings, self._connection._h2
        manager = h2._inbound_flow_control_window_manager
        unread = sum(stream.uncredited for stream in self._connection.streams.values())
        whole = max(settings.connection_window_size, wire.DEFAULT_WINDOW)
        in_window = wire.DEFAULT_WINDOW + ledger.given_back[0] - ledger.data_sent[0]
        must(in_window == manager.current_window_size, "the connection's window", in_window)
        held_back = manager._bytes_processed
        must(in_window + held_back + unread == whole, "credit lost", in_window, held_back, unread)
        must(held_back <= whole // 2, "credit held back", held_back)
        initial = settings.initial_window_size
        if not self._connection.settings_acknowledged:
            initial = max(initial, wire.DEFAULT_WINDOW)
        for stream_id, stream in self._connection.streams.items():
            must(0 <= stream.uncredited <= ledger.data_sent[stream_id], "credit", stream_id)
            if not stream.discards_body:
                owed = self._apps.owed[stream_id]
                must(stream.uncredited == owed, "credit of a stream", stream_id, owed)
            if not stream.body_ended:
                window = initial + ledger.given_back[stream_id] - ledger.data_sent[stream_id]
                actual = h2.remote_flow_control_window(stream_id)
                must(actual == min(window, in_window), "a stream's window", stream_id, window)

    # -- the end ---------------------------------------------------------------------

    def _finish(self) -> None:
        """Answer everything, open the windows, and see all of it arrive."""
        self._deliver(len(self._on_its_way))
        if self._connection.failed or not self._ledger.between_frames:
            return
        self._check()
        self._now += 1_000.0  # all budgets are full again
        for stream in list(self._connection.streams.values()):
            self._end(stream)
        self._take(UNLIMITED)
        self._open_windows()
        self._take(UNLIMITED)
        if self._connection.failed:
            return
        self._check()
        for stream in self._connection.streams.values():
            must(stream.completed_at is not None, "a response that is stuck", stream.id)
        self._now += DISCARD_TIMEOUT + 0.1
        self._connection.tick(self._now)
        self._check()
        must(not self._connection.streams, "streams that never end")

    def _open_windows(self) -> None:
        """Grant what the responses need, as a peer does that reads everything."""
        need: dict[int, int] = {}
        for stream in self._connection.streams.values():
            need[stream.id] = stream.queued - self._ledger.send_window(stream.id)
        total = sum(stream.queued for stream in self._connection.streams.values())
        need[0] = total - self._ledger.send_window(0)
        for stream_id, size in need.items():
            for part in (min(size, MAX_WINDOW), size - MAX_WINDOW):
                if part > 0:
                    self._receive(wire.window_update_frame(stream_id, part))

    def _check_failed(self) -> None:
        """A connection that has failed says why, and that was all."""
        connection, ledger, apps = self._connection, self._ledger, self._apps
        connection_events = len(apps.events)
        ledger.received(connection.bytes_to_send(UNLIMITED, self._now))
        must(ledger.goaways and ledger.goaways[-1].error_code, "failed without GOAWAY")
        must(ledger.goaways[-1].last_stream_id <= ledger.highest_stream_id, "a last id unheard of")
        for stream in connection.streams.values():
            connection.responses.forget(stream)
        connection.streams.clear()
        connection.receive(wire.PREFACE + wire.settings_frame() + wire.ping_frame(), self._now)
        connection.tick(self._now + 1_000)
        connection.ping(bytes(8))
        connection.announce_goaway(last=True)
        must(connection.bytes_to_send(UNLIMITED, self._now) == b"", "bytes after the end")
        must(len(apps.events) == connection_events, "told of something after the end")


#: Bytes that say where in a body they belong; 251 is prime to the sizes of frames.
_PATTERN = bytes(range(251)) * 400


def _body(stream_id: int, start: int, size: int) -> bytes:
    """What stream ``stream_id`` is answered, from byte ``start`` on."""
    first = (start + stream_id) % 251
    whole = _PATTERN * (1 + (first + size) // len(_PATTERN))
    return whole[first : first + size]
