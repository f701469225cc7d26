"""Takes new connections, when this worker should, and leaves them to its siblings when not.

Runs on the loop thread. Accepting is done here rather than by asyncio, so that
`worker_connections` is a hard cap, and so that connections which last for long, as
HTTP/2's do, spread over the workers: all of them are woken for each.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from typing import Any

#: Seconds that a worker leaves to its siblings after it has accepted.
_TURN = 0.002
#: Connections accepted before that: one, and one more each time that the siblings
#: leave some, so that a thousand that come at once do not take a second.
_MOST_AT_ONCE = 64
#: Seconds to wait when the process has run out of file descriptors.
_EXHAUSTED_PAUSE = 1.0
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

#: Reasons of the acceptor's own not to accept.
_OTHERS_TURN = "it is the turn of the other workers"
_NO_RESOURCES = "the process, or the system, has run out of something"

Take = Callable[[socket.socket, Any, socket.socket], None]


class Acceptor:
    """The listeners of a worker. Every field is owned by L.

    It begins paused, for a reason that is to be passed to `resume`.

    :param take: called with each new socket, the peer's address and the listener.
    :param alone: the worker has no siblings to leave connections to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listeners: Sequence[socket.socket],
        log: Any,
        take: Take,
        alone: bool,
        reason: str,
    ) -> None:
        self._loop = loop
        self._listeners = listeners
        self._log = log
        self._take = take
        self._alone = alone
        #: Why no connections are taken at present.
        self._pauses = {reason}
        self._at_once = 1

    def pause(self, reason: str) -> None:
        """Leave new connections in the backlog. No-op for a reason that is there already."""
        if not self._pauses:
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """``reason`` has passed. No-op if it was none."""
        if reason in self._pauses:
            self._pauses.discard(reason)
            if not self._pauses:
                for listener in self._listeners:
                    self._loop.add_reader(listener.fileno(), self._accept, listener)

    def close(self, reason: str, private: bool) -> None:
        """Accept no more, for good.

        Whatever takes over must be able to bind now, and with `reuse_port` the kernel
        must have nobody to give connections to but those who accept.

        :param private: the backlogs are this worker's own: no other could take what is in them.
        """
        self.pause(reason)
        for listener in self._listeners:
            while private and self._accept_one(listener):
                continue
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(self._at_once):
            if not self._accept_one(listener):
                self._at_once = 1
                return
            if self._pauses:
                return
        self._at_once = min(self._at_once + 1, _MOST_AT_ONCE)
        if not self._alone:
            self.pause(_OTHERS_TURN)
            self._loop.call_later(_TURN, self.resume, _OTHERS_TURN)

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection; False where there is none, or none can be."""
        try:
            sock, client = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return False
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self._log.error("Cannot accept connections: %s", error)
            self.pause(_NO_RESOURCES)
            self._loop.call_later(_EXHAUSTED_PAUSE, self.resume, _NO_RESOURCES)
            return False
        sock.setblocking(False)
        self._take(sock, client, listener)
        return True
