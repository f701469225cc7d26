"""One input of the fuzzer, run: a `Connection`, its peer and its applications, step by step.

After every step the rules of `_check` hold, and those of the `Ledger`. At the end the
peer opens its windows and the applications answer everything: all of it must come out.
"""

from __future__ import annotations

from h2.errors import ErrorCodes

from gunicorn_h2.connection import DISCARD_TIMEOUT, Connection
from gunicorn_h2.settings import Settings
from tests.support import wire
from tests.support.core import UNLIMITED
from tests.support.wire import HEADER_LENGTH, Setting

from .applications import HIGH_WATER_MARK, PART_SIZES, Applications, body_of
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
#: What peers begin with: with a small window, responses wait for it to open.
_GREETINGS = [{}, {Setting.INITIAL_WINDOW_SIZE: 0}, {Setting.INITIAL_WINDOW_SIZE: 5_000}]
_JUMPS = [0.01, 1.0, DISCARD_TIMEOUT + 0.1, 11.0, 100.0]
_ROOMS = [UNLIMITED, 0, 1, 10, 10_000]
#: What the layers above let one response have queued: the mark, and one part above it.
_MAX_QUEUED = HIGH_WATER_MARK + max(PART_SIZES)
#: Control frames that answer to nothing: our greeting, GOAWAYs, a PING, resets of timers.
_CONTROL_SLACK = 2_000
#: How a connection may end whose peer keeps the rules: it may still be slow, or ask too much.
_NOT_FOR_FAULTS = (ErrorCodes.ENHANCE_YOUR_CALM, ErrorCodes.SETTINGS_TIMEOUT)


def run(data: bytes) -> None:
    """Run one input; raises whatever there is to find."""
    choices = Choices(data)
    CoreRun(choices, choices.pick(_SETTINGS)).run()


class CoreRun:
    """A connection that is taken through what ``choices`` say."""

    def __init__(self, choices: Choices, settings: Settings) -> None:
        self._choices = choices
        self._settings = settings
        self._now = 0.0
        self._apps = Applications(choices)
        self._ledger = Ledger()
        self._sender = Sender(choices, self._ledger)
        self._connection = Connection(settings, self._apps, self._now)
        self._apps.connection = self._connection
        self._on_its_way = b""

    def run(self) -> None:
        """Take the connection through all that was chosen, and then to its end."""
        choices = self._choices
        if not self._sender.rude():
            self._receive(wire.PREFACE + wire.settings_frame(choices.pick(_GREETINGS)))
            self._check()
            if not choices.one_in(4):
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
            must(body == body_of(stream_id, 0, len(body)), "another body", stream_id)

    # -- steps of the peer -------------------------------------------------------

    def _frames(self) -> None:
        # The sender looks at the windows, and so at what has left.
        self._deliver(len(self._on_its_way))
        self._on_its_way = self._sender.frames()
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
            self._deliver(len(self._on_its_way))
            frames = self._sender.frames()
            if self._sender.rudeness:
                flood = len(frames) < 100 and self._sender.rude()
                frames *= 1 + choices.below(256 if flood else 4)
            self._on_its_way += frames
            self._deliver(len(self._on_its_way))

    def _deliver(self, size: int) -> None:
        data, self._on_its_way = self._on_its_way[:size], self._on_its_way[size:]
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        self._ledger.sent(data)
        self._connection.receive(data, self._now)

    def _act(self) -> None:
        self._apps.act(self._now)

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
            len(connection.guard._rest) <= HEADER_LENGTH + settings.max_frame_size,
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
            if stream.has_output and not stream.ready:
                window = min(ledger.send_window(stream_id), ledger.send_window(0))
                must(stream.queued and window <= 0, "nothing holds it back", stream_id)

    def _check_windows(self) -> None:
        """Every flow-controlled byte is in a window, unread, or about to be given back."""
        ledger, settings, h2 = self._ledger, self._settings, self._connection._h2
        manager = h2._inbound_flow_control_window_manager
        unread = sum(stream.uncredited for stream in self._connection.streams.values())
        withheld = self._connection._requests._windows._withheld
        whole = max(settings.connection_window_size, wire.DEFAULT_WINDOW) - withheld
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
                if self._connection.settings_acknowledged and not stream.uncredited:
                    must(window > 0, "all is read, but no more may come", stream_id, window)

    # -- the end ---------------------------------------------------------------------

    def _finish(self) -> None:
        """Answer everything, open the windows, and see all of it arrive."""
        self._deliver(len(self._on_its_way))
        if self._connection.failed or not self._ledger.between_frames:
            return
        self._check()
        self._now += 1_000.0  # all budgets are full again
        for stream in list(self._connection.streams.values()):
            self._apps.end(stream)
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
        told = len(apps.events)
        ledger.received(connection.bytes_to_send(UNLIMITED, self._now))
        must(ledger.goaways and ledger.goaways[-1].error_code, "failed without GOAWAY")
        if not self._sender.rudeness:
            must(ledger.goaways[-1].error_code in _NOT_FOR_FAULTS, "no fault", ledger.goaways)
        must(ledger.goaways[-1].last_stream_id <= ledger.highest_stream_id, "a last id unheard of")
        for stream in connection.streams.values():
            connection.responses.forget(stream)
        connection.streams.clear()
        connection.receive(wire.PREFACE + wire.settings_frame() + wire.ping_frame(), self._now)
        connection.tick(self._now + 1_000)
        connection.ping(bytes(8))
        connection.announce_goaway(last=True)
        must(connection.bytes_to_send(UNLIMITED, self._now) == b"", "bytes after the end")
        must(len(apps.events) == told, "told of something after the end")
