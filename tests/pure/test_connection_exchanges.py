"""A peer that keeps to the protocol, and an application, doing what they may in any order.

The test keeps ledgers of its own, and holds against them what comes out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gunicorn_h2.connection import DISCARD_TIMEOUT
from tests.support.core import UNLIMITED, CorePeer
from tests.support.wire import ErrorCode, Setting

MAX_WINDOW = 2**31 - 1
MAX_STREAMS = 6
#: Small, so that they are often exhausted.
STREAM_WINDOW, CONNECTION_WINDOW = 3_000, 70_000


@dataclass
class Ledger:
    """What the test knows of one stream, from what it did and what it read."""

    id: int
    urgency: int = 3
    incremental: bool = True
    content_length: int | None = None

    # The request.
    uploaded: bytes = b""
    upload_read: bytes = b""
    upload_ended: bool = False
    bad_trailers: bool = False
    #: It was refused, and the application has never seen it.
    refused: bool = False
    #: The application is to be told that the stream is gone.
    aborted: bool = False
    #: What the peer may still send, by what the server has granted.
    upload_window: int = 65_535

    # The response.
    heads_queued: int = 0
    heads_read: int = 0
    queued: bytes = b""
    read: bytes = b""
    ended: bool = False
    #: The application could not go on: instead of its end, the stream is to be reset.
    failed: bool = False
    trailers: bool = False
    end_streams_read: int = 0
    #: What the server may still send, by what the peer has granted.
    download_window: int = 65_535

    #: A RST_STREAM has gone one way or the other, or must come.
    reset: bool = False
    resets_read: list[int] = field(default_factory=list)

    @property
    def body_complete(self) -> bool:
        right = self.content_length in (None, len(self.uploaded))
        return self.upload_ended and right and not self.bad_trailers

    @property
    def open(self) -> bool:
        failed = ErrorCode.INTERNAL_ERROR in self.resets_read
        return not self.reset and not self.end_streams_read and not failed

    @property
    def lingering(self) -> bool:
        """The response is complete; the rest of the request is taken for a while."""
        return bool(self.end_streams_read and not self.upload_ended and not self.resets_read)

    @property
    def unsent(self) -> int:
        return len(self.queued) - len(self.read)


def pattern(start: int, size: int) -> bytes:
    """Bytes that tell where in a body they stand."""
    return bytes((start + each) % 251 for each in range(size))


class Exchanges(RuleBasedStateMachine):
    """Everything that a peer and an application may do to each other, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledgers: dict[int, Ledger] = {}
        self.download_window = 65_535
        self.upload_window = 65_535
        self.initial_window = 65_535
        self.acked = False
        self.next_id = 1

    @initialize(ack=st.booleans(), window=st.sampled_from([0, 100, 65_535]))
    def connect(self, ack: bool, window: int) -> None:
        self.peer = CorePeer(
            max_concurrent_streams=MAX_STREAMS,
            initial_window_size=STREAM_WINDOW,
            connection_window_size=CONNECTION_WINDOW,
        )
        self.peer.greet({Setting.INITIAL_WINDOW_SIZE: window}, ack=ack)
        self.acked = ack
        self.initial_window = window

    # -- which stream -----------------------------------------------------------

    @property
    def open(self) -> list[Ledger]:
        return [each for each in self.ledgers.values() if each.open]

    def pick(self, data: st.DataObject) -> Ledger:
        return data.draw(st.sampled_from(self.open))

    # -- the peer ---------------------------------------------------------------

    @precondition(lambda self: not self.acked)
    @rule()
    def ack_settings(self) -> None:
        self.acked = True
        self.peer.settings(ack=True)
        for ledger in self.ledgers.values():
            ledger.upload_window += STREAM_WINDOW - 65_535

    @rule(
        end_stream=st.booleans(),
        priority=st.none() | st.tuples(st.integers(0, 7), st.booleans()),
        content_length=st.none() | st.integers(0, 3_000),
        skip=st.integers(0, 2),
        split=st.none() | st.integers(10, 50),
        pad=st.none() | st.integers(0, 20),
    )
    def request(
        self,
        end_stream: bool,
        priority: tuple[int, bool] | None,
        content_length: int | None,
        skip: int,
        split: int | None,
        pad: int | None,
    ) -> None:
        full = len(self.open) >= MAX_STREAMS
        ledger = Ledger(self.next_id + 2 * skip, content_length=content_length)
        self.next_id = ledger.id + 2
        ledger.upload_window = STREAM_WINDOW if self.acked else 65_535
        ledger.download_window = self.initial_window
        ledger.upload_ended = end_stream
        extra = []
        if priority is not None:
            ledger.urgency, ledger.incremental = priority
            extra.append(("priority", f"u={priority[0]}, i=?{priority[1]:d}"))
        if content_length is not None:
            extra.append(("content-length", str(content_length)))
        self.peer.headers(
            ledger.id,
            extra=extra,
            end_stream=end_stream,
            split=split,
            pad=pad,
            priority=(0, 16, False) if skip else None,
        )
        # Refused, or malformed: never seen by the application.
        ledger.refused = ledger.reset = full or (end_stream and bool(content_length))
        self.ledgers[ledger.id] = ledger

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        size=st.integers(0, 4_000),
        pad=st.none() | st.integers(0, 255),
        end_stream=st.booleans(),
    )
    def upload(self, data: st.DataObject, size: int, pad: int | None, end_stream: bool) -> None:
        ledger = self.pick(data)
        overhead = 0 if pad is None else pad + 1
        room = min(ledger.upload_window, self.upload_window)
        if ledger.upload_ended or room < overhead:
            return
        payload = pattern(len(ledger.uploaded), min(size, room - overhead))
        self.peer.data(ledger.id, payload, pad=pad, end_stream=end_stream)
        ledger.upload_window -= len(payload) + overhead
        self.upload_window -= len(payload) + overhead
        ledger.uploaded += payload
        self.end_upload(ledger, end_stream)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), valid=st.booleans())
    def upload_trailers(self, data: st.DataObject, valid: bool) -> None:
        ledger = self.pick(data)
        if ledger.upload_ended:
            return
        self.peer.headers(ledger.id, [("x-sum", "1")], end_stream=valid)
        self.end_upload(ledger, True)
        ledger.bad_trailers = not valid
        ledger.aborted |= not valid
        ledger.reset |= ledger.aborted

    def end_upload(self, ledger: Ledger, ended: bool) -> None:
        ledger.upload_ended = ended
        if ledger.content_length is not None:
            excess = len(ledger.uploaded) - ledger.content_length
            ledger.aborted = excess > 0 or (ended and excess < 0)
            ledger.reset |= ledger.aborted

    @precondition(lambda self: self.ledgers)
    @rule(data=st.data())
    def late_frames(self, data: st.DataObject) -> None:
        """What was on its way when the server reset the stream is dropped in silence."""
        reset = [each for each in self.ledgers.values() if each.resets_read]
        room = self.upload_window
        if reset and room >= 100:
            ledger = data.draw(st.sampled_from(reset))
            self.peer.data(ledger.id, bytes(100))
            self.upload_window -= 100
            self.peer.headers(ledger.id, [("x-late", "1")])

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ledger = self.pick(data)
        self.peer.rst(ledger.id)
        ledger.reset = ledger.aborted = True

    @rule(data=st.data(), size=st.integers(1, 20_000), stream=st.booleans())
    def grant(self, data: st.DataObject, size: int, stream: bool) -> None:
        if not stream:
            self.peer.window_update(0, size)
            self.download_window += size
        elif self.open:
            ledger = self.pick(data)
            self.peer.window_update(ledger.id, size)
            ledger.download_window += size

    @rule(window=st.sampled_from([0, 1, 100, 20_000, 65_535]), frame_size=st.integers(14, 17))
    def change_settings(self, window: int, frame_size: int) -> None:
        self.peer.settings(
            {Setting.INITIAL_WINDOW_SIZE: window, Setting.MAX_FRAME_SIZE: 1 << frame_size}
        )
        for ledger in self.ledgers.values():
            ledger.download_window += window - self.initial_window
        self.initial_window = window

    @precondition(lambda self: self.open)
    @rule(data=st.data(), urgency=st.integers(0, 7), incremental=st.booleans())
    def reprioritize(self, data: st.DataObject, urgency: int, incremental: bool) -> None:
        ledger = self.pick(data)
        self.peer.priority_update(ledger.id, f"u={urgency}" + ", i" * incremental)
        ledger.urgency, ledger.incremental = urgency, incremental

    # -- the application ----------------------------------------------------------

    @precondition(lambda self: self.open)
    @rule(data=st.data(), size=st.integers(0, 30_000), end=st.booleans(), hint=st.booleans())
    def answer(self, data: st.DataObject, size: int, end: bool, hint: bool) -> None:
        ledger = self.pick(data)
        if ledger.ended:
            return
        responses = self.peer.connection.responses
        stream = self.peer.stream(ledger.id)
        if hint and not ledger.heads_queued:
            responses.add_informational(stream, [(b":status", b"103")])
        if not ledger.heads_queued:
            responses.add_head(stream, [(b":status", b"200"), (b"x-id", b"%d" % ledger.id)])
            ledger.heads_queued = 1
        elif hint:
            responses.add_informational(stream, [(b":status", b"100")])
        part = pattern(len(ledger.queued), size)
        responses.add_data(stream, [part], self.peer.now)
        ledger.queued += part
        if end:
            self.end(ledger)

    def end(self, ledger: Ledger) -> None:
        trailers = [(b"x-end", b"1")] if len(ledger.queued) % 2 else []
        self.peer.connection.responses.end(self.peer.stream(ledger.id), trailers)
        ledger.ended, ledger.trailers = True, bool(trailers)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """What was written is sent, but the peer is not to take it for the whole."""
        ledger = self.pick(data)
        if not ledger.ended:
            self.peer.connection.responses.fail(self.peer.stream(ledger.id))
            ledger.ended = ledger.failed = True

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ledger = self.pick(data)
        self.peer.connection.reset(self.peer.stream(ledger.id), ErrorCodes.INTERNAL_ERROR)
        ledger.reset = True

    @precondition(lambda self: self.open)
    @rule(data=st.data(), discard=st.booleans())
    def read_upload(self, data: st.DataObject, discard: bool) -> None:
        ledger = self.pick(data)
        if discard:
            self.peer.connection.discard_body(self.peer.stream(ledger.id))
        elif not self.peer.stream(ledger.id).discards_body:
            ledger.upload_read += self.peer.read_body(ledger.id)
            assert ledger.upload_read == ledger.uploaded

    # -- the transport ------------------------------------------------------------

    @rule(room=st.sampled_from([0, 1, 50, 5_000, 40_000, UNLIMITED]))
    def read(self, room: int) -> None:
        self.peer.now += 0.01
        turn: Ledger | None = None
        for frame in self.peer.turn(room):
            if isinstance(frame, WindowUpdateFrame):
                self.granted(frame)
            elif isinstance(frame, HeadersFrame):
                self.head_read(self.ledgers[frame.stream_id], frame)
            elif isinstance(frame, DataFrame):
                turn = self.data_read(self.ledgers[frame.stream_id], frame, turn)
            elif isinstance(frame, RstStreamFrame):
                self.reset_read(self.ledgers[frame.stream_id], frame.error_code)
            if isinstance(frame, (HeadersFrame, DataFrame)) and "END_STREAM" in frame.flags:
                self.end_read(self.ledgers[frame.stream_id])
        if room == UNLIMITED:
            self.nothing_is_held_back()

    def reset_read(self, ledger: Ledger, code: int) -> None:
        ledger.resets_read.append(code)
        if ledger.failed and not ledger.reset:
            assert code == ErrorCode.INTERNAL_ERROR
            assert ledger.read == ledger.queued

    def granted(self, frame: WindowUpdateFrame) -> None:
        if frame.stream_id:
            self.ledgers[frame.stream_id].upload_window += frame.window_increment
        else:
            self.upload_window += frame.window_increment

    def head_read(self, ledger: Ledger, frame: HeadersFrame) -> None:
        status = dict(self.peer.fields(frame)).get(b":status")
        if status == b"200":
            assert ledger.read == b""
            ledger.heads_read += 1
            assert ledger.heads_read == 1
        elif status in (b"100", b"103"):
            assert ledger.heads_read == 0
        else:
            assert ledger.trailers
            assert "END_STREAM" in frame.flags

    def data_read(self, ledger: Ledger, frame: DataFrame, turn: Ledger | None) -> Ledger:
        size = len(frame.data)
        assert ledger.heads_read == 1
        assert not ledger.end_streams_read
        assert size <= max(0, ledger.download_window)
        assert size <= self.download_window
        if size:
            for other in self.open:
                assert other.urgency >= ledger.urgency or not self.sendable(other)
            if turn is not None and turn is not ledger and not turn.incremental:
                assert turn.urgency != ledger.urgency or not self.sendable(turn)
        ledger.download_window -= size
        self.download_window -= size
        ledger.read += frame.data
        assert ledger.queued.startswith(ledger.read)
        return ledger

    def sendable(self, ledger: Ledger) -> bool:
        return ledger.open and min(ledger.unsent, ledger.download_window, self.download_window) > 0

    def end_read(self, ledger: Ledger) -> None:
        assert ledger.ended
        assert not ledger.failed
        assert ledger.read == ledger.queued
        assert not ledger.resets_read
        ledger.end_streams_read += 1
        assert ledger.end_streams_read == 1

    def nothing_is_held_back(self) -> None:
        """What the windows allow has been sent: no blocked stream holds up another."""
        for ledger in self.open:
            assert not self.sendable(ledger)
            assert ledger.heads_read == ledger.heads_queued
            assert not ledger.ended or ledger.unsent
            if self.acked and not ledger.upload_ended and self.all_read(ledger):
                assert ledger.upload_window > 0
        if all(self.all_read(ledger) for ledger in self.open):
            assert self.upload_window > 0

    def all_read(self, ledger: Ledger) -> bool:
        discards = self.peer.stream(ledger.id).discards_body
        return discards or ledger.upload_read == ledger.uploaded

    # -- what always holds ----------------------------------------------------------

    @invariant()
    def the_connection_lives(self) -> None:
        assert not hasattr(self, "peer") or not self.peer.connection.failed

    @invariant()
    def the_same_streams_are_open(self) -> None:
        if hasattr(self, "peer"):
            lingering = {each.id for each in self.ledgers.values() if each.lingering}
            assert set(self.peer.connection.streams) == {each.id for each in self.open} | lingering

    def teardown(self) -> None:
        if hasattr(self, "peer"):
            self.finish()

    def finish(self) -> None:
        """Let every response end, and see that nothing is left over."""
        if not self.acked:
            self.ack_settings()
        self.change_settings(65_535, 14)
        self.peer.window_update(0, 50_000_000)
        self.download_window += 50_000_000
        for ledger in self.open:
            self.peer.window_update(ledger.id, 10_000_000)
            ledger.download_window += 10_000_000
            if not ledger.ended:
                if not ledger.heads_queued:
                    self.peer.respond(ledger.id, end=False)
                    ledger.heads_queued = 1
                self.end(ledger)
        self.read(UNLIMITED)
        self.peer.now += DISCARD_TIMEOUT + 0.1
        self.peer.connection.tick(self.peer.now)
        self.read(UNLIMITED)
        assert self.open == []
        assert self.peer.connection.streams == {}
        for ledger in self.ledgers.values():
            ended = ledger.ended and not ledger.reset and not ledger.failed
            assert ledger.end_streams_read == ended
            if ended:
                # Whoever has not sent all of the request is told to stop.
                assert ledger.resets_read == ([] if ledger.upload_ended else [ErrorCode.NO_ERROR])
            assert len(ledger.resets_read) <= 1
        self.the_application_was_told()
        self.every_byte_was_credited()

    def the_application_was_told(self) -> None:
        events = self.peer.take_events()
        for ledger in self.ledgers.values():
            told = [event for event in events if event[1] == ledger.id and event[0] != "body"]
            if ledger.refused:
                assert told == []
                continue
            assert told.pop(0) == ("started", ledger.id)
            if ledger.aborted:
                assert told.pop() == ("aborted", ledger.id)
            if told:
                assert [event[0] for event in told] == ["ended"]
            assert bool(told) == ledger.body_complete

    def every_byte_was_credited(self) -> None:
        # h2 gives credit back in larger parts, and holds less than half of the window.
        assert CONNECTION_WINDOW // 2 < self.upload_window <= CONNECTION_WINDOW
        h2 = self.peer.connection._h2
        manager = h2._inbound_flow_control_window_manager
        assert h2.inbound_flow_control_window == self.upload_window
        assert self.upload_window + manager._bytes_processed == CONNECTION_WINDOW


TestExchanges = Exchanges.TestCase
TestExchanges.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)
