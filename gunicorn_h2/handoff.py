"""THE thread boundary: the loop thread (L) on one side, pool threads (P) on the other.

What crosses between the two does so in here; pool.py has the threads. L never waits
for longer than a lock is held, and locks are held for a few instructions; P never
sees h2, the transport or the loop.

P -> L: calls of an `Owner`'s methods, appended to one deque; L is woken once per
burst, and drains a bounded number per turn so that reading never starves.
L -> P: body chunks, end of body, bytes sent, abort; one condition per exchange.

The closing rule: after `Exchange.abort` no thread waits in that exchange, and
none ever will again. Every wait in P ends by one of: data, end of body, bytes
sent, `fail_body` (timeout), `abort` (reset, disconnect, timeout, shutdown).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .stream import Field

#: Messages taken over in one turn of the loop.
_DRAIN_LIMIT = 1_000
#: Bytes below which parts of a body are joined, since a `bytes` object costs some 35 of its own.
_SMALL_CHUNK = 512


class Owner(Protocol):
    """The session on L that an exchange belongs to. Every method runs on L."""

    def response_informational(self, exchange: Exchange, fields: list[Field]) -> None:
        """A 1xx response."""

    def response_head(self, exchange: Exchange, fields: list[Field]) -> None:
        """The response's `:status` and fields."""

    def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
        """Parts of the response, those that were sent since the last call."""

    def response_end(self, exchange: Exchange, trailers: list[Field]) -> None:
        """The response is complete."""

    def response_failed(self, exchange: Exchange, _: None) -> None:
        """The response cannot be completed."""

    def body_read(self, exchange: Exchange, credit: int) -> None:
        """The application has taken ``credit`` flow-controlled bytes."""

    def finished(self, exchange: Exchange, result: Any) -> None:
        """The thread is done with the exchange; the last call for it."""

    def flush(self) -> None:
        """Write out what the calls before led to."""


class Exchange:
    """One request and its response, as both threads hold it."""

    __slots__ = (
        "_abort",
        "_announced",
        "_begun",
        "_body_ended",
        "_body_error",
        "_changed",
        "_chunks",
        "_credit",
        "_handoff",
        "_high_water_mark",
        "_lock",
        "_parts",
        "_sent",
        "_waited",
        "_waiting_since",
        "_written",
        "description",
        "expects_continue",
        "owner",
        "since",
        "state",
        "trailers",
    )

    def __init__(self, handoff: Handoff, owner: Owner, high_water_mark: int) -> None:
        self._handoff = handoff
        self._high_water_mark = high_water_mark
        self._lock = threading.Lock()
        #: What P waits for; most requests never do.
        self._changed: threading.Condition | None = None
        self.owner = owner
        #: When the request was there (`time.monotonic`).
        self.since = time.monotonic()
        #: What the owner ties to this exchange (owned by L).
        self.state: Any = None

        # Owned by L; changed under the lock, since P waits for them.
        self._chunks: list[bytes] = []
        self._credit = 0
        self._body_ended = False
        self._body_error: OSError | None = None
        self._abort: OSError | None = None
        self._sent = 0
        #: Fields that followed the body, there once it has been read to its end.
        self.trailers: list[Field] = []

        # P appends, and L takes; in between L has been told, once.
        self._parts: list[bytes] = []
        self._announced = False

        # Owned by P, the thread that runs the exchange.
        self._written = 0
        #: Part of the response has left: it is too late for a 100.
        self._begun = False
        #: When it began to wait for the body, less what it had waited in vain before.
        self._waiting_since: float | None = None
        self._waited = 0.0
        #: Method and path, for log lines, once the application has the request;
        #: "" before. Changed under the lock.
        self.description = ""
        #: The client waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
        self.expects_continue = False

    # -- on P ---------------------------------------------------------------

    @property
    def aborted(self) -> bool:
        """Whether the peer has gone or cancelled (any thread)."""
        return self._abort is not None

    def begin(self, description: str) -> None:
        """The application gets the request now, unless nobody waits for it any more.

        :raises ClientDisconnected: the application must not see it.
        """
        with self._lock:
            self.check()
            self.description = description

    def read(self) -> bytes:
        """Body bytes, at least one; b"" at the end of the body. Blocks.

        :raises ClientDisconnected: the rest will never come.
        :raises RequestTimeout: the peer has stalled, or has been too slow for too long.
        """
        with self._lock:
            ready = self._readable()
        if not ready:
            self._wait_for_body()
        with self._lock:
            if self._abort is not None:
                raise self._abort
            if not self._chunks:
                if self._body_error is not None:
                    raise self._body_error
                return b""
            chunks, credit = self._chunks, self._credit
            self._chunks, self._credit = [], 0
        self._post(self.owner.body_read, credit)
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if self._waited:
            rate = self._handoff.min_body_rate
            self._waited = max(0.0, self._waited - len(data) / rate) if rate else 0.0
        return data

    def _wait_for_body(self) -> None:
        if self.expects_continue and not self._begun:
            self.expects_continue = False
            self._post(self.owner.response_informational, [(b":status", b"100")])
        # A body that drips uses up the peer's time as one that stands still.
        since = time.monotonic() - self._waited
        with self._handoff.waiting_for_peer(), self._lock:
            self._waiting_since = since
            self._wait_for(self._readable)
            self._waiting_since = None
        self._waited = time.monotonic() - since

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        """Give the lock up until a change on L after which ``condition`` holds."""
        self._changed = self._changed or threading.Condition(self._lock)
        self._changed.wait_for(condition)

    def _readable(self) -> bool:
        return bool(
            self._chunks
            or self._body_ended
            or self._abort is not None
            or self._body_error is not None
        )

    def send_informational(self, fields: list[Field]) -> None:
        """Send a 1xx response now."""
        self.check()
        self._post(self.owner.response_informational, fields)

    def send_head(self, fields: list[Field]) -> None:
        """Send the response's head; it leaves with what follows it."""
        self.check()
        self._begun = True
        self._post(self.owner.response_head, fields, wake=False)

    def send_data(self, data: bytes, wake: bool = True) -> None:
        """Send a part of the response; blocks while more than the mark is unsent.

        :param wake: False where more follows without delay (PEP 3333 forbids
            to hold a part back while the application works on the next one).
        :raises ClientDisconnected: nobody will read it.
        """
        self.check()
        self._begun = True
        self._written += len(data)
        blocked = self._written - self._sent > self._high_water_mark
        self._parts.append(data)
        if not self._announced:
            self._announced = True
            self._post(self._take_parts, None, wake=False)
        if wake or blocked:
            self._handoff.wake()
        if blocked:
            with self._handoff.waiting_for_peer(), self._lock:
                self._wait_for(self._writable)
            self.check()

    def _writable(self) -> bool:
        return self._written - self._sent <= self._high_water_mark or self._abort is not None

    def end_response(self, trailers: list[Field]) -> None:
        """The response is complete; does not wait for the peer to read it."""
        self.check()
        self._post(self.owner.response_end, trailers, wake=False)

    def push(self) -> None:
        """Have L take what was posted so far: what follows may take long."""
        self._handoff.wake()

    def fail_response(self) -> None:
        """The response cannot be completed: the stream is reset, or the connection closed."""
        self._post(self.owner.response_failed, None, wake=False)

    def finish(self, result: Any = None) -> None:
        """The thread is done; nothing may be called on P after this."""
        for error in filter(None, (self._abort, self._body_error)):
            # Its frames hold this exchange, and that the connection's memory.
            error.__traceback__ = None
        self._post(self.owner.finished, result)

    def check(self) -> None:
        """Nothing, as long as the peer is there.

        :raises ClientDisconnected: it is not.
        """
        if self._abort is not None:
            raise self._abort

    def _post(
        self, method: Callable[[Exchange, Any], None], argument: Any, wake: bool = True
    ) -> None:
        self._handoff.post((method, self, argument), wake)

    # -- on L ---------------------------------------------------------------

    def _take_parts(self, _exchange: Exchange, _: None) -> None:
        # Cleared first: what is appended from here on is announced again.
        self._announced = False
        parts = self._parts.copy()
        del self._parts[: len(parts)]
        self.owner.response_data(self, parts)

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.notify()

    @property
    def waiting_since(self) -> float | None:
        """When P began to wait for body bytes that are still not there, or None.

        Earlier than that, where what came before was less than `h2_min_body_rate`.
        """
        with self._lock:
            # A thread that is only slow to wake up does not wait for the peer.
            return None if self._readable() else self._waiting_since

    def feed(self, data: bytes, credit: int) -> None:
        """Body bytes have arrived; ``credit`` is reported back once they are read."""
        with self._lock:
            chunks = self._chunks
            if chunks and len(data) < _SMALL_CHUNK > len(chunks[-1]):
                chunks[-1] += data
            else:
                chunks.append(data)
            self._credit += credit
            self._notify()

    def end_body(self, trailers: list[Field]) -> None:
        """The body is complete."""
        with self._lock:
            self.trailers = trailers
            self._body_ended = True
            self._notify()

    def fail_body(self, error: OSError) -> None:
        """The rest of the body will not come, but a response may still be sent."""
        with self._lock:
            self._body_error = error
            self._notify()

    def note_sent(self, count: int) -> None:
        """``count`` bytes of the response were handed to the transport."""
        with self._lock:
            self._sent += count
            if self._writable():
                self._notify()

    def withdraw(self, error: OSError) -> bool:
        """`abort`, if the application has not got the request: it can be tried elsewhere.

        :returns: whether that was so.
        """
        with self._lock:
            if not self.description:
                self._abort = self._abort or error
            return not self.description

    def abort(self, error: OSError) -> None:
        """End the exchange: every wait in it, now and later, raises ``error``."""
        with self._lock:
            if self._abort is None:
                self._abort = error
            self._chunks.clear()
            self._notify()

    def take_unread(self) -> bytes:
        """Take back what was fed and not read (once P is done)."""
        with self._lock:
            chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


class Handoff:
    """The way back to the loop: one inbox, and a wake-up for each burst. Made on L.

    :param waiting_for_peer: a context that P is in while it waits for the peer.
    :param min_body_rate: bytes a second below which the time that P has waited for a
        body adds up; 0 for none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        waiting_for_peer: Callable[[], AbstractContextManager[None]],
        min_body_rate: int,
    ) -> None:
        self._loop = loop
        self.waiting_for_peer = waiting_for_peer
        self.min_body_rate = min_body_rate
        self._inbox: deque[tuple[Callable[[Exchange, Any], None], Exchange, Any]] = deque()
        self._woken = False
        self._closed = False
        #: Called upon in this turn of L (owned by L).
        self._unflushed: set[Owner] = set()

    def post(
        self, message: tuple[Callable[[Exchange, Any], None], Exchange, Any], wake: bool
    ) -> None:
        """Have L call ``message``; without ``wake`` at the next burst (P)."""
        self._inbox.append(message)
        if wake:
            self.wake()

    def wake(self) -> None:
        """Have L look at what was posted, unless it is about to (P)."""
        if not self._woken and not self._closed:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:
                # The loop was closed meanwhile: the worker is exiting.
                self._closed = True

    def _drain(self) -> None:
        # Cleared first: what is posted from here on wakes L again.
        self._woken = False
        inbox, unflushed = self._inbox, self._unflushed
        try:
            for _ in range(min(len(inbox), _DRAIN_LIMIT)):
                method, exchange, argument = inbox.popleft()
                unflushed.add(exchange.owner)
                method(exchange, argument)
            while unflushed:
                unflushed.pop().flush()
        finally:
            # Also after an exception: one session's bug must not hold up the others.
            if (inbox or unflushed) and not self._woken:
                self._woken = True
                self._loop.call_soon(self._drain)
