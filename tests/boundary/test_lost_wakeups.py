"""Every place where one switch of threads could lose a wake-up, tried one after the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gunicorn_h2.errors import ClientDisconnected, RequestTimeout
from gunicorn_h2.handoff import Exchange
from gunicorn_h2.pool import Pool
from tests.boundary.jobs import make_boundary, make_pool, start
from tests.boundary.pausing import Pause
from tests.support.boundary import GONE, HANG, Recorder, on_loop, until, wait

#: More lines than any of these scenarios runs: something would be wrong.
TOO_MANY = 2_000
#: Turns of the loop in which L does all that it can do by itself.
TURNS = 4


def at_every_line(scenario: Callable[[Pause], Awaitable[None]]) -> None:
    """Run ``scenario`` with its pause before each line, until it no longer gets there."""

    async def scenarios() -> None:
        for at in range(TOO_MANY):
            pause = Pause(at)
            try:
                await asyncio.wait_for(scenario(pause), HANG)
            except BaseException as error:
                raise AssertionError(f"paused before {pause.where}: {error!r}") from error
            finally:
                pause.let_go.set()
            if not pause.reached.is_set():
                assert at > 0, "nothing was observed"
                return
        raise AssertionError("the scenario does not end")

    on_loop(scenarios(), limit=2 * HANG)


class Run:
    """A function run on the pool, under observation."""

    def __init__(self, pool: Pool, pause: Pause, function: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self._function = pause(function)
        self._go = threading.Event()
        start(pool, self)
        # Not while L is in `submit`, with the lock.
        self._go.set()

    def __call__(self) -> None:
        wait(self._go)
        try:
            self.result = self._function()
        except OSError as error:
            self.result = error
        self.done.set()


async def turn() -> None:
    """Let L do all that it can do by itself."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


# -- posts and drains -----------------------------------------------------------------


def test_no_post_is_lost_whenever_the_loop_drains() -> None:
    async def scenario(pause: Pause) -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)

        def job() -> None:
            for _ in range(3):
                exchange.send_data(b"x")

        run = Run(pool, pause, job)
        # L stands still until the thread does, then drains what there is.
        while not (pause.reached.is_set() or run.done.is_set()):
            pause.reached.wait(0.001)
        await turn()
        pause.let_go.set()
        await owner.wait_for("data", 3)

    at_every_line(scenario)


def test_no_post_is_lost_wherever_the_loop_is_in_its_drain() -> None:
    async def scenario(pause: Pause) -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        first, second, go = threading.Event(), threading.Event(), threading.Event()

        def job() -> None:
            exchange.send_data(b"first")
            first.set()
            wait(go)
            exchange.send_data(b"second")
            second.set()

        def meanwhile() -> None:
            go.set()
            wait(second)

        pause.instead = meanwhile
        start(pool, job)
        wait(first)
        drain = handoff._drain
        handoff._drain = pause(drain)  # type: ignore[method-assign]
        # The wake-up that is under way has the unobserved function: call this one.
        handoff._drain()
        handoff._drain = drain  # type: ignore[method-assign]
        if not pause.reached.is_set():
            meanwhile()
        await owner.wait_for("data", 2)

    at_every_line(scenario)


# -- reads ----------------------------------------------------------------------------

WAKERS: dict[str, tuple[Callable[[Exchange], None], object]] = {
    "data": (lambda exchange: exchange.feed(b"data", 4), b"data"),
    "end": (lambda exchange: exchange.end_body([]), b""),
    "fail_body": (lambda exchange: exchange.fail_body(RequestTimeout("late")), RequestTimeout),
    "abort": (lambda exchange: exchange.abort(GONE), ClientDisconnected),
}


@pytest.mark.parametrize("waker", WAKERS)
def test_no_waker_of_a_read_is_missed(waker: str) -> None:
    wake, expected = WAKERS[waker]

    async def scenario(pause: Pause) -> None:
        handoff, pool = make_boundary()
        exchange = Exchange(handoff, Recorder(), 0)
        run = Run(pool, pause, exchange.read)
        # Without the lock, which the thread may need.
        while not (pause.reached.is_set() or exchange._waiting_since):
            pause.reached.wait(0.001)
        wake(exchange)
        pause.let_go.set()
        wait(run.done)
        result = run.result
        assert result == expected if isinstance(expected, bytes) else type(result) is expected
        assert exchange.waiting_since is None

    at_every_line(scenario)


# -- writes ---------------------------------------------------------------------------


def test_no_note_of_sent_bytes_is_missed() -> None:
    async def scenario(pause: Pause) -> None:
        handoff, pool = make_boundary()
        sent: list[int] = []

        class Sender(Recorder):
            def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
                size = sum(map(len, parts))
                sent.append(size)
                exchange.note_sent(size)

        exchange = Exchange(handoff, Sender(), 0)

        def job() -> None:
            for _ in range(3):
                exchange.send_data(b"abc")

        run = Run(pool, pause, job)
        await until(lambda: pause.reached.is_set() or run.done.is_set())
        await turn()
        pause.let_go.set()
        await until(run.done.is_set)
        assert run.result is None and sent == [3, 3, 3]

    at_every_line(scenario)


def test_no_abort_is_missed_by_a_write() -> None:
    async def scenario(pause: Pause) -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 4)

        def job() -> None:
            exchange.send_head([])
            exchange.send_data(b"abc")
            # This one waits: nothing is ever sent.
            exchange.send_data(b"abc")

        run = Run(pool, pause, job)
        await until(lambda: pause.reached.is_set() or owner.count("data") == 2)
        exchange.abort(GONE)
        pause.let_go.set()
        await until(run.done.is_set)
        assert run.result is GONE

    at_every_line(scenario)


# -- the pool -------------------------------------------------------------------------


def test_no_job_is_left_lying_when_a_thread_runs_out_of_work() -> None:
    async def scenario(pause: Pause) -> None:
        pool = make_pool()
        go, second, third = threading.Event(), threading.Event(), threading.Event()

        def first() -> None:
            # Not while L is in `submit`, with the lock.
            wait(go)
            pause.watch_caller()

        start(pool, first, "a")
        go.set()
        while not (pause.reached.is_set() or pool._idle):
            pause.reached.wait(0.001)
        assert pool.submit("a", second.set)
        assert pool.submit("b", third.set)
        pause.let_go.set()
        await until(second.is_set)
        await until(third.is_set)
        await until(lambda: not pool.busy)
        await until(lambda: pool.queued == 0)

    at_every_line(scenario)
