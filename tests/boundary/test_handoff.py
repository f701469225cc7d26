"""The pool and the way back: who gets a thread when, what a wake-up carries, what ends a wait."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_h2.handoff import (
    ClientDisconnected,
    Exchange,
    Handoff,
    RequestBody,
    RequestTimeout,
)
from tests.support.boundary import (
    GONE,
    HANG,
    POOL_PREFIX,
    CountingLoop,
    ObservedExchange,
    Recorder,
    on_loop,
    until,
    wait,
)

LOOPS = pytest.mark.parametrize("kind", ["asyncio", "uvloop"])


def make_handoff(size: int = 1, max_queued: int = 100, reports: list[Any] | None = None) -> Handoff:
    def report() -> None:
        assert reports is not None, "a job raised"
        reports.append(True)

    return Handoff(asyncio.get_running_loop(), size, max_queued, report)


class Held:
    """A job that keeps its thread until it is let go."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.let_go = threading.Event()
        self.thread = 0

    def __call__(self) -> None:
        self.thread = threading.get_ident()
        self.started.set()
        wait(self.let_go)


class Call:
    """A call on a pool thread that will wait in the exchange, and how it ended."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None

    def __call__(self) -> None:
        try:
            self.result = self._function()
        except OSError as error:
            self.error = error
        self.done.set()


# -- the pool -------------------------------------------------------------------------


def test_threads_are_started_as_needed_and_no_more_than_size() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=3)
        assert handoff.busy == 0
        held = [Held() for _ in range(5)]
        for expected, job in zip((1, 2, 3, 3, 3), held, strict=True):
            assert handoff.submit("c", job)
            assert handoff.busy == expected
        assert handoff.queued == 2
        for job in held[:3]:
            wait(job.started)
        assert not held[3].started.is_set() and not held[4].started.is_set()
        for job in held:
            job.let_go.set()
            wait(job.started)
        await until(lambda: not handoff.busy)
        assert len({job.thread for job in held}) == 3

    on_loop(scenario())


def test_an_idle_thread_is_used_before_a_new_one_is_started() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=8)
        threads = set()
        for _ in range(20):
            job = Held()
            job.let_go.set()
            assert handoff.submit("c", job)
            wait(job.started)
            await until(lambda: not handoff.busy)
            threads.add(job.thread)
        assert len(threads) == 1

    on_loop(scenario())


def test_the_thread_that_was_busy_last_is_the_next_to_work() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=4)
        held = [Held() for _ in range(4)]
        for job in held:
            handoff.submit("c", job)
            wait(job.started)
        for left, index in zip((3, 2, 1, 0), (2, 0, 3, 1), strict=True):
            held[index].let_go.set()
            await until(lambda left=left: handoff.busy == left)  # type: ignore[misc]
        again = [Held() for _ in range(4)]
        for job in again:
            handoff.submit("c", job)
            wait(job.started)
        assert [job.thread for job in again] == [held[i].thread for i in (1, 3, 0, 2)]
        for job in again:
            job.let_go.set()

    on_loop(scenario())


def test_connections_take_turns_and_each_is_served_in_order() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=1)
        first = Held()
        handoff.submit("a", first)
        wait(first.started)
        order: list[str] = []
        done = threading.Event()

        def job(name: str) -> Callable[[], None]:
            def run() -> None:
                order.append(name)
                if len(order) == 8:
                    done.set()

            return run

        for name in ("a1", "a2", "a3", "a4", "b1", "c1", "c2", "b2"):
            assert handoff.submit(name[0], job(name))
        first.let_go.set()
        wait(done)
        assert order == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"]

    on_loop(scenario())


def test_a_connection_that_comes_back_queues_up_behind_the_others() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=1)
        order: list[str] = []
        steps = {name: Held() for name in ("a1", "b1", "b2", "a2")}

        def job(name: str) -> Callable[[], None]:
            def run() -> None:
                order.append(name)
                steps[name]()

            return run

        handoff.submit("a", job("a1"))
        wait(steps["a1"].started)
        handoff.submit("b", job("b1"))
        handoff.submit("b", job("b2"))
        steps["a1"].let_go.set()
        wait(steps["b1"].started)
        handoff.submit("a", job("a2"))
        for name in ("b1", "b2", "a2"):
            steps[name].let_go.set()
        wait(steps["a2"].started)
        assert order == ["a1", "b1", "b2", "a2"]

    on_loop(scenario())


def test_the_queue_is_bounded_and_a_refused_job_never_runs() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=1, max_queued=2)
        held = [Held() for _ in range(3)]
        for job in held:
            assert handoff.submit("a", job)
        refused = Held()
        assert not handoff.submit("a", refused)
        assert not handoff.submit("b", refused)
        assert handoff.queued == 2
        for job in held:
            job.let_go.set()
            wait(job.started)
        await until(lambda: not handoff.busy)
        assert not refused.started.is_set()
        assert handoff.queued == 0
        late = Held()
        late.let_go.set()
        assert handoff.submit("b", late)
        wait(late.started)

    on_loop(scenario())


def test_a_job_that_raises_costs_the_pool_no_thread() -> None:
    async def scenario() -> None:
        reports: list[Any] = []
        handoff = make_handoff(size=2, reports=reports)
        errors: list[type[BaseException]] = [ValueError, SystemExit, KeyboardInterrupt]

        def raiser(error: type[BaseException]) -> Callable[[], None]:
            def run() -> None:
                raise error

            return run

        for error in errors * 4:
            assert handoff.submit("c", raiser(error))
        await until(lambda: not handoff.busy)
        assert len(reports) == 12
        held = [Held(), Held()]
        for job in held:
            handoff.submit("c", job)
        for job in held:
            wait(job.started)
            job.let_go.set()

    on_loop(scenario())


def test_an_idle_thread_keeps_nothing_of_its_last_job() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=1)
        held = Held()
        held.let_go.set()
        gone = weakref.ref(held)
        handoff.submit("c", held)
        wait(held.started)
        await until(lambda: not handoff.busy)
        del held
        # The thread is idle to the pool a few instructions before it waits.
        await until(lambda: gc.collect() >= 0 and gone() is None)

    on_loop(scenario())


@pytest.fixture
def no_new_threads() -> Any:
    """The system gives no thread any more, here since none has room for such a stack."""
    old = threading.stack_size()

    def deny() -> None:
        threading.stack_size(2**46)

    yield deny
    threading.stack_size(old)


def test_where_no_thread_can_be_started_the_others_take_over(no_new_threads: Any) -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=3)
        first, second = Held(), Held()
        assert handoff.submit("c", first)
        wait(first.started)
        no_new_threads()
        assert handoff.submit("c", second)
        assert handoff.busy == 1
        first.let_go.set()
        second.let_go.set()
        wait(second.started)
        assert second.thread == first.thread

    on_loop(scenario())


def test_where_no_thread_can_be_started_at_all_a_job_is_refused(no_new_threads: Any) -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=3)
        refused, taken = Held(), Held()
        old = threading.stack_size()
        no_new_threads()
        for _ in range(4):
            assert not handoff.submit("c", refused)
        assert handoff.busy == 0
        threading.stack_size(old)
        taken.let_go.set()
        assert handoff.submit("c", taken)
        wait(taken.started)
        assert not refused.started.is_set()

    on_loop(scenario())


# -- P -> L ---------------------------------------------------------------------------


def test_one_burst_is_one_wake_up_and_one_flush() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        posted = threading.Event()

        def job() -> None:
            exchange.send_head([(b":status", b"200")])
            for number in range(100):
                exchange.send_data(b"%d" % number)
            exchange.end_response([])
            exchange.finish("result")
            posted.set()

        handoff.submit(owner, job)
        wait(posted)
        assert owner.calls == []
        await owner.wait_for("finished")
        assert loop.wake_ups == 1
        assert owner.flushes == 1
        assert owner.of(exchange) == [
            ("head", [(b":status", b"200")]),
            *(("data", b"%d" % number) for number in range(100)),
            ("end", []),
            ("finished", "result"),
        ]
        assert owner.loop_threads == {threading.get_ident()}

    on_loop(scenario())


def test_each_burst_wakes_the_loop_again() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        go = threading.Semaphore(0)

        def job() -> None:
            for _ in range(50):
                assert go.acquire(timeout=HANG)
                exchange.send_data(b"x")

        handoff.submit(owner, job)
        for count in range(1, 51):
            go.release()
            await owner.wait_for("data", count)
            assert loop.wake_ups == count

    on_loop(scenario())


def test_a_head_and_an_end_wake_nobody_by_themselves() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        posted, go = threading.Event(), threading.Event()

        def job() -> None:
            exchange.send_head([])
            exchange.send_data(b"part", wake=False)
            exchange.end_response([])
            exchange.fail_response()
            posted.set()
            wait(go)
            exchange.finish()

        handoff.submit(owner, job)
        wait(posted)
        assert loop.wake_ups == 0
        go.set()
        await owner.wait_for("finished")
        assert loop.wake_ups == 1
        assert [name for name, _ in owner.of(exchange)] == [
            "head", "data", "end", "failed", "finished",
        ]  # fmt: skip

    on_loop(scenario())


@LOOPS
def test_each_exchange_keeps_its_order_whatever_the_others_do(kind: str) -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=8)
        owner = Recorder()
        exchanges = [Exchange(handoff, owner, 2**31) for _ in range(8)]
        start = threading.Barrier(9)

        def job(exchange: Exchange) -> Callable[[], None]:
            def run() -> None:
                wait(start)
                for number in range(300):
                    exchange.send_data(b"%d" % number, wake=bool(number % 3))
                exchange.finish(number)

            return run

        for exchange in exchanges:
            handoff.submit(exchange, job(exchange))
        wait(start)
        await owner.wait_for("finished", 8)
        for exchange in exchanges:
            assert owner.of(exchange) == [
                *(("data", b"%d" % number) for number in range(300)),
                ("finished", 299),
            ]

    on_loop(scenario(), kind)


def test_a_drain_is_bounded_so_that_the_loop_gets_to_other_things() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 2**31)
        posted = threading.Event()

        def job() -> None:
            for _ in range(3_500):
                exchange.send_data(b"x")
            exchange.finish()
            posted.set()

        handoff.submit(owner, job)
        wait(posted)
        seen: list[int] = []

        def reading() -> None:
            seen.append(len(owner.calls))
            if not owner.count("finished"):
                loop.call_soon(reading)

        loop.call_soon(reading)
        await owner.wait_for("finished")
        grown = [after - before for before, after in itertools.pairwise([*seen, len(owner.calls)])]
        assert max(grown) <= 1_000
        # What is left over is fetched without a further wake-up, and each part is flushed.
        assert loop.wake_ups == 1
        assert owner.flushes == 4

    on_loop(scenario())


def test_one_drain_flushes_every_owner_once() -> None:
    async def scenario() -> None:
        handoff = make_handoff(size=3)
        owners = [Recorder() for _ in range(3)]
        posted = threading.Barrier(4)

        def job(owner: Recorder) -> Callable[[], None]:
            exchange = Exchange(handoff, owner, 65_536)

            def run() -> None:
                exchange.send_data(b"one")
                exchange.send_data(b"two")
                wait(posted)

            return run

        for owner in owners:
            handoff.submit(owner, job(owner))
        wait(posted)
        for owner in owners:
            await owner.wait_for("data", 2)
        assert [owner.flushes for owner in owners] == [1, 1, 1]

    on_loop(scenario())


@pytest.mark.parametrize("place", ["response_data", "flush"])
def test_a_bug_in_one_owner_does_not_hold_up_the_others(place: str) -> None:
    class Faulty(Recorder):
        def response_data(self, exchange: Exchange, data: bytes) -> None:
            self._note("data", exchange, data)
            if place == "response_data":
                raise LookupError("a bug")

        def flush(self) -> None:
            if place == "flush":
                raise LookupError("a bug")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff = make_handoff()
        owners = [Recorder(), Faulty(), Recorder()]
        posted = threading.Event()

        def job() -> None:
            for owner in owners:
                Exchange(handoff, owner, 65_536).send_data(b"x")
            posted.set()

        handoff.submit("c", job)
        wait(posted)
        for owner in owners:
            await owner.wait_for("data")
        await until(lambda: owners[0].flushes == owners[2].flushes == 1)
        assert loop.wake_ups == 1

    on_loop(scenario(), reports=1)


@LOOPS
def test_posts_after_the_loop_has_closed_raise_nothing(kind: str) -> None:
    results: list[Any] = []
    go, ended = threading.Event(), threading.Event()

    async def scenario() -> None:
        handoff = make_handoff()
        exchange = Exchange(handoff, Recorder(), 65_536)

        def job() -> None:
            wait(go)
            for call in (exchange.send_data, exchange.send_data, exchange.finish):
                results.append(call(b"x"))
            ended.set()

        handoff.submit("c", job)

    on_loop(scenario(), kind)
    go.set()
    wait(ended)
    assert results == [None, None, None]


# -- writing --------------------------------------------------------------------------


def test_a_write_waits_above_the_mark_and_goes_on_at_it() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 1_000)
        second = Call(lambda: exchange.send_data(b"b"))

        def job() -> None:
            exchange.send_data(b"a" * 1_000)
            second()

        handoff.submit("c", job)
        exchange.wait_until_parked()
        await owner.wait_for("data", 2)
        assert not second.done.is_set()
        exchange.note_sent(1)
        wait(second.done)
        assert second.error is None

    on_loop(scenario())


def test_with_a_mark_of_0_each_write_waits_for_its_last_byte() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 0)
        calls = [Call(lambda: exchange.send_data(b"abc")) for _ in range(3)]

        def job() -> None:
            for call in calls:
                call()

        handoff.submit("c", job)
        for count, call in enumerate(calls, 1):
            exchange.wait_until_parked()
            await owner.wait_for("data", count)
            for _ in range(2):
                exchange.note_sent(1)
                # It is woken for each, and has to go back to sleep.
                exchange.wait_until_parked()
                assert not call.done.is_set()
            exchange.note_sent(1)
            wait(call.done)
            assert owner.count("data") >= count

    on_loop(scenario())


def test_a_response_up_to_the_mark_never_waits() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 1_000)

        def all_of_it() -> None:
            exchange.send_head([])
            for size in (1, 0, 999):
                exchange.send_data(b"x" * size)
            exchange.end_response([])
            exchange.finish()

        call = Call(all_of_it)
        handoff.submit("c", call)
        # L is held still: nothing is sent, and nothing noted as sent.
        wait(call.done)
        await owner.wait_for("finished")

    on_loop(scenario())


def test_a_blocked_write_wakes_the_loop_even_if_more_was_to_follow() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 10)
        call = Call(lambda: exchange.send_data(b"x" * 11, wake=False))
        handoff.submit("c", call)
        await owner.wait_for("data")
        exchange.note_sent(11)
        wait(call.done)

    on_loop(scenario())


# -- reading --------------------------------------------------------------------------


def test_what_has_arrived_is_read_at_once_and_credited_when_read() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 0)
        exchange.feed(b"one ", 5)
        exchange.feed(b"two", 300)
        exchange.end_body([(b"checksum", b"7")])
        assert owner.calls == []
        reads = [Call(exchange.read) for _ in range(3)]
        for read in reads:
            handoff.submit("c", read)
            wait(read.done)
        assert [read.result for read in reads] == [b"one two", b"", b""]
        await owner.wait_for("read")
        assert owner.of(exchange) == [("read", 305)]
        assert exchange.trailers == [(b"checksum", b"7")]

    on_loop(scenario())


WAKERS: dict[str, tuple[Callable[[Exchange], None], Any]] = {
    "data": (lambda exchange: exchange.feed(b"data", 4), b"data"),
    "end": (lambda exchange: exchange.end_body([]), b""),
    "fail_body": (lambda exchange: exchange.fail_body(RequestTimeout("late")), RequestTimeout),
    "abort": (lambda exchange: exchange.abort(GONE), ClientDisconnected),
}


@pytest.mark.parametrize("waker", WAKERS)
def test_a_read_waits_and_each_of_its_wakers_ends_the_wait(waker: str) -> None:
    wake, expected = WAKERS[waker]

    async def scenario() -> None:
        handoff = make_handoff()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        assert exchange.waiting_since is None
        handoff.submit("c", read)
        exchange.wait_until_parked()
        since = exchange.waiting_since
        assert since is not None and since <= asyncio.get_running_loop().time()
        wake(exchange)
        wait(read.done)
        assert exchange.waiting_since is None
        if isinstance(expected, bytes):
            assert read.error is None and read.result == expected
        else:
            assert isinstance(read.error, expected)

    on_loop(scenario())


def test_a_note_of_sent_bytes_does_not_end_a_read() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        handoff.submit("c", read)
        exchange.wait_until_parked()
        exchange.note_sent(0)
        exchange.wait_until_parked()
        assert not read.done.is_set()
        exchange.end_body([])
        wait(read.done)

    on_loop(scenario())


def test_what_came_before_the_failure_of_a_body_is_read_first() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        exchange = Exchange(handoff, Recorder(), 0)
        exchange.feed(b"half", 4)
        exchange.fail_body(RequestTimeout("late"))
        reads = [Call(exchange.read) for _ in range(3)]
        for read in reads:
            handoff.submit("c", read)
            wait(read.done)
        assert reads[0].result == b"half"
        assert all(isinstance(read.error, RequestTimeout) for read in reads[1:])

    on_loop(scenario())


def test_data_that_has_come_is_no_longer_waited_for() -> None:
    """The deadline must not hit a thread that was only slow to wake up."""

    async def scenario() -> None:
        handoff = make_handoff()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        handoff.submit("c", read)
        exchange.wait_until_parked()
        assert exchange.waiting_since is not None
        # `feed` up to its notify: a thread that has not got to run yet looks the same.
        exchange._chunks.append(b"da")
        assert exchange.waiting_since is None
        exchange.feed(b"ta", 4)
        wait(read.done)
        assert read.result == b"data"

    on_loop(scenario())


def test_the_body_is_a_file() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        exchange = Exchange(handoff, Recorder(), 0)
        body = io.BufferedReader(RequestBody(exchange), 4)
        exchange.feed(b"first line\nsecond ", 18)
        exchange.feed(b"line\nrest", 9)
        exchange.end_body([])
        read = Call(lambda: (body.readline(), body.readline(), body.read(2), body.read()))
        handoff.submit("c", read)
        wait(read.done)
        assert read.result == (b"first line\n", b"second line\n", b"re", b"st")
        assert body.readable()

    on_loop(scenario())


def test_100_continue_is_sent_once_and_only_if_the_body_has_to_be_waited_for() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner)
        exchange.expects_continue = True
        reads = [Call(exchange.read) for _ in range(2)]
        for read in reads:
            handoff.submit("c", read)
            exchange.wait_until_parked()
            await owner.wait_for("informational")
            exchange.feed(b"data", 4)
            wait(read.done)
        assert owner.of(exchange)[0] == ("informational", [(b":status", b"100")])
        assert owner.count("informational") == 1

        early = ObservedExchange(handoff, owner)
        early.expects_continue = True
        early.feed(b"data", 4)
        read = Call(early.read)
        handoff.submit("c", read)
        wait(read.done)
        await owner.wait_for("read", 3)
        assert owner.count("informational") == 1

    on_loop(scenario())


@pytest.mark.parametrize("part", ["head", "data"])
def test_no_100_continue_after_the_response_has_begun(part: str) -> None:
    """RFC 9110 section 15.2: an interim response comes before the final one."""

    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner)
        exchange.expects_continue = True

        def job() -> bytes:
            if part == "head":
                exchange.send_head([(b":status", b"200")])
            else:
                exchange.send_data(b"HTTP/1.1 200 OK\r\n\r\n")
            return exchange.read()

        read = Call(job)
        handoff.submit("c", read)
        exchange.wait_until_parked()
        exchange.feed(b"data", 4)
        wait(read.done)
        await owner.wait_for("read")
        assert owner.count("informational") == 0
        # Whoever reuses the connection must know that the client may not send its body.
        assert exchange.expects_continue

    on_loop(scenario())


# -- the end --------------------------------------------------------------------------


def test_an_abort_ends_a_blocked_write() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        exchange = ObservedExchange(handoff, Recorder(), 0)
        call = Call(lambda: exchange.send_data(b"x"))
        handoff.submit("c", call)
        exchange.wait_until_parked()
        exchange.abort(GONE)
        wait(call.done)
        assert call.error is GONE

    on_loop(scenario())


def test_nothing_waits_after_an_abort_and_the_first_reason_stands() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 0)
        exchange.feed(b"never read", 10)
        assert not exchange.aborted
        exchange.abort(GONE)
        exchange.abort(ClientDisconnected("again"))
        assert exchange.aborted
        calls = [
            Call(exchange.read),
            Call(lambda: exchange.send_informational([])),
            Call(lambda: exchange.send_head([])),
            Call(lambda: exchange.send_data(b"x")),
            Call(lambda: exchange.end_response([])),
        ]
        for call in calls:
            handoff.submit("c", call)
            wait(call.done)
            assert call.error is GONE
        assert owner.calls == []
        exchange.feed(b"more", 4)
        exchange.end_body([])
        read = Call(exchange.read)
        handoff.submit("c", read)
        wait(read.done)
        assert read.error is GONE
        # Letting go is possible always.
        handoff.submit("c", exchange.fail_response)
        handoff.submit("c", exchange.finish)
        await owner.wait_for("finished")
        assert [name for name, _ in owner.of(exchange)] == ["failed", "finished"]

    on_loop(scenario())


def test_an_informational_response_is_sent_at_once() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 0)
        hints = [(b":status", b"103")]
        handoff.submit("c", lambda: exchange.send_informational(hints))
        await owner.wait_for("informational")
        assert owner.of(exchange) == [("informational", hints)]

    on_loop(scenario())


def test_what_was_fed_and_not_read_can_be_taken_back() -> None:
    async def scenario() -> None:
        exchange = Exchange(make_handoff(), Recorder(), 0)
        assert exchange.take_unread() == b""
        exchange.feed(b"next ", 5)
        exchange.feed(b"request", 7)
        assert exchange.take_unread() == b"next request"
        assert exchange.take_unread() == b""

    on_loop(scenario())


def test_threads_are_named_and_end_with_the_process() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        seen: list[threading.Thread] = []
        call = Call(lambda: seen.append(threading.current_thread()))
        handoff.submit("c", call)
        wait(call.done)
        assert seen[0].name.startswith(POOL_PREFIX) and seen[0].daemon

    on_loop(scenario())
