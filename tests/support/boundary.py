"""The thread boundary, held still: loops that count, waits that tell, an owner that records.

The loops, the pool's threads and the exchanges are the real ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

from gunicorn_h2.errors import ClientDisconnected
from gunicorn_h2.handoff import Exchange, Handoff

#: For every wait of a test: long enough for any machine, and then it is a hang.
HANG = float(os.environ.get("BOUNDARY_HANG", "60"))

POOL_PREFIX = "gunicorn-h2-"

GONE = ClientDisconnected("gone")


class CountingLoop(asyncio.SelectorEventLoop):
    """A real loop that counts by what threads it was woken."""

    def __init__(self) -> None:
        super().__init__()
        self.wakers: Counter[str] = Counter()

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self.wakers[threading.current_thread().name] += 1
        return super().call_soon_threadsafe(callback, *args, context=context)

    @property
    def wake_ups(self) -> int:
        """How often a thread of a pool woke the loop."""
        return sum(n for name, n in self.wakers.items() if name.startswith(POOL_PREFIX))


def make_loop(kind: str) -> asyncio.AbstractEventLoop:
    """A loop of the kind "asyncio" or "uvloop"."""
    if kind == "asyncio":
        return CountingLoop()
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def on_loop(
    coroutine: Coroutine[Any, Any, None],
    kind: str = "asyncio",
    reports: int = 0,
    limit: float = HANG,
) -> None:
    """Run a test on a loop of its own; what the loop had to report fails the test.

    :param reports: number of exceptions that are to reach the loop.

    The test is the loop thread, so what it does without awaiting happens at one
    moment for the loop: a burst from threads can be complete before any of it
    is drained.
    """
    loop = make_loop(kind)
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        loop.run_until_complete(asyncio.wait_for(coroutine, limit))
    except asyncio.TimeoutError:
        raise AssertionError("hangs\n" + thread_stacks()) from None
    finally:
        loop.close()
    assert len(reported) == reports, reported


def thread_stacks() -> str:
    """Where every busy thread of a pool stands, for the message of a failed test."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident)}:\n" + "".join(traceback.format_stack(frame)[-6:])
        for ident, frame in sys._current_frames().items()
        if (names.get(ident) or "").startswith(POOL_PREFIX) and frame.f_code.co_name != "_next_job"
    )


def wait(event: threading.Event | threading.Barrier) -> None:
    """Wait for a thread, or fail; called on L this holds the loop still."""
    if isinstance(event, threading.Barrier):
        event.wait(HANG)
    elif not event.wait(HANG):
        raise AssertionError("a thread did not get there\n" + thread_stacks())


async def until(condition: Callable[[], bool]) -> None:
    """Turn the loop until ``condition`` holds; the test's own timeout is the limit."""
    while not condition():
        await asyncio.sleep(0)


class ObservedCondition(threading.Condition):
    """A condition that tells when somebody is about to wait for it.

    It tells so under its lock, which only the wait gives up: whoever then takes
    the lock finds the thread waiting.
    """

    def __init__(self, lock: threading.Lock) -> None:
        super().__init__(lock)
        self.parked = threading.Event()

    def wait(self, timeout: float | None = None) -> bool:
        self.parked.set()
        try:
            return super().wait(timeout)
        finally:
            self.parked.clear()


class ObservedExchange(Exchange):
    """An exchange of which a test can know that its thread waits."""

    __slots__ = ()

    def __init__(self, handoff: Handoff, owner: Any, high_water_mark: int = 65_536) -> None:
        super().__init__(handoff, owner, high_water_mark)
        self._changed: Any = ObservedCondition(self._lock)

    def wait_until_parked(self) -> None:
        """Return once the pool thread waits in this exchange (L, which is held still)."""
        condition = self._changed
        wait(condition.parked)
        with condition:
            assert condition.parked.is_set(), "the thread did not wait but went on"


class Recorder:
    """An owner that keeps what it was told, in order."""

    def __init__(self) -> None:
        #: (name of the method, exchange, argument).
        self.calls: list[tuple[str, Exchange, Any]] = []
        self.flushes = 0
        self.loop_threads: set[int] = set()
        self._news = asyncio.Event()

    def _note(self, name: str, exchange: Exchange, argument: Any) -> None:
        self.loop_threads.add(threading.get_ident())
        self.calls.append((name, exchange, argument))
        self._news.set()

    def response_informational(self, exchange: Exchange, fields: Any) -> None:
        self._note("informational", exchange, fields)

    def response_head(self, exchange: Exchange, fields: Any) -> None:
        self._note("head", exchange, fields)

    def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
        for data in parts:
            self._note("data", exchange, data)

    def response_end(self, exchange: Exchange, trailers: Any) -> None:
        self._note("end", exchange, trailers)

    def response_failed(self, exchange: Exchange, _: None) -> None:
        self._note("failed", exchange, None)

    def body_read(self, exchange: Exchange, credit: int) -> None:
        self._note("read", exchange, credit)

    def finished(self, exchange: Exchange, result: Any) -> None:
        self._note("finished", exchange, result)

    def flush(self) -> None:
        self.flushes += 1

    def of(self, exchange: Exchange) -> list[tuple[str, Any]]:
        """What was told of one exchange."""
        return [(name, argument) for name, of, argument in self.calls if of is exchange]

    def count(self, name: str) -> int:
        """How often one of the methods was called."""
        return sum(called == name for called, _, _ in self.calls)

    async def wait_for(self, name: str, count: int = 1) -> None:
        """Let the loop turn until ``name`` was called ``count`` times."""
        while self.count(name) < count:
            self._news.clear()
            await self._news.wait()
