"""The pool: who gets a thread when, and what a thread survives."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_h2.pool import _LOOK_INTERVAL, Pool
from tests.boundary.jobs import Call, Held, make_pool
from tests.support.boundary import (
    HANG,
    POOL_PREFIX,
    on_loop,
    until,
    wait,
)


def test_threads_are_started_as_needed_and_no_more_than_size() -> None:
    async def scenario() -> None:
        pool = make_pool(size=3)
        assert pool.busy == 0
        held = [Held() for _ in range(5)]
        for expected, job in zip((1, 2, 3, 3, 3), held, strict=True):
            assert pool.submit("c", job)
            await until(lambda expected=expected: pool.busy == expected)  # type: ignore[misc]
        await until(lambda: pool.queued == 2)
        for job in held[:3]:
            await until(job.started.is_set)
        assert not held[3].started.is_set() and not held[4].started.is_set()
        for job in held:
            job.let_go.set()
            await until(job.started.is_set)
        await until(lambda: not pool.busy)
        assert len({job.thread for job in held}) == 3

    on_loop(scenario())


def test_an_idle_thread_is_used_before_a_new_one_is_started() -> None:
    async def scenario() -> None:
        pool = make_pool(size=8)
        threads = set()
        for _ in range(20):
            job = Held()
            job.let_go.set()
            assert pool.submit("c", job)
            await until(job.started.is_set)
            await until(lambda: not pool.busy)
            threads.add(job.thread)
        assert len(threads) == 1

    on_loop(scenario())


def test_the_thread_that_was_busy_last_is_the_next_to_work() -> None:
    async def scenario() -> None:
        pool = make_pool(size=4)
        held = [Held() for _ in range(4)]
        for job in held:
            pool.submit("c", job)
            await until(job.started.is_set)
        for left, index in zip((3, 2, 1, 0), (2, 0, 3, 1), strict=True):
            held[index].let_go.set()
            await until(lambda left=left: pool.busy == left)  # type: ignore[misc]
        again = [Held() for _ in range(4)]
        for job in again:
            pool.submit("c", job)
            await until(job.started.is_set)
        assert [job.thread for job in again] == [held[i].thread for i in (1, 3, 0, 2)]
        for job in again:
            job.let_go.set()

    on_loop(scenario())


def test_threads_are_woken_when_all_that_has_arrived_is_taken_in() -> None:
    async def scenario() -> None:
        pool = make_pool(size=4)
        first, second = Held(), Held()
        first.let_go.set()
        assert pool.submit("c", first)
        await until(first.started.is_set)
        await until(lambda: not pool.busy)
        assert pool.submit("c", second)
        assert not second.started.wait(0.05)
        await until(second.started.is_set)
        second.let_go.set()

    on_loop(scenario())


def test_in_a_crowd_short_jobs_are_left_to_few_threads() -> None:
    async def scenario() -> None:
        pool = make_pool(size=16, max_queued=2_000)
        held = [Held() for _ in range(16)]
        for job in held:
            assert pool.submit("c", job)
            await until(job.started.is_set)
        for job in held:
            job.let_go.set()
        await until(lambda: not pool.busy)
        threads: list[int] = []

        def busy() -> None:
            sum(range(10_000))
            threads.append(threading.get_ident())

        for _ in range(2_000):
            assert pool.submit("c", busy)
        # This thread wants the interpreter all the time, as those do.
        await until(lambda: len(threads) == 2_000)
        assert len(set(threads)) < 8

    on_loop(scenario())


def test_connections_take_turns_and_each_is_served_in_order() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1)
        first = Held()
        pool.submit("a", first)
        await until(first.started.is_set)
        order: list[str] = []
        done = threading.Event()

        def job(name: str) -> Callable[[], None]:
            def run() -> None:
                order.append(name)
                if len(order) == 8:
                    done.set()

            return run

        for name in ("a1", "a2", "a3", "a4", "b1", "c1", "c2", "b2"):
            assert pool.submit(name[0], job(name))
        first.let_go.set()
        wait(done)
        assert order == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"]

    on_loop(scenario())


def test_a_connection_that_comes_back_queues_up_behind_the_others() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1)
        order: list[str] = []
        steps = {name: Held() for name in ("a1", "b1", "b2", "a2")}

        def job(name: str) -> Callable[[], None]:
            def run() -> None:
                order.append(name)
                steps[name]()

            return run

        pool.submit("a", job("a1"))
        await until(steps["a1"].started.is_set)
        pool.submit("b", job("b1"))
        pool.submit("b", job("b2"))
        steps["a1"].let_go.set()
        await until(steps["b1"].started.is_set)
        pool.submit("a", job("a2"))
        for name in ("b1", "b2", "a2"):
            steps[name].let_go.set()
        await until(steps["a2"].started.is_set)
        assert order == ["a1", "b1", "b2", "a2"]

    on_loop(scenario())


def test_the_queue_is_bounded_and_a_refused_job_never_runs() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1, max_queued=2)
        held = [Held() for _ in range(3)]
        for job in held:
            assert pool.submit("a", job)
        refused = Held()
        assert not pool.submit("a", refused)
        assert not pool.submit("b", refused)
        await until(lambda: pool.queued == 2)
        for job in held:
            job.let_go.set()
            await until(job.started.is_set)
        await until(lambda: not pool.busy)
        assert not refused.started.is_set()
        assert pool.queued == 0
        late = Held()
        late.let_go.set()
        assert pool.submit("b", late)
        await until(late.started.is_set)

    on_loop(scenario())


def test_a_job_that_raises_costs_the_pool_no_thread() -> None:
    async def scenario() -> None:
        reports: list[Any] = []
        pool = make_pool(size=2, reports=reports)
        errors: list[type[BaseException]] = [ValueError, SystemExit, KeyboardInterrupt]

        def raiser(error: type[BaseException]) -> Callable[[], None]:
            def run() -> None:
                raise error

            return run

        for error in errors * 4:
            assert pool.submit("c", raiser(error))
        await until(lambda: len(reports) == 12)
        held = [Held(), Held()]
        for job in held:
            pool.submit("c", job)
        for job in held:
            await until(job.started.is_set)
            job.let_go.set()

    on_loop(scenario())


def test_an_idle_thread_keeps_nothing_of_its_last_job() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1)
        held = Held()
        held.let_go.set()
        gone = weakref.ref(held)
        pool.submit("c", held)
        await until(held.started.is_set)
        await until(lambda: not pool.busy)
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
        pool = make_pool(size=3)
        first, second = Held(), Held()
        assert pool.submit("c", first)
        await until(first.started.is_set)
        no_new_threads()
        assert pool.submit("c", second)
        assert pool.busy == 1
        first.let_go.set()
        second.let_go.set()
        await until(second.started.is_set)
        assert second.thread == first.thread

    on_loop(scenario())


def test_where_no_thread_can_be_started_at_all_a_job_is_refused(no_new_threads: Any) -> None:
    async def scenario() -> None:
        pool = make_pool(size=3)
        refused, taken = Held(), Held()
        old = threading.stack_size()
        no_new_threads()
        for _ in range(4):
            assert not pool.submit("c", refused)
        assert pool.busy == 0
        threading.stack_size(old)
        taken.let_go.set()
        assert pool.submit("c", taken)
        await until(taken.started.is_set)
        assert not refused.started.is_set()

    on_loop(scenario())


def test_threads_are_named_and_end_with_the_process() -> None:
    async def scenario() -> None:
        pool = make_pool()
        seen: list[threading.Thread] = []
        call = Call(lambda: seen.append(threading.current_thread()))
        pool.submit("c", call)
        wait(call.done)
        assert seen[0].name.startswith(POOL_PREFIX) and seen[0].daemon

    on_loop(scenario())


# -- long requests ----------------------------------------------------------------------


def test_a_long_request_lets_another_thread_be_started() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1, max_size=3)
        held = [Held() for _ in range(5)]
        for job in held:
            assert pool.submit("c", job)
        # Each becomes long in its turn; the bound is the bound.
        for job in held[:3]:
            await until(job.started.is_set)
        assert pool.busy == 3
        assert pool.queued == 2 and not held[3].started.is_set()
        held[1].let_go.set()
        await until(held[3].started.is_set)
        for job in held:
            job.let_go.set()
        await until(held[4].started.is_set)

    on_loop(scenario())


def test_a_new_request_gets_a_thread_where_all_others_are_long() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2, max_size=5, long_after=0.0)
        held = [Held() for _ in range(5)]
        for job in held:
            assert pool.submit("c", job)
            await until(job.started.is_set)
        for job in held:
            job.let_go.set()

    on_loop(scenario())


def test_short_requests_do_not_make_the_pool_grow() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2, max_size=50, long_after=HANG)
        held = [Held() for _ in range(6)]
        for job in held:
            assert pool.submit("c", job)
        await until(lambda: pool.busy == 2 and pool.queued == 4)
        for job in held:
            job.let_go.set()
            await until(job.started.is_set)
        await until(lambda: not pool.busy)
        assert len({job.thread for job in held}) == 2

    on_loop(scenario())


def test_the_pool_shrinks_as_long_requests_end() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2, max_size=20)
        held = [Held() for _ in range(20)]
        for job in held:
            assert pool.submit("c", job)
        for job in held:
            await until(job.started.is_set)
        await until(lambda: pool.stuck(0.01))
        idents = {job.thread for job in held}

        def alive() -> int:
            return sum(thread.ident in idents for thread in threading.enumerate())

        assert alive() == 20
        for job in held[:10]:
            job.let_go.set()
        # Beside ten long ones there is room for two.
        await until(lambda: pool.busy == 10 and alive() == 12)
        for job in held[10:]:
            job.let_go.set()
        await until(lambda: not pool.busy and alive() == 2)
        last = [Held() for _ in range(2)]
        for job in last:
            assert pool.submit("c", job)
            await until(job.started.is_set)
            job.let_go.set()

    on_loop(scenario())


def test_a_thread_too_many_leaves_the_queue_to_the_others() -> None:
    """`size` is how many requests run that are not long, also after a rush of long ones."""

    async def scenario() -> None:
        pool = make_pool(size=1, max_size=3, long_after=0.2)
        long = [Held(), Held()]
        for job in long:
            assert pool.submit("c", job)
            await until(job.started.is_set)
        short = [Held() for _ in range(3)]
        for job in short:
            assert pool.submit("c", job)
        await until(short[0].started.is_set)
        running: list[int] = []
        # The end of a long one must not make two short ones run side by side.
        pool._long_after = HANG
        for job in long:
            job.let_go.set()
        await until(lambda: pool.busy == 1)
        for job in short:
            await until(job.started.is_set)
            running.append(pool.busy)
            job.let_go.set()
        assert running == [1, 1, 1]

    on_loop(scenario())


def test_where_no_thread_can_be_started_the_pool_does_not_grow(no_new_threads: Any) -> None:
    async def scenario() -> None:
        pool = make_pool(size=1, max_size=3)
        first, second = Held(), Held()
        assert pool.submit("c", first)
        await until(first.started.is_set)
        no_new_threads()
        assert pool.submit("c", second)
        # The loop's clock: the pool has looked twice when this timer is due.
        await asyncio.sleep(3 * _LOOK_INTERVAL)
        assert pool.busy == 1 and pool.queued == 1
        first.let_go.set()
        second.let_go.set()
        await until(second.started.is_set)

    on_loop(scenario())


def test_a_pool_is_stuck_when_every_thread_has_been_busy_for_too_long() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2)
        held = [Held(), Held()]
        assert not pool.stuck(0)
        assert pool.submit("c", held[0])
        await until(held[0].started.is_set)
        assert not pool.stuck(0)
        assert pool.submit("c", held[1])
        await until(held[1].started.is_set)
        assert pool.stuck(0)
        assert not pool.stuck(HANG)
        held[0].let_go.set()
        await until(lambda: pool.busy == 1)
        assert not pool.stuck(0)
        held[1].let_go.set()

    on_loop(scenario())


# -- peers that keep their threads waiting -----------------------------------------------


class Waiting(Held):
    """A job that waits for its peer until it is let go."""

    def __init__(self, pool: Pool) -> None:
        super().__init__()
        self._pool = pool

    def __call__(self) -> None:
        with self._pool.waiting_for_peer():
            super().__call__()


def test_a_peer_that_keeps_every_thread_waiting_holds_up_nobody_else() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2)
        slow = [Waiting(pool) for _ in range(5)]
        for job in slow:
            assert pool.submit("slow", job)
        for job in slow[:2]:
            await until(job.started.is_set)
        others = [Held(), Held()]
        for name, job in zip("ab", others, strict=True):
            assert pool.submit(name, job)
            await until(job.started.is_set)
            job.let_go.set()
        await until(lambda: pool.busy == 2)
        # Its own requests wait, though there are idle threads now.
        assert pool.queued == 3 and not any(job.started.is_set() for job in slow[2:])
        for job in slow:
            job.let_go.set()
            await until(job.started.is_set)
        await until(lambda: not pool.busy)
        assert len(pool._threads) == 2

    on_loop(scenario())


def test_requests_that_wait_already_get_a_thread_when_others_begin_to_wait() -> None:
    async def scenario() -> None:
        pool = make_pool(size=1)
        slow, other = Waiting(pool), Held()
        begin = threading.Event()

        def first() -> None:
            wait(begin)
            slow()

        assert pool.submit("slow", first)
        assert pool.submit("other", other)
        await until(lambda: pool.queued == 1)
        begin.set()
        await until(other.started.is_set)
        assert not slow.let_go.is_set()
        for job in (slow, other):
            job.let_go.set()

    on_loop(scenario())


def test_no_more_than_as_many_threads_again_stand_in_for_those_that_wait() -> None:
    async def scenario() -> None:
        pool = make_pool(size=2)
        slow = [Waiting(pool) for _ in range(5)]
        for number, job in enumerate(slow):
            assert pool.submit(number, job)
        for job in slow[:4]:
            await until(job.started.is_set)
        assert pool.busy == 4 and pool.queued == 1
        slow[0].let_go.set()
        await until(slow[4].started.is_set)
        for job in slow:
            job.let_go.set()

    on_loop(scenario())
