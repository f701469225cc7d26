"""The server of one worker process: its connections, its pool, draining.

Runs on the loop thread.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from typing import Any

from .acceptor import Acceptor
from .handoff import Exchange, Handoff
from .pool import Pool
from .settings import Settings

#: Reasons to take no connections.
_STARTING = "not started"
_AT_LIMIT = "worker_connections are open"
_OVERLOADED = "the queue is full"
_DRAINING = "draining"
#: Seconds that a handshake may take once the worker drains.
_HANDSHAKE_LINGER = 2.0
#: Bytes to read from a TLS connection at once: what holds the largest record.
_TLS_READ_SIZE = 17 * 1024


class Server:
    """Everything that the connections of one worker share. Every field is owned by L.

    :param worker: the Gunicorn worker.
    :param listeners: listening sockets.
    :param make_link: makes the `asyncio.Protocol` of a connection.
    """

    def __init__(
        self,
        worker: Any,
        settings: Settings,
        loop: asyncio.AbstractEventLoop,
        listeners: list[socket.socket],
        tls: ssl.SSLContext | None,
        make_link: Callable[[Server, Any, Any, int], Any],
    ) -> None:
        self.worker = worker
        self.log = worker.log
        self.settings = settings
        self.loop = loop
        self.now = loop.time
        max_threads = settings.max_threads or settings.threads
        self.multithread = max_threads > 1
        self.pool = Pool(
            loop,
            settings.threads,
            max_threads,
            settings.long_request_after,
            settings.max_queued_requests,
            lambda: worker.log.exception("A request escaped its error handling"),
        )
        self.handoff = Handoff(loop, self.pool.waiting_for_peer, settings.min_body_rate)
        #: Connections that are established.
        self.links: set[Any] = set()
        self.draining = False
        #: No connection is left, and no thread has a request.
        self.drained = asyncio.Event()
        self._tls = tls
        if tls is not None and sys.version_info >= (3, 11):
            # asyncio zeroes a buffer of this size for each connection, 256 KB by default,
            # and can be told in no other way. uvloop never touches most of its own.
            SSLProtocol.max_size = _TLS_READ_SIZE
        self._make_link = make_link
        self._acceptor = Acceptor(
            loop,
            listeners,
            self.log,
            self._take,
            alone=worker.cfg.workers == 1,
            reason=_STARTING,
        )
        #: Connections, those in their TLS handshake included.
        self._connections = 0
        self._handshakes: set[asyncio.Task[None]] = set()
        #: Requests that were submitted and whose thread is not done.
        self._requests = 0

    # -- connections ------------------------------------------------------------------

    def start_accepting(self) -> None:
        """Begin to take connections."""
        self._acceptor.resume(_STARTING)

    def _take(self, sock: socket.socket, client: Any, listener: socket.socket) -> None:
        self._connections += 1
        if self._connections >= self.worker.cfg.worker_connections:
            self._acceptor.pause(_AT_LIMIT)
        link = self._make_link(self, client, listener.getsockname(), listener.family)
        task = self.loop.create_task(self._connect(link, sock, client))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _connect(self, link: Any, sock: socket.socket, client: Any) -> None:
        tls_options: dict[str, Any] = {}
        if self._tls is not None:
            tls_options["ssl"] = self._tls
            tls_options["ssl_handshake_timeout"] = self.settings.handshake_timeout
            if sys.version_info >= (3, 11):
                tls_options["ssl_shutdown_timeout"] = 1.0
        try:
            await self.loop.connect_accepted_socket(lambda: link, sock, **tls_options)
        except (OSError, asyncio.CancelledError) as error:
            # Port scanners, health checks, clients that do not trust the
            # certificate: not for the operator's eyes.
            self.log.debug("No connection with %s: %s", client, error)
            sock.close()
            if not link.established:
                self.connection_closed()

    def connection_closed(self) -> None:
        """A connection is gone: there is room for another."""
        self._connections -= 1
        if self._connections < self.worker.cfg.worker_connections:
            self._acceptor.resume(_AT_LIMIT)
        self._check_drained()

    # -- requests -----------------------------------------------------------------------

    def submit(self, connection: Any, job: Callable[[], None]) -> bool:
        """Give a request to the pool; False where the queue is full.

        New connections are then left to other workers, until the queue is half empty.
        """
        if not self.pool.submit(connection, job):
            self._acceptor.pause(_OVERLOADED)
            return False
        self._requests += 1
        self.worker.request_started()
        return True

    def request_finished(self) -> None:
        """A request's thread is done."""
        self._requests -= 1
        if self.pool.queued <= self.settings.max_queued_requests // 2:
            self._acceptor.resume(_OVERLOADED)
        self._check_drained()

    def is_stuck(self) -> bool:
        """Whether no thread can be hoped for: each is past its request's deadline."""
        timeout = self.settings.request_timeout
        return timeout > 0 and self.pool.stuck(timeout)

    def log_expired(self, exchange: Exchange, now: float, answered: bool) -> None:
        """A request has met its deadline while it ran."""
        self.log.warning(
            "%s has run for %.1f s, longer than h2_request_timeout: %s",
            exchange.description,
            now - exchange.since,
            "answered with 504" if answered else "its response was cut off",
        )

    def log_cut_off(self, exchange: Exchange, now: float) -> None:
        """A request still runs while the worker has to exit."""
        self.log.warning(
            "%s has run for %.1f s and is cut off: the worker exits",
            exchange.description,
            now - exchange.since,
        )

    # -- the end ------------------------------------------------------------------------

    def tick(self) -> None:
        """Have every connection look after its deadlines; called about once a second."""
        now = self.now()
        for link in list(self.links):
            link.tick(now)

    def drain(self) -> None:
        """Stop accepting and finish what was begun; `drained` says when that is done."""
        self.draining = True
        self._acceptor.close(_DRAINING, private=self.worker.cfg.reuse_port)
        for link in list(self.links):
            link.drain()
        self.loop.call_later(_HANDSHAKE_LINGER, self._cancel_handshakes)
        self._check_drained()

    def cut_off(self) -> None:
        """Tell every client whose request still runs that it will not be answered."""
        for link in list(self.links):
            link.cut_off()

    def close(self) -> None:
        """Cut every connection."""
        self._cancel_handshakes()
        for link in list(self.links):
            link.abort()

    def _cancel_handshakes(self) -> None:
        for task in list(self._handshakes):
            task.cancel()

    def _check_drained(self) -> None:
        if self.draining and not self._connections and not self._requests:
            self.drained.set()
