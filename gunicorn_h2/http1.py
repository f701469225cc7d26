"""An HTTP/1.1 session: the loop collects a request head, Gunicorn's own code does the rest.

Runs on the loop thread, never blocks. It keeps bytes until a whole head is there, so
that an idle or slow peer holds no thread, and carries body and response between the
transport and the exchange. How HTTP/1.1 is parsed and written is for http1_wsgi.py,
which is Gunicorn's parser and response, on a pool thread.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Any

from gunicorn.http.message import MAX_HEADERS
from gunicorn.http.parser import RequestParser

from .errors import ClientDisconnected, DeadlineExceeded, RequestTimeout
from .handoff import Exchange
from .http1_wsgi import BytesOfExchange, ServeHttp1
from .session import Link
from .stream import Field

#: PROXY protocol version 2, whose header holds what would else be the end of a head.
_PROXY_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY_V2_HEADER = 16
#: RFC 9112 section 2.2: a head with such a line end will not be completed.
_BARE_LF = re.compile(rb"(?<!\r)\n")
#: Gunicorn's stand-ins for a limit of 0, "none".
_UNLIMITED_LINE = 1_048_576
_FIELD_SIZE = 8_190
#: How long the rest of a body that was not read may take to come, in seconds, before
#: the connection is given up rather than kept alive. As gthread does.
_DISCARD_TIMEOUT = 5.0
_REFUSED = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
    b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)
_EXPIRED = b"HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_INTERIM_REASONS = {b"100": b"Continue", b"103": b"Early Hints"}
#: How long a closed connection waits for its peer to have read the answer, in seconds.
_LINGER = 2.0


class Http1Session:
    """One HTTP/1.x connection of a worker. Every field is owned by L."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server = link.server
        self._settings = link.server.settings
        cfg = link.server.worker.cfg
        self._keepalive: float = cfg.keepalive
        self._max_line, self._max_head = _limits(cfg)
        self._takes_proxy_header = cfg.proxy_protocol not in (False, "off")
        self._source = BytesOfExchange()
        self._parser = RequestParser(cfg, self._source, link.peer.client)
        #: Received, and not part of a request that runs.
        self._buffer = bytearray()
        #: Where to look for the end of the head.
        self._searched = 0
        #: The request that runs.
        self._exchange: Exchange | None = None
        #: Part of its response has come from the application.
        self._begun = False
        self._unread = 0
        #: Parts of the response that are not written yet.
        self._outbox: deque[bytes | memoryview] = deque()
        self._flush_again = False
        #: The next request waits until the peer has taken the answers before it.
        self._held = False
        #: The thread reads what the application left of the body (P sets it, L clears it).
        self.discarding = False
        self._eof = False
        self._closing = False
        self._draining = False
        self._requests = 0
        #: When the wait for the next head began; when bytes of it, or progress, last came.
        self._active = link.server.now()
        self._head_started: float | None = None

    # -- from the transport -------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer: for the body that is being read, or for the next head."""
        if self._closing:
            return
        self._active = self._server.now()
        if self._exchange is None:
            self._buffer += data
            if self._held:
                self._link.pause_reading()
            else:
                self._look_for_head()
        else:
            self._unread += len(data)
            self._exchange.feed(data, len(data))
            if self._unread > self._settings.high_water_mark:
                self._link.pause_reading()
        self.flush()

    def eof_received(self) -> None:
        """The peer will send no more, but may wait for its answer."""
        self._eof = True
        if self._exchange is not None:
            self._exchange.end_body([])
        elif not self._held:
            self._closing = True
            self.flush()

    def connection_lost(self) -> None:
        """Nobody is there any more: let a waiting thread know."""
        self._closing = True
        self._held = False
        self._outbox.clear()
        if self._exchange is not None:
            self._exchange.abort(ClientDisconnected("connection lost"))

    def flush(self) -> None:
        """Write the response as far as the transport takes it."""
        link = self._link
        room = link.room()
        if self._outbox and room > 0:
            data = self._take(room)
            self._active = self._server.now()
            link.write(data)
            if self._exchange is not None:
                self._exchange.note_sent(len(data))
        if self._held and not self._outbox:
            self._held = False
            self._look_further()
        if self._outbox and link.room() > 0 and not self._flush_again:
            # Other connections get their turn first.
            self._flush_again = True
            self._server.loop.call_soon(self._continue_flush)
        if self._closing and not self._outbox:
            if self._eof:
                link.close()
            else:
                link.close_gracefully(_LINGER)

    def _continue_flush(self) -> None:
        self._flush_again = False
        self.flush()

    def _take(self, room: int) -> bytes:
        """Take what fits into ``room`` bytes off the outbox."""
        parts: list[bytes | memoryview] = []
        outbox = self._outbox
        while outbox and room > 0:
            part = outbox.popleft()
            if len(part) > room:
                view = memoryview(part)
                outbox.appendleft(view[room:])
                part = view[:room]
            parts.append(part)
            room -= len(part)
        return b"".join(parts)

    def _look_for_head(self) -> None:
        """Hand a request to the pool once its head is there, or is too large to wait for."""
        buffer = self._buffer
        start = self._after_proxy_header()
        if not buffer:
            self._head_started = None
            return
        if self._head_started is None:
            self._head_started = self._active
        if start < 0:
            return
        size = len(buffer) - start
        searched = max(start, self._searched)
        complete = buffer.find(b"\r\n\r\n", searched) >= 0
        if (
            complete
            or size > self._max_head
            or (size > self._max_line and buffer.find(b"\r\n", start) < 0)
            or _BARE_LF.search(buffer, searched)
        ):
            self._searched = 0
            self._start_request(complete)
        else:
            self._searched = max(0, len(buffer) - 3)

    def _after_proxy_header(self) -> int:
        """Where the head begins behind a PROXY header of version 2; -1 if that is not whole.

        Its signature holds what would else be the end of a head. Whether such a
        header is welcome is for Gunicorn's parser to say.
        """
        buffer = self._buffer
        if self._requests or not buffer.startswith(_PROXY_V2[: len(buffer)]):
            return 0
        if not self._takes_proxy_header:
            return 0
        if len(buffer) < _PROXY_V2_HEADER:
            return -1
        start = _PROXY_V2_HEADER + int.from_bytes(buffer[14:16], "big")
        return start if start <= len(buffer) else -1

    def _start_request(self, complete: bool) -> None:
        server = self._server
        exchange = Exchange(server.handoff, self, self._settings.high_water_mark)
        if not complete and len(self._buffer) > self._max_head:
            self._source.last = bytes(self._buffer[-1:])
            del self._buffer[-1:]
        data = bytes(self._buffer)
        self._buffer.clear()
        self._head_started = None
        self._unread = len(data)
        exchange.feed(data, len(data))
        if self._eof or not complete:
            # The parser refuses such a head; nor must it wait for the rest.
            exchange.end_body([])
        serving = ServeHttp1(
            server.worker,
            exchange,
            self._link.peer,
            server.multithread,
            self._parser,
            self._source,
            self,
        )
        if server.submit(self, serving):
            self._requests += 1
            self._exchange = exchange
            self._begun = False
        else:
            self._give_up(_REFUSED)

    def _give_up(self, answer: bytes | None) -> None:
        """End the connection, with this answer if any, whatever the application still sends."""
        self._exchange = None
        if answer is not None:
            self._outbox.append(answer)
        self._closing = True
        self.flush()

    # -- timers ---------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look after every deadline; called about once a second."""
        settings, exchange = self._settings, self._exchange
        limit = settings.request_timeout
        if exchange is not None and 0 < limit < now - exchange.since and not self.discarding:
            self._expire(exchange, now)
        elif self._outbox:
            # The thread may be done already: what it has written is still to be sent.
            if settings.write_timeout and now - self._active > settings.write_timeout:
                self._link.abort()
        elif exchange is not None:
            self._tick_request(exchange, now)
        elif self._closing:
            return
        elif self._head_started is not None or not self._requests:
            since = self._head_started if self._head_started is not None else self._active
            if now - since > settings.header_timeout:
                self._link.close()
        elif now - self._active > self._keepalive:
            self._link.close()

    def _tick_request(self, exchange: Exchange, now: float) -> None:
        waiting_since = exchange.waiting_since
        if waiting_since is None:
            return
        timeout = _DISCARD_TIMEOUT if self.discarding else self._settings.body_timeout
        if timeout and now - waiting_since > timeout:
            exchange.fail_body(RequestTimeout("the request body has stalled"))

    def _expire(self, exchange: Exchange, now: float) -> None:
        """The request has run for too long: its client shall wait no longer."""
        error = DeadlineExceeded("the request has run for longer than h2_request_timeout")
        if exchange.withdraw(error):
            self._give_up(_REFUSED)
            return
        exchange.abort(error)
        begun = self._begun
        self._server.log_expired(exchange, now, answered=not begun)
        self._give_up(None if begun else _EXPIRED)

    # -- draining -------------------------------------------------------------------

    @property
    def may_keep_alive(self) -> bool:
        """Whether the response may announce a further request (read on P)."""
        return not self._draining

    def drain(self) -> None:
        """No further request after the one that runs, or is on its way."""
        if not self._draining:
            self._draining = True
            self._server.loop.call_later(_LINGER, self._close_idle)

    def _close_idle(self) -> None:
        if self._exchange is None:
            self._closing = True
            self.flush()

    def cut_off(self) -> None:
        """Cut the connection; a request that the application has not seen may be retried."""
        exchange = self._exchange
        error = ClientDisconnected("cut off, the worker exits")
        if exchange is None:
            self._link.close_soon(_LINGER)
        elif exchange.withdraw(error):
            self._give_up(_REFUSED)
        else:
            exchange.abort(error)
            self._server.log_cut_off(exchange, self._server.now())
            self._link.abort()

    # -- Owner: what the application did, unless it was given up ----------------------

    def response_informational(self, exchange: Exchange, fields: list[Field]) -> None:
        """`100 Continue`, since the application has begun to read, or early hints."""
        if exchange is not self._exchange:
            return
        (_, status), *rest = fields
        lines = b"".join(b"%s: %s\r\n" % field for field in rest)
        data = b"HTTP/1.1 %s %s\r\n%s\r\n" % (status, _INTERIM_REASONS[status], lines)
        self._outbox.append(data)
        # No part of what the application waits to have sent.
        exchange.note_sent(-len(data))

    def response_head(self, exchange: Exchange, fields: list[Field]) -> None:
        """Never called: Gunicorn's response writes its head as bytes."""
        raise NotImplementedError

    def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
        """Bytes of the response, head and framing included."""
        if exchange is self._exchange:
            self._begun = True
            self._outbox.extend(parts)

    def response_end(self, exchange: Exchange, trailers: list[Field]) -> None:
        """Never called: Gunicorn's response frames itself."""
        raise NotImplementedError

    def response_failed(self, exchange: Exchange, _: None) -> None:
        """Cut the connection, so that the peer does not take the response for whole."""
        if exchange is self._exchange:
            self._closing = True

    def body_read(self, exchange: Exchange, credit: int) -> None:
        """The thread has taken bytes: there is room for more."""
        self._unread -= credit
        if self._unread <= self._settings.high_water_mark:
            self._link.resume_reading()

    def finished(self, exchange: Exchange, result: bytes | None) -> None:
        """The thread is done: ``result`` is what it read beyond the request, or None to close."""
        self._server.request_finished()
        if exchange is not self._exchange:
            return
        self._exchange = None
        self.discarding = False
        self._active = self._server.now()
        if result is None:
            self._closing = True
        elif not self._closing:
            self._buffer = bytearray(result + exchange.take_unread())
            # What a peer does not read must not pile up here: `flush` goes on.
            self._held = True

    def _look_further(self) -> None:
        """Look for the next request, now that the answers before it are on their way."""
        self._link.resume_reading()
        self._look_for_head()
        if self._exchange is None:
            if self._eof:
                self._closing = True
            elif self._draining:
                # "keep-alive" was announced: a further request may be on its way.
                self._server.loop.call_later(_LINGER, self._close_idle)


def _limits(cfg: Any) -> tuple[int, int]:
    """Bytes of a request line, and of a head, that Gunicorn's parser refuses whatever follows."""
    line = cfg.limit_request_line if cfg.limit_request_line > 0 else _UNLIMITED_LINE
    count = cfg.limit_request_fields
    count = count if 0 < count <= MAX_HEADERS else MAX_HEADERS
    size = cfg.limit_request_field_size if cfg.limit_request_field_size > 0 else _FIELD_SIZE
    return line + 2, line + count * (size + 2) + 6
