"""An HTTP/2 session: between the pure connection, the transport and the exchanges.

Runs on the loop thread, never blocks, awaits nothing. What the peer does comes
in through `data_received` and the `Handler` methods; what applications do comes
in through the `Owner` methods; both end in `flush`, which writes once.
"""

from __future__ import annotations

import time
from typing import Any

from gunicorn import util
from h2.errors import ErrorCodes

from .connection import Connection
from .errors import ClientDisconnected, DeadlineExceeded, RequestTimeout
from .fields import RequestHead
from .handoff import Exchange
from .http2_wsgi import ServeHttp2
from .session import Link
from .stream import Field, Stream

#: What a connection may have of the loop before others get their turn, in seconds, and the
#: bytes after which that is looked at, fewer where they are costly: 100 KB can hold
#: requests that take a second.
_TURN = 0.01
_SLICE = 16_384
_COSTLY_SLICE = 1_024
#: Rounds of writing before other connections get their turn.
_WRITE_ROUNDS = 4
#: How long the PING between the two GOAWAYs may take, in seconds.
_DRAIN_PING_TIMEOUT = 2.0
#: How long a drained connection waits for its peer to close, in seconds.
_LINGER = 1.0

#: How long a peer may take to read why its connection was ended, in seconds.
_FAILED_CLOSE_TIMEOUT = 0.5

_DRAIN_PING = b"draining"
_ALIVE_PING = b"alive?!?"


class Http2Session:
    """One HTTP/2 connection of a worker. Every field is owned by L."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._server = link.server
        self._settings = link.server.settings
        now = link.server.now()
        self._started = now
        self._connection = Connection(self._settings, self, now)
        #: When bytes last came from the peer.
        self._heard = now
        #: When a stream was last open, or bytes came.
        self._active = now
        self._ping_sent: float | None = None
        #: Received, and left for the next turn of the loop.
        self._unprocessed = b""
        self._slice = _SLICE
        self._draining = False
        self._last_announced = False
        self._drained = False
        self._flush_again = False
        #: Bytes that applications have read since the last flush, by stream; to be credited.
        self._read: dict[Stream, int] = {}

    # -- from the transport ---------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        self._heard = self._active = self._server.now()
        if self._unprocessed:
            # They were under way when reading was paused.
            self._unprocessed += data
        else:
            self._unprocessed = data
            self._process()

    def _process(self) -> None:
        """Take in what has come, as much as fits into this connection's turn."""
        data, done = self._unprocessed, 0
        # Not when it was received: what waited for its turn is not late for that.
        now = self._server.now()
        turn_ends = time.perf_counter() + _TURN
        while done < len(data):
            self._connection.receive(data[done : done + self._slice], now)
            done += self._slice
            if time.perf_counter() > turn_ends:
                self._slice = _COSTLY_SLICE
                break
        else:
            self._slice = _SLICE
        self._unprocessed = data[done:]
        self.flush()
        if self._unprocessed:
            self._link.pause_reading()
            self._server.loop.call_soon(self._process)
        else:
            self._link.resume_reading()

    def eof_received(self) -> None:
        """The peer has closed.

        No client of HTTP/2 closes its half and goes on to read: it could neither open
        a window nor acknowledge anything. So applications learn at once that curl has
        timed out, not when they next write.
        """
        self.connection_lost()
        self._link.close()

    def connection_lost(self) -> None:
        """Nobody is there any more: let every waiting thread know, and forget the streams."""
        streams = self._connection.streams
        for stream in streams.values():
            self._connection.responses.forget(stream)
            self._abort(stream, "connection lost")
        streams.clear()
        self._connection.release()
        self._unprocessed = b""

    def flush(self) -> None:
        """Write what is to be written, as far as the transport takes it."""
        link = self._link
        connection = self._connection
        now = self._server.now()
        if self._read:
            self._give_credit(now)
        for _ in range(_WRITE_ROUNDS):
            room = link.room()
            data = connection.bytes_to_send(room, now)
            if not data:
                break
            link.write(data)
            if connection.failed:
                self.connection_lost()
                link.close_soon(_FAILED_CLOSE_TIMEOUT)
                return
            if len(data) < room or room <= 0:
                break
        else:
            if not self._flush_again:
                self._flush_again = True
                self._server.loop.call_soon(self._continue_flush)
        self._close_if_done()

    def _give_credit(self, now: float) -> None:
        """Let the peer send on: once a turn, in which there may be a read for each frame."""
        connection = self._connection
        read, self._read = self._read, {}
        for stream, credit in read.items():
            if stream.id in connection.streams:
                connection.credit(stream, credit)
                if stream.exchange.waiting_since is not None:
                    connection.application_waits(stream, now)

    def _continue_flush(self) -> None:
        self._flush_again = False
        self.flush()

    def _close_if_done(self) -> None:
        connection = self._connection
        if connection.streams or self._drained:
            return
        if connection.peer_going_away:
            self._drained = True
            self._link.close()
        elif self._draining and self._last_announced:
            self._drained = True
            self._server.loop.call_later(_LINGER, self._link.close)

    # -- timers -----------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look after every deadline; called about once a second."""
        connection, settings = self._connection, self._settings
        if not connection.settings_acknowledged and now - self._started > (
            settings.handshake_timeout
        ):
            connection.fail(ErrorCodes.SETTINGS_TIMEOUT)
        block_started = connection.guard.block_started
        if block_started is not None and now - block_started > settings.header_timeout:
            connection.fail(ErrorCodes.ENHANCE_YOUR_CALM)
        connection.tick(now)
        for stream in list(connection.streams.values()):
            self._tick_stream(stream, now)
        if connection.streams:
            self._active = now
        elif settings.idle_timeout and now - self._active > settings.idle_timeout:
            self.drain()
        self._tick_ping(now)
        self.flush()

    def _tick_stream(self, stream: Stream, now: float) -> None:
        settings = self._settings
        exchange: Exchange = stream.exchange
        if (
            stream.queued
            and settings.write_timeout
            and now - stream.last_progress > settings.write_timeout
        ):
            self._connection.reset(stream, ErrorCodes.CANCEL)
            self._abort(stream, "the peer does not read the response")
            return
        waiting_since = exchange.waiting_since
        if (
            waiting_since is not None
            and settings.body_timeout
            and now - waiting_since > settings.body_timeout
        ):
            exchange.fail_body(RequestTimeout("the request body has stalled"))
        if 0 < settings.request_timeout < now - exchange.since and not stream.response_ended:
            self._expire(stream, now)

    def _expire(self, stream: Stream, now: float) -> None:
        """The request has run for too long: its client shall wait no longer."""
        exchange: Exchange = stream.exchange
        error = DeadlineExceeded("the request has run for longer than h2_request_timeout")
        if exchange.withdraw(error):
            self._connection.reset(stream, ErrorCodes.REFUSED_STREAM)
            return
        exchange.abort(error)
        # What the application still sends is for nobody.
        exchange.state = None
        self._connection.discard_body(stream)
        responses = self._connection.responses
        begun = stream.head_sent or stream.head is not None
        self._server.log_expired(exchange, now, answered=not begun)
        if begun:
            responses.fail(stream)
        else:
            date = util.http_date().encode("latin-1")
            responses.add_head(stream, [(b":status", b"504"), (b"date", date)])
            responses.end(stream, [])

    def _tick_ping(self, now: float) -> None:
        settings = self._settings
        if self._ping_sent is not None:
            if now - self._ping_sent > settings.ping_timeout:
                self._link.abort()
        elif settings.ping_interval and now - self._heard > settings.ping_interval:
            self._ping_sent = now
            self._connection.ping(_ALIVE_PING)

    # -- draining ---------------------------------------------------------------

    def drain(self) -> None:
        """Take leave of the peer: no new streams, but every one that was begun is served.

        Two GOAWAYs around a PING (RFC 9113 section 6.8), so that no request which
        crosses the first one on the wire is lost.
        """
        if self._draining:
            return
        self._draining = True
        self._connection.announce_goaway(last=False)
        self._connection.ping(_DRAIN_PING)
        self._server.loop.call_later(_DRAIN_PING_TIMEOUT, self._announce_last)
        self.flush()

    def _announce_last(self) -> None:
        if not self._last_announced:
            self._last_announced = True
            self._connection.announce_goaway(last=True)
            self.flush()

    def cut_off(self) -> None:
        """Reset what is not finished; what the application has not seen may be retried."""
        now = self._server.now()
        for stream in list(self._connection.streams.values()):
            exchange: Exchange = stream.exchange
            error = ClientDisconnected("cut off, the worker exits")
            if exchange.withdraw(error):
                code = ErrorCodes.REFUSED_STREAM
            elif stream.response_ended:
                code = ErrorCodes.CANCEL
            else:
                code = ErrorCodes.INTERNAL_ERROR
                self._server.log_cut_off(exchange, now)
            self._connection.reset(stream, code)
            exchange.abort(error)
        self._last_announced = True
        self._connection.announce_goaway(last=True)
        self.flush()
        self._link.close_soon(_FAILED_CLOSE_TIMEOUT)

    # -- Handler: what the peer did -----------------------------------------------

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        """Hand the request to the pool; refuse it where the queue is full."""
        server = self._server
        exchange = Exchange(server.handoff, self, self._settings.high_water_mark)
        exchange.state = stream
        stream.exchange = exchange
        serving = ServeHttp2(
            server.worker,
            exchange,
            self._link.peer,
            server.multithread,
            head,
            stream.id,
            has_body=not stream.body_ended,
        )
        if not server.submit(self, serving):
            self._connection.reset(stream, ErrorCodes.REFUSED_STREAM)

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        """Let the application read ``data``."""
        stream.exchange.feed(data, credit)

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        """Let the application see the end of the body."""
        stream.exchange.end_body(trailers)

    def stream_aborted(self, stream: Stream) -> None:
        """Let the application know that nobody waits for its answer."""
        self._abort(stream, "the peer reset the stream")

    def bytes_sent(self, stream: Stream, count: int) -> None:
        """Let the application write on."""
        stream.exchange.note_sent(count)

    def ping_acknowledged(self, data: bytes) -> None:
        """The peer is alive, or has seen our first GOAWAY."""
        if data == _DRAIN_PING and self._draining:
            self._announce_last()
        elif data == _ALIVE_PING:
            self._ping_sent = None

    @staticmethod
    def _abort(stream: Stream, reason: str) -> None:
        stream.exchange.abort(ClientDisconnected(reason))

    # -- Owner: what the application did --------------------------------------------

    def _stream(self, exchange: Exchange) -> Stream | None:
        """The exchange's stream, unless it is gone."""
        stream: Stream | None = exchange.state
        return stream if stream is not None and stream.id in self._connection.streams else None

    def response_informational(self, exchange: Exchange, fields: list[Field]) -> None:
        """A 1xx response."""
        stream = self._stream(exchange)
        if stream is not None:
            self._connection.responses.add_informational(stream, fields)

    def response_head(self, exchange: Exchange, fields: list[Field]) -> None:
        """The response's fields."""
        stream = self._stream(exchange)
        if stream is not None:
            self._connection.responses.add_head(stream, fields)

    def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
        """Parts of the response."""
        stream = self._stream(exchange)
        if stream is not None:
            self._connection.responses.add_data(stream, parts, self._server.now())

    def response_end(self, exchange: Exchange, trailers: list[Field]) -> None:
        """The response is complete."""
        stream = self._stream(exchange)
        if stream is not None:
            self._connection.responses.end(stream, trailers)
            if not stream.body_ended:
                # The stream ends with the response: an application that still
                # reads, in its close(), would wait for what nobody tells it of.
                exchange.fail_body(ClientDisconnected("the response is complete"))

    def response_failed(self, exchange: Exchange, _: None) -> None:
        """The response cannot be completed; the peer must not take it for whole."""
        stream = self._stream(exchange)
        if stream is not None and not stream.response_ended:
            self._connection.responses.fail(stream)

    def body_read(self, exchange: Exchange, credit: int) -> None:
        """The application has read: the peer may send on."""
        stream = self._stream(exchange)
        if stream is not None:
            self._read[stream] = self._read.get(stream, 0) + credit

    def finished(self, exchange: Exchange, result: Any) -> None:
        """The thread is done: what the application left unread is given back."""
        stream = self._stream(exchange)
        if stream is not None:
            self._connection.discard_body(stream)
        # A cycle: it would keep the connection until the garbage is collected.
        exchange.state = None
        self._server.request_finished()
