"""The thread pool: which request gets a thread, when, and how many threads there are.

`Pool.submit` is called on the loop thread (L), which never waits in here for longer than
a lock is held, a few instructions; jobs run on the pool's own threads (P). Beside
handoff.py, the way between the threads, the only module that knows of threads.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

Job = Callable[[], None]


def _nothing() -> None:
    """The job of an idle thread."""


class _Thread:
    """A thread of the pool, the baton it waits for and the job that comes with it."""

    __slots__ = ("baton", "job", "since")

    def __init__(self, job: Job, now: float) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        self.job = job
        #: When it took its job (`time.monotonic`); None while it is idle.
        self.since: float | None = now


class Pool:
    """Threads for requests, taken in turns by the connections. Made on L.

    A request that has run for ``long_after`` seconds, an event stream for instance, no
    longer counts towards ``size``: another thread may take its place, up to ``max_size``
    threads in all. As such requests end, the threads beyond ``size`` end with them.

    :param size: number of threads; they are started as they are needed.
    :param max_size: the same as ``size`` for a pool that does not grow.
    :param max_queued: requests that may wait for a thread, in all.
    :param report: called, on P, with no arguments inside an ``except`` block for
        an exception that a job should not have let through.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        size: int,
        max_size: int,
        long_after: float,
        max_queued: int,
        report: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._size = size
        self._max_size = max_size
        self._long_after = long_after
        self._max_queued = max_queued
        self._report = report
        self._numbers = itertools.count(1)
        #: Looks again whether more threads may be started (owned by L).
        self._grow_timer: asyncio.TimerHandle | None = None
        # Both sides change what follows, under the lock.
        self._lock = threading.Lock()
        self._threads: set[_Thread] = set()
        #: Last in, first out: few warm threads rather than many cold ones.
        self._idle: list[_Thread] = []
        #: Waiting jobs by connection, and the connections in their turns.
        self._queues: dict[Any, deque[Job]] = {}
        self._turns: deque[Any] = deque()
        self._queued = 0

    @property
    def queued(self) -> int:
        """Requests that wait for a thread."""
        return self._queued

    @property
    def busy(self) -> int:
        """Threads that run a request."""
        with self._lock:
            return len(self._threads) - len(self._idle)

    def stuck(self, limit: float) -> bool:
        """Whether each thread there may be has run its request for over ``limit`` seconds."""
        with self._lock:
            return (
                not self._idle
                and len(self._threads) == self._max_size
                and self._running_for(limit) == self._max_size
            )

    def submit(self, connection: Any, job: Job) -> bool:
        """Run ``job`` on a thread, in its connection's turn (L).

        :returns: False when the queue is full; the job is not taken then.
        """
        with self._lock:
            if self._idle:
                thread = self._idle.pop()
                thread.job = job
                thread.since = time.monotonic()
                thread.baton.release()
                return True
            if len(self._threads) < self._allowed() and self._start_thread(job):
                return True
            if self._queued >= self._max_queued or not self._threads:
                return False
            queue = self._queues.get(connection)
            if queue is None:
                queue = self._queues[connection] = deque()
                self._turns.append(connection)
            queue.append(job)
            self._queued += 1
        self._grow_later()
        return True

    def _grow_later(self) -> None:
        """Time alone may allow another thread, when what runs has become long (L)."""
        if self._max_size > self._size and self._grow_timer is None:
            self._grow_timer = self._loop.call_later(self._long_after, self._grow)

    def _grow(self) -> None:
        self._grow_timer = None
        with self._lock:
            if not self._queued:
                return
            for _ in range(min(self._queued, self._allowed() - len(self._threads))):
                # It finds its first job in the queue.
                if not self._start_thread(_nothing):
                    break
        self._grow_later()

    def _allowed(self) -> int:
        """How many threads there may be (with the lock)."""
        if self._max_size == self._size or len(self._threads) < self._size:
            return self._size
        return min(self._max_size, self._size + self._running_for(self._long_after))

    def _running_for(self, seconds: float) -> int:
        """Threads that have run their request for so long (with the lock)."""
        then = time.monotonic() - seconds
        return sum(thread.since is not None and thread.since <= then for thread in self._threads)

    def _start_thread(self, job: Job) -> bool:
        entry = _Thread(job, time.monotonic())
        thread = threading.Thread(
            target=self._work,
            args=(entry,),
            name=f"gunicorn-h2-{next(self._numbers)}",
            # A stuck application must not keep the process from exiting.
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            # The system's limit; the threads that are there have to do.
            return False
        self._threads.add(entry)
        return True

    # -- on P ---------------------------------------------------------------

    def _work(self, thread: _Thread) -> None:
        job: Job | None = thread.job
        while job is not None:
            try:
                job()
            except BaseException:
                # A job answers for its own errors; this one is a bug, and a bug
                # must not cost the pool a thread.
                self._report()
            # A thread that waits must not keep a request's objects alive.
            thread.job = job = _nothing
            job = self._next_job(thread)

    def _next_job(self, thread: _Thread) -> Job | None:
        """The next job, once there is one; None where this thread is one too many."""
        with self._lock:
            thread.since = None
            if len(self._threads) > self._allowed():
                self._threads.discard(thread)
                return None
            if self._turns:
                thread.since = time.monotonic()
                return self._take_job()
            self._idle.append(thread)
        thread.baton.acquire()
        return thread.job

    def _take_job(self) -> Job:
        """Take the job whose turn it is off the queue (with the lock)."""
        connection = self._turns.popleft()
        queue = self._queues[connection]
        job = queue.popleft()
        self._queued -= 1
        if queue:
            self._turns.append(connection)
        else:
            del self._queues[connection]
        return job
