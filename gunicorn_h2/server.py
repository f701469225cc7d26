"""The server of one worker process: listeners, connections, the pool, draining.

Runs on the loop thread. Accepting is done here rather than by asyncio, so that
`worker_connections` is a hard cap, and so that a worker takes a few connections
at a time and leaves the rest to its siblings.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from .handoff import Handoff
from .settings import Settings

#: Connections accepted per listener and turn of the loop.
_ACCEPT_BURST = 8
#: Seconds to wait when the process has run out of file descriptors.
_ACCEPT_PAUSE = 1.0
_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


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
        self.multithread = settings.threads > 1
        self.handoff = Handoff(
            loop,
            settings.threads,
            settings.max_queued_requests,
            lambda: worker.log.exception("A request escaped its error handling"),
        )
        #: Connections that are established.
        self.links: set[Any] = set()
        self.draining = False
        self._listeners = listeners
        self._tls = tls
        self._make_link = make_link
        self._accepting = False
        #: Connections, those in their TLS handshake included.
        self._connections = 0
        self._handshakes: set[asyncio.Task[None]] = set()
        #: Requests that were submitted and whose thread is not done.
        self._requests = 0
        self._idle = asyncio.Event()

    # -- accepting --------------------------------------------------------------------

    def start_accepting(self) -> None:
        """Take connections. No-op if that is so already, or while draining."""
        if not self._accepting and not self.draining:
            self._accepting = True
            for listener in self._listeners:
                self.loop.add_reader(listener.fileno(), self._accept, listener)

    def stop_accepting(self) -> None:
        """Leave new connections in the backlog."""
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self.loop.remove_reader(listener.fileno())

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPT_BURST):
            if self._connections >= self.worker.cfg.worker_connections:
                self.stop_accepting()
                return
            try:
                sock, client = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self.log.error("Cannot accept connections: %s", error)
                self.stop_accepting()
                self.loop.call_later(_ACCEPT_PAUSE, self.start_accepting)
                return
            sock.setblocking(False)
            self._connections += 1
            task = self.loop.create_task(self._connect(sock, client, listener))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _connect(self, sock: socket.socket, client: Any, listener: socket.socket) -> None:
        address, family = listener.getsockname(), listener.family
        tls_options: dict[str, Any] = {}
        if self._tls is not None:
            tls_options["ssl"] = self._tls
            tls_options["ssl_handshake_timeout"] = self.settings.handshake_timeout
            if sys.version_info >= (3, 11):
                tls_options["ssl_shutdown_timeout"] = 1.0
        link = self._make_link(self, client, address, family)
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
            self.start_accepting()
        self._check_idle()

    # -- requests -----------------------------------------------------------------------

    def submit(self, connection: Any, job: Callable[[], None]) -> bool:
        """Give a request to the pool; False where the queue is full."""
        if not self.handoff.submit(connection, job):
            return False
        self._requests += 1
        self.worker.request_started()
        return True

    def request_finished(self) -> None:
        """A request's thread is done."""
        self._requests -= 1
        self._check_idle()

    # -- the end ------------------------------------------------------------------------

    def tick(self) -> None:
        """Have every connection look after its deadlines; called about once a second."""
        now = self.now()
        for link in list(self.links):
            link.tick(now)

    async def drain(self, timeout: float) -> bool:
        """Stop accepting and finish what was begun, for at most ``timeout`` seconds.

        :returns: False if something had to be cut off.
        """
        self.stop_accepting()
        self.draining = True
        for link in list(self.links):
            link.drain()
        self._check_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Cut every connection."""
        for task in list(self._handshakes):
            task.cancel()
        for link in list(self.links):
            link.abort()

    def _check_idle(self) -> None:
        if self.draining and not self._connections and not self._requests:
            self._idle.set()
