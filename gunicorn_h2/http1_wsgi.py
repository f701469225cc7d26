"""One HTTP/1.x request on a pool thread, through Gunicorn's own parser and response.

Everything in here runs on a pool thread; it may block in the exchange, and knows
nothing of the transport. What Gunicorn's gthread worker does with a request, down to
the bytes of its errors, is what happens here.
"""

from __future__ import annotations

import io
import re
from typing import Any, Protocol

from gunicorn import util
from gunicorn.http.errors import ParseException

from . import environ
from .errors import ClientDisconnected, RequestTimeout
from .handoff import Exchange
from .peer import Http1Socket, Peer
from .stream import Field
from .wsgi import CheckedResponse, Serving

#: Of a request body that was not read, before the connection is given up rather
#: than kept alive. As gthread does.
_MAX_DISCARDED = 65_536


class KeptAlive(Protocol):
    """What a request has to know of its session, and to tell it."""

    #: The thread only takes the rest of a body, with less patience (set on P).
    discarding: bool

    @property
    def may_keep_alive(self) -> bool:
        """Whether the response may announce a further request."""


class BytesOfExchange:
    """The bytes of a connection as Gunicorn's parser wants them: an iterator that waits (P).

    The parser asks only while something is missing, so the end of the bytes is an
    error: a body that was cut off must not pass for a whole one.
    """

    def __init__(self) -> None:
        #: The request that runs (owned by P, the thread that runs it).
        self.exchange: Exchange | None = None
        #: Comes last, by itself: the parser compares sizes between two reads.
        self.last = b""

    def __iter__(self) -> BytesOfExchange:
        return self

    def __next__(self) -> bytes:
        data = self.exchange.read() if self.exchange is not None else b""
        if not data:
            data, self.last = self.last, b""
        if not data:
            raise ClientDisconnected("the peer closed before the request was complete")
        return data


class Http1Response(CheckedResponse):
    """A response that says whether the connection will carry another, as late as can be."""

    def __init__(
        self, req: Any, sock: Any, cfg: Any, exchange: Exchange, session: KeptAlive
    ) -> None:
        super().__init__(req, sock, cfg, exchange)
        self._session = session

    def send_headers(self) -> None:
        """Send the head, once."""
        if not self.headers_sent and not self._session.may_keep_alive:
            self.force_close()
        super().send_headers()


class ServeHttp1(Serving):
    """One HTTP/1.x request, through Gunicorn's own parser and response."""

    def __init__(
        self,
        worker: Any,
        exchange: Exchange,
        peer: Peer,
        multithread: bool,
        parser: Any,
        source: BytesOfExchange,
        session: KeptAlive,
    ) -> None:
        super().__init__(worker, exchange, peer, multithread)
        self._sock = Http1Socket(exchange, peer)
        self._parser = parser
        self._source = source
        self._session = session

    def parse(self) -> None:
        """Parse the head; the parser is this thread's until the exchange is finished."""
        self._source.exchange = self.exchange
        try:
            self.req = next(self._parser)
        except StopIteration:
            raise ClientDisconnected("no further request") from None

    def prepare(self) -> None:
        """Gunicorn's environ, unchanged, and its response with a few checks."""
        self.resp = Http1Response(self.req, self._sock, self.cfg, self.exchange, self._session)
        _, self.environ = environ.build(
            self.req, self._sock, self.peer.client, self.peer.server, self.cfg, self.multithread
        )
        if not self.cfg.keepalive:
            self.resp.force_close()

    def end_response(self, trailers: list[Field]) -> None:
        """End the response; chunked, and with trailers for a client that wants them."""
        wanted = re.split(r"[ \t]*,[ \t]*", self.environ.get("HTTP_TE", "").lower())
        if not (trailers and self.resp.chunked and "trailers" in wanted):
            self.resp.close()
            return
        self.resp.send_headers()
        lines = b"".join(b"%s: %s\r\n" % field for field in trailers)
        self._sock.sendall(b"0\r\n" + lines + b"\r\n")

    def request_trailers(self) -> list[tuple[str, str]]:
        """As Gunicorn's parser found them behind the last chunk."""
        return [(name.lower(), value) for name, value in self.req.trailers]

    def answer_error(self, error: BaseException) -> None:
        """As Gunicorn's own workers."""
        try:
            if isinstance(error, RequestTimeout):
                util.write_error(self._sock, 408, "Request Timeout", str(error))
            else:
                self.worker.handle_error(self.req, self._sock, self.peer.client, error)
        except ClientDisconnected:
            self.log.debug("Client gone: %s", self.peer.log_address)

    def conclude(self) -> bytes | None:
        """What was read beyond this request, if the connection can carry another."""
        if self.resp.should_close() or not self._discard_body():
            return None
        unreader = self._parser.unreader
        rest: bytes = unreader.buf.getvalue()
        unreader.buf = io.BytesIO()
        return rest

    def _discard_body(self) -> bool:
        """Read what the application left of the body; False where that cannot be done."""
        if self.exchange.expects_continue:
            # The client waits for a 100 that it will not get; whether it then
            # sends its body or not is unknown (RFC 9110 section 10.1.1).
            return False
        self._session.discarding = True
        discarded = 0
        try:
            while data := self.req.body.read(8_192):
                discarded += len(data)
                if discarded > _MAX_DISCARDED:
                    return False
        except (OSError, ParseException):
            return False
        return True
