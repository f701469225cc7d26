"""The pool: who gets a thread when, and what a thread survives."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from tests.boundary.jobs import Call, Held, make_handoff
from tests.support.boundary import (
    POOL_PREFIX,
    on_loop,
    until,
    wait,
)


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


def test_threads_are_named_and_end_with_the_process() -> None:
    async def scenario() -> None:
        handoff = make_handoff()
        seen: list[threading.Thread] = []
        call = Call(lambda: seen.append(threading.current_thread()))
        handoff.submit("c", call)
        wait(call.done)
        assert seen[0].name.startswith(POOL_PREFIX) and seen[0].daemon

    on_loop(scenario())
