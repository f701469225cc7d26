"""`H2Worker`: what Gunicorn starts, signals and stops.

Runs on the main thread of a forked worker process, which becomes the loop
thread. Here are the process's lifecycle and the TLS context; connections are
server.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import ssl
import sys
from typing import Any

from gunicorn import sock as gunicorn_sock
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer
from gunicorn.workers.base import Worker

from .environ import ConfigCache
from .protocol import Link
from .server import Server
from .settings import SettingError, Settings
from .sources import load

#: Seconds between two looks at deadlines, and between two heartbeats at most.
_TICK = 1.0
#: Of `graceful_timeout`, what is kept for telling clients that they were cut off, and
#: for exiting: when it is over the master kills.
_EXIT_TIME = 1.0
#: Seconds for telling them.
_CUT_OFF_TIME = 0.3
#: Seconds for draining where nobody waits for the worker any more, or nothing can end.
_ORPHAN_PATIENCE = 0.5
_STUCK_PATIENCE = 3.0
#: RFC 9113 section 9.2.2 forbids every TLS 1.2 suite without forward secrecy or AEAD.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"


class H2Worker(Worker):  # type: ignore[misc]
    """Gunicorn worker: HTTP/2 and HTTP/1.1 on one loop, WSGI applications on a thread pool.

    Subclasses may set `h2_*` class attributes; see `gunicorn_h2.settings`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            self._settings: Settings = load(self.cfg, type(self))
        except SettingError as error:
            # At a reload, when `check_config` is not called again.
            raise HaltServer(str(error), 1) from error
        #: The configuration as requests see it.
        self.request_cfg = ConfigCache(self.cfg)
        #: When what still runs is cut off, by the loop's clock.
        self._deadline = math.inf
        self._tls: ssl.SSLContext | None = None
        self._stop: asyncio.Event | None = None

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Called by Gunicorn's master before it forks: wrong settings stop the start here.

        :raises gunicorn_h2.settings.SettingError: with one line for the operator.
        """
        load(cfg, cls)

    def init_process(self) -> None:
        """Called in the forked process: prepare, load the application, run."""
        if self.cfg.is_ssl:
            # Before Gunicorn takes the worker for booted: a certificate that
            # cannot be loaded must stop the start, not respawn for ever.
            try:
                self._tls = tls_context(self.cfg)
            except (OSError, ValueError) as error:
                self.log.critical("%s", _tls_problem(self.cfg, error))
                sys.exit(Arbiter.WORKER_BOOT_ERROR)
        super().init_process()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """TERM: finish what was begun, within `graceful_timeout`."""
        super().handle_exit(sig, frame)
        os.write(self.PIPE[1], b".")

    def run(self) -> None:
        """Serve until told to stop."""
        loop = _new_loop(self._settings.loop)
        asyncio.set_event_loop(loop)
        loop.set_exception_handler(_handle_stray_exception)
        try:
            loop.run_until_complete(self._serve(loop))
        finally:
            loop.close()

    async def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._stop = asyncio.Event()
        listeners: list[socket.socket] = [listener.sock for listener in self.sockets]
        server = Server(self, self._settings, loop, listeners, self._tls, Link)
        loop.add_reader(self.PIPE[0], self._woken)
        for name, value, source in self._settings.describe():
            self.log.debug("%s = %s (%s)", name, value, source)
        server.start_accepting()
        await self._tick_until(self._stop, server)
        server.drain()
        await self._tick_until(server.drained, server)
        if not server.drained.is_set():
            server.cut_off()
            self._deadline = loop.time() + _CUT_OFF_TIME
            await self._tick_until(server.drained, server)
        server.close()
        # One more turn, for the threads that the cut has woken.
        await asyncio.sleep(0)

    async def _tick_until(self, event: asyncio.Event, server: Server) -> None:
        """Look after deadlines, and let the master hear from us, until then or `_deadline`."""
        while not event.is_set():
            self._tick(server)
            pause = min(_TICK, self.timeout or _TICK, self._deadline - server.now())
            if pause <= 0:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(event.wait(), pause)

    def _tick(self, server: Server) -> None:
        self.notify()
        server.tick()
        if self.ppid != os.getppid():
            self.log.info("Parent changed, shutting down: %s", self)
            self.stop(_ORPHAN_PATIENCE)
        elif self.alive and server.is_stuck():
            self.log.error(
                "Every thread has been busy for longer than h2_request_timeout:"
                " replacing the worker (pid: %s)",
                self.pid,
            )
            self.stop(_STUCK_PATIENCE)

    def _woken(self) -> None:
        """A signal, or the reloader, wrote to the pipe."""
        try:
            os.read(self.PIPE[0], 4096)
        except BlockingIOError:
            return
        if not self.alive:
            self.stop()

    def stop(self, patience: float | None = None) -> None:
        """Leave the serving loop and drain, for `graceful_timeout` or less (L).

        :param patience: seconds.
        """
        self.alive = False
        if self._stop is None:
            return
        if patience is None:
            graceful: float = self.cfg.graceful_timeout
            patience = graceful - min(_EXIT_TIME, graceful / 2)
        self._deadline = min(self._deadline, asyncio.get_running_loop().time() + patience)
        self._stop.set()

    def request_started(self) -> None:
        """Count a request towards `max_requests` (L)."""
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Autorestarting worker after current request.")
            self.stop()


def _handle_stray_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log it, unless it is the exit that Gunicorn's handlers of INT, QUIT and ABRT raise.

    uvloop would take that for a fault of the connection whose callback it hits.
    """
    exception = context.get("exception")
    if isinstance(exception, SystemExit):
        loop.call_soon(sys.exit, exception.code)
    else:
        loop.default_exception_handler(context)


def tls_context(cfg: Any) -> ssl.SSLContext:
    """The TLS context of `certfile` and its companions, fit for HTTP/2 (RFC 9113 section 9.2).

    Gunicorn builds it, with the user's `ssl_context` hook; what is set here comes on top.

    :raises OSError: a file cannot be read, or is not what it should be.
    """
    context: ssl.SSLContext = gunicorn_sock.ssl_context(cfg)
    if context.minimum_version < ssl.TLSVersion.TLSv1_2:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if not cfg.ciphers and _suites(context) == _suites(ssl.create_default_context()):
        context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _tls_problem(cfg: Any, error: Exception) -> str:
    """One line for the operator; what OpenSSL says names neither the file nor the way out."""
    path = cfg.keyfile or cfg.certfile
    try:
        with open(path, "rb") as file:
            encrypted = b"ENCRYPTED" in file.read()
    except OSError:
        encrypted = False
    if encrypted:
        return f"TLS: the key in {path} is encrypted: decrypt it, or do so in the ssl_context hook"
    return f"TLS: cannot use certfile {cfg.certfile} with keyfile {cfg.keyfile}: {error}"


def _suites(context: ssl.SSLContext) -> list[str]:
    return [suite["name"] for suite in context.get_ciphers()]


def _new_loop(choice: str) -> asyncio.AbstractEventLoop:
    """An event loop, as `h2_loop` says.

    :raises ImportError: uvloop was asked for and is not installed.
    """
    if choice != "asyncio":
        try:
            import uvloop
        except ImportError:
            if choice == "uvloop":
                raise
        else:
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()
