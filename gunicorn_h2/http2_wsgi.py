"""One HTTP/2 stream on a pool thread: its request, and its response as fields and data.

Everything in here runs on a pool thread; it may block in the exchange, and knows
nothing of the transport or h2.
"""

from __future__ import annotations

import io
import time
from functools import lru_cache
from typing import Any

from gunicorn import util

from . import environ
from .errors import ClientDisconnected, RequestTimeout
from .fields import CONNECTION_SPECIFIC, RequestHead
from .handoff import Exchange
from .peer import ErrorPage, Peer, RequestSocket
from .stream import Field
from .wsgi import CheckedResponse, Serving


class Http2Response(CheckedResponse):
    """A response that leaves as a stream's fields and data instead of bytes."""

    def __init__(self, req: Any, sock: Any, cfg: Any, exchange: Exchange) -> None:
        super().__init__(req, sock, cfg, exchange)
        #: False while a part need not be pushed out at once, since the next
        #: follows without the application having to work for it.
        self.push = True

    def is_chunked(self) -> bool:
        """Never: RFC 9113 section 8.2.2."""
        return False

    def send_headers(self) -> None:
        """Hand the response's fields over, once."""
        if self.headers_sent:
            return
        if self.status is None:
            raise AssertionError("the application did not call start_response()")
        fields = [
            (b":status", b"%d" % self.status_code),
            (b"server", self.version.encode("latin-1")),
            (b"date", _date(int(time.time()))),
            *_encode(self.headers),
        ]
        if self.response_length is not None and self.status_code != 204:
            fields.append((b"content-length", b"%d" % self.response_length))
        self._exchange.send_head(fields)
        self.headers_sent = True

    def _write_part(self, data: bytes) -> None:
        if self.response_length is not None:
            data = data[: self.response_length - self.sent]
        if data:
            self.sent += len(data)
            self._exchange.send_data(data, self.push)

    def end(self, trailers: list[Field]) -> None:
        """The application is done: end the stream."""
        self.send_headers()
        self._check_length()
        self._exchange.end_response([] if self._bodyless else trailers)


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """What every response of the same second says."""
    return bytes(util.http_date(second).encode("latin-1"))


def _encode(headers: list[tuple[str, str]]) -> list[Field]:
    """Fields for HTTP/2: lower-case names, none that belong to the connection.

    Content-Length is left out: it is sent from the number that it stood for.
    """
    fields = []
    for name, value in headers:
        lower = name.lower().encode("latin-1")
        if lower not in CONNECTION_SPECIFIC and lower != b"content-length":
            fields.append((lower, value.encode("latin-1")))
    return fields


class RequestBody(io.RawIOBase):
    """The body of an exchange as a raw stream, for `io.BufferedReader`."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            self._rest = memoryview(self._exchange.read())
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class StreamedBody(io.BufferedReader):
    """`wsgi.input` of a body without Content-Length: what is there is not held back.

    ``read(size)`` returns as soon as any of it can be read, so that an application may
    answer a message before the next one is sent; b"" is the end. A body with a
    Content-Length is read in full, as applications that know its size expect.
    """

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, or everything to the end of the body."""
        return self.read1(size) if size is not None and size > 0 else super().read(size)


class ServeHttp2(Serving):
    """One stream."""

    def __init__(
        self,
        worker: Any,
        exchange: Exchange,
        peer: Peer,
        multithread: bool,
        head: RequestHead,
        stream_id: int,
        has_body: bool,
    ) -> None:
        super().__init__(worker, exchange, peer, multithread)
        self._head = head
        self._stream_id = stream_id
        self._has_body = has_body

    def parse(self) -> None:
        """Read the request from the fields, and its body from the exchange."""
        body: io.BufferedIOBase = io.BytesIO()
        if self._has_body:
            sized = self._head.content_length is not None
            reader = io.BufferedReader if sized else StreamedBody
            body = reader(RequestBody(self.exchange))
        self.req = environ.Http2Request(
            self.cfg, self._head, self.peer.client, body, self._stream_id
        )

    def prepare(self) -> None:
        """Gunicorn's environ, with an HTTP/2 response and what only HTTP/2 has."""
        sock = RequestSocket(self.exchange, self.peer)
        self.resp = Http2Response(self.req, sock, self.cfg, self.exchange)
        _, self.environ = environ.build(
            self.req, sock, self.peer.client, self.peer.server, self.cfg, self.multithread
        )
        self.environ["gunicorn_h2.stream_id"] = self._stream_id

    def end_response(self, trailers: list[Field]) -> None:
        """End the stream, with the trailers if there are any."""
        self.resp.end(trailers)

    def request_trailers(self) -> list[tuple[str, str]]:
        """As they came with END_STREAM."""
        trailers = self.exchange.trailers
        return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in trailers]

    def _send(self, parts: Any) -> None:
        # A list or tuple has its parts ready: one wake-up at the end will do.
        self.resp.push = not isinstance(parts, (list, tuple))
        super()._send(parts)

    def answer_error(self, error: BaseException) -> None:
        """Let Gunicorn log the error and choose the answer; send that as HTTP/2."""
        page = ErrorPage()
        if isinstance(error, RequestTimeout):
            util.write_error(page, 408, "Request Timeout", str(error))
        else:
            self.worker.handle_error(self.req, page, self.peer.client, error)
        parts = page.parts()
        if parts is None:
            self.exchange.fail_response()
            return
        status, fields, body = parts
        try:
            self.exchange.send_head([(b":status", status), *fields])
            if self._head.method != b"HEAD":
                self.exchange.send_data(body, wake=False)
            self.exchange.end_response([])
        except ClientDisconnected:
            self.log.debug("Client gone: %s", self.peer.log_address)
