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
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Job = Callable[[], None]

#: How long what waits for a thread may be overlooked, in seconds.
_LOOK_INTERVAL = 0.005
#: A thread that is woken goes on after a tenth of a millisecond. Where it took so many seconds,
#: others had the interpreter, which they give up every 5 ms (`sys.getswitchinterval`).
_CROWDED = 0.002
#: A job that has run for less is likely to end soon, in seconds.
_SHORT = 0.005


class _Thread:
    """A thread of the pool, the baton it waits for, and what it does. Changed under the lock."""

    __slots__ = ("baton", "connection", "since", "waits_for_peer", "woken_at")

    def __init__(self) -> None:
        self.baton = threading.Lock()
        self.baton.acquire()
        #: When it was woken last, or started.
        self.woken_at = time.monotonic()
        #: When it took its job (`time.monotonic`); None while it has none.
        self.since: float | None = None
        #: Whose job it is.
        self.connection: Any = None
        #: Its job can only go on when the peer has sent, or read.
        self.waits_for_peer = False


class Pool:
    """Threads for requests, taken in turns by the connections. Made on L.

    ``size`` requests run at the same time. Two kinds of requests do not count:

    - those that have run for ``long_after`` seconds, event streams for instance, up to
      ``max_size`` threads in all;
    - those that wait for a peer which sends or reads slowly, except for the requests of that
      same connection, up to twice ``size`` threads in all. So no peer can hold up the others.

    Threads that are too many end when nothing is left for them to do.

    Few threads do what many would only take the interpreter from each other for: those that
    were idle for the shortest time go first, and in a crowd a thread that is done with a job
    makes way for those that have one.

    :param size: number of threads; they are started as they are needed.
    :param max_size: the same as ``size`` where long requests count like all others.
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
        self._most = max(max_size, 2 * size)
        self._long_after = long_after
        self._max_queued = max_queued
        self._report = report
        self._numbers = itertools.count(1)
        #: L looks at the queue at the end of this turn, and again in a while (owned by L).
        self._looks_soon = self._looks_later = False
        #: The pool's thread that runs here (each thread sees its own).
        self._here = threading.local()
        # Both sides change what follows, under the lock.
        self._lock = threading.Lock()
        self._threads: set[_Thread] = set()
        #: Last in, first out: few warm threads rather than many cold ones.
        self._idle: list[_Thread] = []
        #: Waiting jobs by connection, and the connections in their turns.
        self._queues: dict[Any, deque[Job]] = {}
        self._turns: deque[Any] = deque()
        self._queued = 0
        #: A thread was woken or started and has not looked at the queue yet.
        self._waking = False
        #: The thread that was woken last had to wait for the interpreter.
        self._crowded = False

    @property
    def queued(self) -> int:
        """Requests that no thread has taken yet."""
        return self._queued

    @property
    def busy(self) -> int:
        """Threads that run a request."""
        with self._lock:
            return len(self._threads) - self._free()

    def stuck(self, limit: float) -> bool:
        """Whether each thread there may be has run its request for over ``limit`` seconds."""
        then = time.monotonic() - limit
        with self._lock:
            return sum(_began_before(thread, then) for thread in self._threads) >= self._max_size

    def submit(self, connection: Any, job: Job) -> bool:
        """Run ``job`` on a thread, in its connection's turn (L).

        The thread is woken when L has taken in everything that has arrived. Woken sooner, it
        would take the interpreter from L, and the two would change places for every request.

        :returns: False when the queue is full; the job is not taken then.
        """
        with self._lock:
            if self._queued - self._free() >= self._max_queued:
                return False
            if not self._threads and not self._start_thread():
                return False
            queue = self._queues.get(connection)
            if queue is None:
                queue = self._queues[connection] = deque()
                self._turns.append(connection)
            queue.append(job)
            self._queued += 1
        if not self._looks_soon:
            self._looks_soon = True
            self._loop.call_soon(self._look)
        return True

    def _look(self) -> None:
        """Wake a thread, if it has something to do; again later, as long as jobs wait (L).

        Time alone may let another job run: what runs has become long, or is not that short.
        """
        self._looks_soon = False
        with self._lock:
            self._wake_next()
            waits = self._queued > 0
        if waits and not self._looks_later:
            self._looks_later = True
            self._loop.call_later(_LOOK_INTERVAL, self._look_again)

    def _look_again(self) -> None:
        self._looks_later = False
        self._look()

    # -- with the lock --------------------------------------------------------

    def _free(self) -> int:
        """Threads without a job, be they idle, just woken or just started."""
        return len(self._idle) + self._waking

    def _wake_next(self) -> None:
        """Have a thread look at the queue, if there is a job for it and none is about to.

        It wakes the next, if there is work for two, so that of a burst of short requests,
        which a thread or two can do, not every thread takes the interpreter from the others.
        """
        if self._waking or self._next_turn() is None:
            return
        if self._idle:
            self._waking = True
            thread = self._idle.pop()
            thread.woken_at = time.monotonic()
            thread.baton.release()
        elif len(self._threads) < self._most:
            self._start_thread()

    def _next_turn(self) -> Any:
        """The first connection of which a job may run now, or None."""
        if not self._turns:
            return None
        busy = len(self._threads) - self._free()
        if busy < self._size:
            return self._turns[0]
        working, waiting = self._working()
        for connection in self._turns:
            if working + waiting[connection] < self._size:
                return connection
        return None

    def _working(self) -> tuple[int, Counter[Any]]:
        """How many threads count towards `size` for everybody; how many more for some."""
        grows = self._max_size > self._size
        then = time.monotonic() - self._long_after
        working = 0
        waiting: Counter[Any] = Counter()
        for thread in self._threads:
            if thread.since is None or (grows and _began_before(thread, then)):
                continue
            if thread.waits_for_peer:
                waiting[thread.connection] += 1
            else:
                working += 1
        return working, waiting

    def _start_thread(self) -> bool:
        """Have a new thread look at the queue; False where the system gives none."""
        entry = _Thread()
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
        self._waking = True
        return True

    def _take_job(self, thread: _Thread, connection: Any, now: float) -> Job:
        """Give ``thread`` the next job of ``connection``, whose turn it is."""
        thread.since = now
        thread.connection = connection
        queue = self._queues[connection]
        job = queue.popleft()
        self._queued -= 1
        if self._turns[0] is connection:
            self._turns.popleft()
        else:
            self._turns.remove(connection)
        if queue:
            self._turns.append(connection)
        else:
            del self._queues[connection]
        return job

    # -- on P ---------------------------------------------------------------

    @contextmanager
    def waiting_for_peer(self) -> Iterator[None]:
        """While the block lasts, the job that runs here needs its peer to go on."""
        thread = getattr(self._here, "thread", None)
        if thread is None:
            yield
            return
        with self._lock:
            thread.waits_for_peer = True
            self._wake_next()
        try:
            yield
        finally:
            with self._lock:
                thread.waits_for_peer = False

    def _work(self, thread: _Thread) -> None:
        self._here.thread = thread
        job = self._next_job(thread)
        while job is not None:
            try:
                job()
            except BaseException:
                # A job answers for its own errors; this one is a bug, and a bug
                # must not cost the pool a thread.
                self._report()
            # A thread that waits must not keep a request's objects alive.
            job = None
            job = self._next_job(thread)

    def _next_job(self, thread: _Thread) -> Job | None:
        """The next job, once there is one; None where this thread is one too many."""
        while True:
            with self._lock:
                now = time.monotonic()
                woken = thread.since is None
                if woken:
                    self._waking = False
                    self._crowded = now - thread.woken_at > _CROWDED
                thread.since = thread.connection = None
                self._idle.append(thread)
                makes_way = self._crowded and not woken and self._ends_soon(now)
                connection = None if makes_way else self._next_turn()
                if connection is not None:
                    self._idle.pop()
                    job = self._take_job(thread, connection, now)
                    if woken and not self._crowded:
                        # One that goes on after a job leaves no more room than there was.
                        self._wake_next()
                    return job
                if self._free() > self._size:
                    self._idle.pop()
                    self._threads.discard(thread)
                    return None
            thread.baton.acquire()

    def _ends_soon(self, now: float) -> bool:
        """Whether a thread has a job that is likely to end soon, and will take the next."""
        return any(
            thread.since is not None and now - thread.since < _SHORT and not thread.waits_for_peer
            for thread in self._threads
        )


def _began_before(thread: _Thread, then: float) -> bool:
    return thread.since is not None and thread.since <= then
