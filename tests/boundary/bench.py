"""A worker's server on a loop of a test, with the network replaced by memory.

Everything else is real: sessions, pool, Gunicorn's configuration and logger. But
only a transport in memory can be full, closed or lost at exactly the moment that
a test has chosen.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter, deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from gunicorn.config import Config
from gunicorn.glogging import Logger

from gunicorn_h2.handoff import Exchange, Handoff
from gunicorn_h2.pool import Pool
from gunicorn_h2.protocol import Link
from gunicorn_h2.server import Server
from gunicorn_h2.settings import Settings
from gunicorn_h2.worker import H2Worker
from tests.support.boundary import until

CLIENT = ("192.0.2.1", 40_000)
LISTENER = ("192.0.2.2", 8_000)


class MemoryTransport(asyncio.Transport):
    """An `asyncio.Transport` whose other end is the test; strict like uvloop's.

    What the server writes is buffered until the test takes it; the protocol is
    paused and resumed as the limits ask. What the test does as the peer reaches
    the protocol as it would from a loop: never after `close`, never while
    reading is paused, `connection_lost` exactly once and in a turn of its own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._buffer = bytearray()
        self._low, self._high = 16_384, 65_536
        self._paused = False
        self._reading = True
        self._closing = False
        self._eof = False
        self._lost_planned = False
        #: What the peer has sent and the server has not been given: reading was paused.
        self._incoming: deque[bytes] = deque()
        self._eof_sent = self._eof_delivered = False
        #: `connection_lost` was called.
        self.lost = False
        #: Set with every write and with the loss: there is something to look at.
        self.news = asyncio.Event()
        protocol.connection_made(self)

    # -- the server's side ----------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high is not None and low is not None
        self._high, self._low = high, low

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: Any) -> None:
        if self.lost:
            raise RuntimeError("write() after connection_lost(), as uvloop has it")
        if self._eof:
            raise RuntimeError("write() after write_eof()")
        if self._lost_planned:
            return
        self._buffer += data
        self.news.set()
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._closing and not self._eof:
            self._eof = True
            self.news.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self.news.set()
            if not self._buffer:
                self._plan_loss(None)

    def abort(self) -> None:
        self._closing = True
        self._buffer.clear()
        self._plan_loss(None)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._loop.call_soon(self._deliver)

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def _plan_loss(self, exc: Exception | None) -> None:
        if not self._lost_planned:
            self._lost_planned = True
            self._loop.call_soon(self._lose, exc)

    def _lose(self, exc: Exception | None) -> None:
        self.lost = True
        self.news.set()
        self._protocol.connection_lost(exc)

    # -- the peer's side --------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the peer would see the end of what the server sends."""
        return self.lost or (self._eof and not self._buffer)

    def take(self, size: int = sys.maxsize) -> bytes:
        """What the server has written, as far as the peer reads it."""
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._closing and not self._buffer:
            self._plan_loss(None)
        if self._paused and len(self._buffer) <= self._low:
            self._paused = False
            if not self._lost_planned:
                self._protocol.resume_writing()
        return taken

    def send(self, data: bytes) -> None:
        """Bytes for the server; none can follow the end of them."""
        if data and not self._eof_sent:
            self._incoming.append(data)
            self._deliver()

    def send_eof(self) -> None:
        """The peer shuts its side down."""
        self._eof_sent = True
        self._deliver()

    def disconnect(self) -> None:
        """The peer resets the connection."""
        self._closing = True
        self._buffer.clear()
        self._plan_loss(ConnectionResetError())

    def _deliver(self) -> None:
        while self._incoming and self.is_reading():
            self._protocol.data_received(self._incoming.popleft())
        if self._incoming or self._eof_delivered or not self.is_reading():
            return
        if self._eof_sent:
            self._eof_delivered = True
            if not self._protocol.eof_received():
                self.close()


class Bench:
    """One worker's server on this loop, and what happens to its requests. Made on L.

    :param app: the WSGI application.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        app: Callable[..., Any],
        settings: Settings,
        **config: Any,
    ) -> None:
        self.loop = loop
        cfg = Config()
        # What applications raise is meant to be raised.
        for name, value in {"loglevel": "critical", **config}.items():
            cfg.set(name, value)
        self.worker = H2Worker(0, os.getppid(), [], None, 30, cfg, Logger(cfg))
        self.worker.wsgi = app
        self.server = _WatchedServer(self.worker, settings, loop, [], None, Link)
        #: What got out of a job, which none should let happen.
        self.escaped: list[BaseException | None] = []
        self.server.pool = Pool(
            loop,
            settings.threads,
            settings.max_threads or settings.threads,
            settings.long_request_after,
            settings.max_queued_requests,
            lambda: self.escaped.append(sys.exc_info()[1]),
        )
        self.server.handoff = Handoff(
            loop, self.server.pool.waiting_for_peer, settings.min_body_rate
        )

    def connect(self) -> tuple[Link, MemoryTransport]:
        """A connection, as `Server` makes it from an accepted socket."""
        link = Link(self.server, CLIENT, LISTENER, 2)
        self.server.count_connection()
        transport = MemoryTransport(self.loop, link)
        self.server.news[link] = transport.news
        return link, transport

    def running(self, link: Link) -> int:
        """How many requests of a connection have a thread or wait for one.

        When one is done the connection's transport has news.
        """
        return self.server.running[link]

    async def check_pool(self) -> None:
        """No thread is busy, or will ever be again: nothing is queued, nothing is to come."""
        pool = self.server.pool
        await until(lambda: not (pool.queued or pool.busy or +self.server.running))
        assert not pool._queues and not pool._turns
        assert not self.server.handoff._inbox

    def close(self) -> None:
        """Close what the worker has opened."""
        self.worker.tmp.close()


class _WatchedServer(Server):
    """A server that knows of each connection how many of its requests are not done."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.running: Counter[Any] = Counter()
        self.news: WeakKeyDictionary[Any, asyncio.Event] = WeakKeyDictionary()

    def count_connection(self) -> None:
        self._connections += 1

    def submit(self, connection: Any, job: Any) -> bool:
        link = connection._link

        def observed() -> None:
            try:
                job()
            finally:
                # Behind all that the job has posted.
                self.handoff.post((done, job.exchange, None), True)

        def done(_exchange: Exchange, _argument: None) -> None:
            self.running[link] -= 1
            self.news[link].set()

        self.running[link] += 1
        taken = super().submit(connection, observed)
        if not taken:
            self.running[link] -= 1
        return taken
