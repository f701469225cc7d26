"""Runs the application for one request: start_response, iteration, close(), hooks, access log.

Everything in here runs on a pool thread. It may block, in the application or in
the exchange; it may not touch the loop, the transport or h2. Gunicorn's own
`Response` carries both protocols, so that fields are checked, dropped and added
as under Gunicorn's own workers.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from datetime import datetime
from typing import Any

from gunicorn.http.errors import (
    InvalidHeader,
    InvalidHeaderName,
    NoMoreData,
    ParseException,
)
from gunicorn.http.wsgi import Response

from .errors import ClientDisconnected, DeadlineExceeded, RequestTimeout
from .extensions import Extensions
from .handoff import Exchange
from .peer import Peer
from .stream import Field

#: RFC 9110 section 15, PEP 3333: three digits, a space and a reason (which Gunicorn
#: allows to be missing), nothing that could end the line.
_STATUS = re.compile(r"[2-9][0-9]{2}(?: [ \t\x21-\x7e\x80-\xff]*)?")
#: As nginx logs it: the client cancelled before there was a status.
_CANCELLED = "499 Client Closed Request"
#: What the access log says of a request that ended otherwise before its response began.
_ENDED_EARLY = {
    RequestTimeout: "408 Request Timeout",
    DeadlineExceeded: "504 Gateway Timeout",
}
#: Characters of what a peer sent that Gunicorn's complaint may repeat, in log and answer.
_LONGEST_ECHO = 200


class ShortResponse(Exception):
    """The application sent less than its Content-Length."""


class CheckedResponse(Response):  # type: ignore[misc]
    """Gunicorn's response, where PEP 3333 and HTTP are stricter than it is."""

    def __init__(self, req: Any, sock: Any, cfg: Any, exchange: Exchange) -> None:
        super().__init__(req, sock, cfg)
        self._exchange = exchange
        self.headers_sent: bool

    def can_sendfile(self) -> bool:
        """Never: the bytes have to be framed and counted, and the socket is the loop's."""
        return False

    @property
    def _bodyless(self) -> bool:
        """RFC 9110 section 6.4.1: no content, whatever the application yields."""
        return self.req.method == "HEAD" or self.status_code in (204, 304)

    def write(self, data: bytes) -> None:
        """Send a part of the body; what exceeds Content-Length is cut off."""
        if not isinstance(data, bytes):
            raise TypeError(f"{data!r:.100} is not a byte string")
        if not data:
            # PEP 3333: the fields wait for the first non-empty part. But an application
            # that yields these to wait for something must learn that nobody waits for it.
            self._exchange.check()
            return
        self.send_headers()
        if not self._bodyless:
            self._write_part(data)

    def _write_part(self, data: bytes) -> None:
        super().write(data)

    def close(self) -> None:
        """The application is done: see that it has sent what it announced."""
        super().close()
        self._check_length()

    def _check_length(self) -> None:
        if self.response_length is not None and not self._bodyless:
            missing = self.response_length - self.sent
            if missing > 0:
                raise ShortResponse(f"{missing} bytes less than the Content-Length were sent")


def _shorten(error: ParseException) -> None:
    """Keep a peer's kilobytes out of the log: Gunicorn's errors quote what they are about."""
    for name, value in vars(error).items():
        if isinstance(value, str) and len(value) > _LONGEST_ECHO:
            setattr(error, name, value[:_LONGEST_ECHO] + "...")


class Serving(ABC):
    """One request being served: from its head to the access log line.

    :param worker: our worker; its `request_cfg`, `log`, `wsgi` and `handle_error` are used.
    :param multithread: whether more than one pool thread may run the application.
    """

    def __init__(self, worker: Any, exchange: Exchange, peer: Peer, multithread: bool) -> None:
        self.worker = worker
        self.cfg = worker.request_cfg
        self.log = worker.log
        self.exchange = exchange
        self.peer = peer
        self.multithread = multithread
        self.req: Any = None
        self.resp: Any = None
        self.environ: dict[str, Any] = {}
        self.extensions = Extensions(exchange, self._begun, self._send_hints, self.request_trailers)

    @abstractmethod
    def parse(self) -> None:
        """Set `req`; raises Gunicorn's errors where it is not acceptable."""

    @abstractmethod
    def prepare(self) -> None:
        """Set `resp` and `environ`."""

    @abstractmethod
    def end_response(self, trailers: list[Field]) -> None:
        """The application has returned everything."""

    @abstractmethod
    def request_trailers(self) -> list[tuple[str, str]]:
        """The fields that followed the body, once it has been read: names in lower case."""

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
        except BaseException as error:
            # All of them: on this thread a KeyboardInterrupt or a CancelledError can only
            # be the application's, and its client must not wait for ever.
            self._fail(error)
        finally:
            self.exchange.finish(result)
            # The environ has functions that refer back to here.
            del self.environ, self.extensions

    def _fail(self, error: BaseException) -> None:
        if not self._begun():
            if isinstance(error, ParseException):
                _shorten(error)
            try:
                self.answer_error(error)
            except BaseException:
                self.exchange.fail_response()
                raise
            return
        if isinstance(error, RequestTimeout):
            self.log.debug("Request of %s timed out: %s", self.peer.log_address, error)
        else:
            self.log.exception("Error handling request %s %s", self.req.method, self.req.uri)
        self.exchange.fail_response()

    def respond(self) -> None:
        """Run the application with the hooks and the log line around it."""
        started = datetime.now()
        try:
            self.cfg.pre_request(self.worker, self.req)
            self.prepare()
            self.environ.update(self.extensions.keys())
            self._run_application(started)
        finally:
            try:
                self.cfg.post_request(self.worker, self.req, self.environ, self.resp)
            except Exception:
                self.log.exception("Exception in post_request hook")

    def _run_application(self, started: datetime) -> None:
        parts: Any = None
        try:
            self.exchange.begin(f"{self.req.method} {self.req.path}")
            parts = self.worker.wsgi(self.environ, self._start_response)
            self._send(parts)
        except (ClientDisconnected, NoMoreData, RequestTimeout) as error:
            if not self.resp.headers_sent:
                self.resp.status = _ENDED_EARLY.get(type(error), _CANCELLED)
            self._log_access(started)
            raise
        except BaseException:
            # Before the head was sent, Gunicorn's handle_error writes the line.
            if self.resp.headers_sent:
                self._log_access(started)
            raise
        else:
            self._log_access(started)
        finally:
            if hasattr(parts, "close"):
                # Applications put there what their clients should not wait for.
                self.exchange.push()
                parts.close()

    def _send(self, parts: Any) -> None:
        if isinstance(parts, self.environ["wsgi.file_wrapper"]):
            self.resp.write_file(parts)
        else:
            for part in parts:
                self.resp.write(part)
        self.end_response(self.extensions.trailers)

    def _start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        """PEP 3333, where older Gunicorns are laxer than the newest."""
        if not isinstance(status, str) or not _STATUS.fullmatch(status):
            raise ValueError(f"invalid status: {status!r:.100}")
        if exc_info and not self.resp.headers_sent:
            # The fields given before are replaced, not added to.
            self.resp.headers.clear()
            self.resp.response_length = None
        try:
            write = self.resp.start_response(status, headers, exc_info)
        except (InvalidHeader, InvalidHeaderName) as error:
            # Gunicorn before 27 takes it for a fault of the client, and shows it to the client.
            raise ValueError(f"invalid response field: {error}") from error
        if self.resp.response_length is not None and self.resp.response_length < 0:
            raise ValueError("negative Content-Length")
        return write

    def _send_hints(self, fields: list[Field]) -> None:
        # RFC 9110 section 15.2: not to a client of HTTP/1.0.
        if self.req.version >= (1, 1):
            self.exchange.send_informational([(b":status", b"103"), *fields])

    def _begun(self) -> bool:
        return self.resp is not None and bool(self.resp.headers_sent)

    def _log_access(self, started: datetime) -> None:
        self.log.access(self.resp, self.req, self.environ, datetime.now() - started)
