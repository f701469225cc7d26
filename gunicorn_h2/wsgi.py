"""Runs the application for one request: start_response, iteration, close(), hooks, access log.

Everything in here runs on a pool thread. It may block, in the application or in
the exchange; it may not touch the loop, the transport or h2. Gunicorn's own
`Response` carries both protocols, so that fields are checked, dropped and added
as under Gunicorn's own workers.
"""

from __future__ import annotations

import io
import re
from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from gunicorn import util
from gunicorn.http.errors import NoMoreData
from gunicorn.http.wsgi import Response

from . import environ
from .fields import CONNECTION_SPECIFIC, RequestHead
from .handoff import ClientDisconnected, Exchange, RequestBody, RequestTimeout
from .peer import ErrorPage, Peer, RequestSocket
from .stream import Field

#: RFC 9110 section 15, PEP 3333: three digits, a space and a reason (which Gunicorn
#: allows to be missing), nothing that could end the line.
_STATUS = re.compile(r"[2-9][0-9]{2}(?: [ \t\x21-\x7e\x80-\xff]*)?")
#: As nginx logs it: the client cancelled before there was a status.
_CANCELLED = "499 Client Closed Request"


class ShortResponse(Exception):
    """The application sent less than its Content-Length."""


class Http2Response(Response):  # type: ignore[misc]
    """Gunicorn's response, leaving as a stream's fields and data instead of bytes."""

    def __init__(self, req: Any, sock: Any, cfg: Any, exchange: Exchange) -> None:
        super().__init__(req, sock, cfg)
        self._exchange = exchange
        self.headers_sent: bool
        #: False while a part need not be pushed out at once, since the next
        #: follows without the application having to work for it.
        self.push = True
        self.trailers: list[Field] = []

    def is_chunked(self) -> bool:
        """Never: RFC 9113 section 8.2.2."""
        return False

    def can_sendfile(self) -> bool:
        """Never: the bytes have to be framed."""
        return False

    def early_hints(self, headers: list[tuple[str, str]]) -> None:
        """`wsgi.early_hints`: send a 103 (RFC 8297); nothing once the response has begun."""
        if self.headers_sent:
            return
        hints = Response(self.req, self.sock, self.cfg)
        hints.process_headers(headers)
        fields = _encode(hints.headers)
        self._exchange.send_informational([(b":status", b"103"), *fields])

    def send_headers(self) -> None:
        """Hand the response's fields over, once."""
        if self.headers_sent:
            return
        if self.status is None:
            raise AssertionError("the application did not call start_response()")
        fields = [
            (b":status", b"%d" % self.status_code),
            (b"server", self.version.encode("latin-1")),
            (b"date", util.http_date().encode("latin-1")),
            *_encode(self.headers),
        ]
        if self.response_length is not None and self.status_code != 204:
            fields.append((b"content-length", b"%d" % self.response_length))
        self._exchange.send_head(fields)
        self.headers_sent = True

    @property
    def _bodyless(self) -> bool:
        """RFC 9110 section 6.4.1: no content, whatever the application yields."""
        return self.req.method == "HEAD" or self.status_code in (204, 304)

    def write(self, data: bytes) -> None:
        """Send a part of the body; what exceeds Content-Length is cut off."""
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r:.100} is not a byte string")
        if not data:
            # PEP 3333: the fields wait for the first non-empty part.
            return
        self.send_headers()
        if self._bodyless:
            return
        if self.response_length is not None:
            data = data[: self.response_length - self.sent]
        if data:
            self.sent += len(data)
            self._exchange.send_data(data, self.push)

    def close(self) -> None:
        """The application is done: end the stream."""
        self.send_headers()
        if self.response_length is not None and not self._bodyless:
            missing = self.response_length - self.sent
            if missing > 0:
                raise ShortResponse(f"{missing} bytes less than the Content-Length were sent")
        self._exchange.end_response(self.trailers)


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


class Serving(ABC):
    """One request being served: from its head to the access log line.

    :param worker: the Gunicorn worker; its `cfg`, `log`, `wsgi` and `handle_error` are used.
    :param multithread: whether more than one pool thread may run the application.
    """

    def __init__(self, worker: Any, exchange: Exchange, peer: Peer, multithread: bool) -> None:
        self.worker = worker
        self.cfg = worker.cfg
        self.log = worker.log
        self.exchange = exchange
        self.peer = peer
        self.multithread = multithread
        self.req: Any = None
        self.resp: Any = None
        self.environ: dict[str, Any] = {}

    @abstractmethod
    def parse(self) -> None:
        """Set `req`; raises Gunicorn's errors where it is not acceptable."""

    @abstractmethod
    def prepare(self) -> None:
        """Set `resp` and `environ`."""

    @abstractmethod
    def answer_error(self, error: BaseException) -> None:
        """Answer an error that came before the response began."""

    def conclude(self) -> Any:
        """After a complete response; what the session is told by `Exchange.finish`."""
        return None

    def __call__(self) -> None:
        """Serve the request, whatever happens, and let the exchange go."""
        result = None
        try:
            self.parse()
            self.respond()
            result = self.conclude()
        except (ClientDisconnected, NoMoreData) as error:
            self.log.debug("Request of %s ended early: %s", self.peer.log_address, error)
            self.exchange.fail_response()
        except (Exception, SystemExit) as error:
            if self.resp is not None and self.resp.headers_sent:
                self.log.exception("Error handling request %s %s", self.req.method, self.req.uri)
                self.exchange.fail_response()
            else:
                self.answer_error(error)
        finally:
            self.exchange.finish(result)

    def respond(self) -> None:
        """Run the application with the hooks and the log line around it."""
        started = datetime.now()
        try:
            self.cfg.pre_request(self.worker, self.req)
            self.prepare()
            self._run_application(started)
        finally:
            try:
                self.cfg.post_request(self.worker, self.req, self.environ, self.resp)
            except Exception:
                self.log.exception("Exception in post_request hook")

    def _run_application(self, started: datetime) -> None:
        parts: Any = None
        try:
            if self.exchange.aborted:
                # Cancelled while it waited for a thread: not worth running.
                raise ClientDisconnected("cancelled before the application ran")
            parts = self.worker.wsgi(self.environ, self._start_response)
            self._send(parts)
        except (ClientDisconnected, NoMoreData):
            if not self.resp.headers_sent:
                self.resp.status = _CANCELLED
            self._log_access(started)
            raise
        except (Exception, SystemExit):
            # Before the head was sent, Gunicorn's handle_error writes the line.
            if self.resp.headers_sent:
                self._log_access(started)
            raise
        else:
            self._log_access(started)
        finally:
            if hasattr(parts, "close"):
                parts.close()

    def _send(self, parts: Any) -> None:
        if isinstance(parts, self.environ["wsgi.file_wrapper"]):
            self.resp.write_file(parts)
        else:
            for part in parts:
                self.resp.write(part)
        self.resp.close()

    def _start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """PEP 3333, where older Gunicorns are laxer than the newest."""
        if not isinstance(status, str) or not _STATUS.fullmatch(status):
            raise ValueError(f"invalid status: {status!r:.100}")
        if exc_info and not self.resp.headers_sent:
            # The fields given before are replaced, not added to.
            self.resp.headers.clear()
            self.resp.response_length = None
        return self.resp.start_response(status, headers, exc_info)

    def _log_access(self, started: datetime) -> None:
        self.log.access(self.resp, self.req, self.environ, datetime.now() - started)


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
        body = io.BufferedReader(RequestBody(self.exchange)) if self._has_body else io.BytesIO()
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
        self.environ["wsgi.early_hints"] = self.resp.early_hints
        self.environ["gunicorn_h2.stream_id"] = self._stream_id

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
