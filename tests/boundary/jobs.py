"""What the tests of the boundary run on the pool."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_h2.handoff import Handoff
from gunicorn_h2.pool import Pool
from tests.support.boundary import wait

LOOPS = pytest.mark.parametrize("kind", ["asyncio", "uvloop"])


def make_pool(
    size: int = 1,
    max_queued: int = 100,
    reports: list[Any] | None = None,
    max_size: int = 0,
    long_after: float = 0.01,
) -> Pool:
    def report() -> None:
        assert reports is not None, "a job raised"
        reports.append(True)

    loop = asyncio.get_running_loop()
    return Pool(loop, size, max_size or size, long_after, max_queued, report)


def make_boundary(size: int = 1) -> tuple[Handoff, Pool]:
    pool = make_pool(size)
    return Handoff(asyncio.get_running_loop(), pool.waiting_for_peer, 100), pool


def start(pool: Pool, job: Callable[[], None], connection: Any = "c") -> None:
    """Give a thread to a job while the loop stands still, which is this thread."""
    assert pool.submit(connection, job)
    while pool.queued:
        pool._look()


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
