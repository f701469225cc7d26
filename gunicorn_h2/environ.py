"""HTTP/2 fields -> Gunicorn's request and WSGI environ, under Gunicorn's own policy.

Pure; runs on a pool thread, before the application. The point of this module is
to hold as little as possible: what a path, a method or a field name may look
like, who is trusted to say what the scheme is, how fields are called in the
environ, is decided by the code of the installed Gunicorn, which is given the
request as if it had come over HTTP/1.1.
"""

from __future__ import annotations

import re
from typing import Any

from gunicorn.http.errors import (
    InvalidHeader,
    InvalidRequestLine,
    LimitRequestHeaders,
    LimitRequestLine,
    UnsupportedTransferCoding,
)
from gunicorn.http.message import Request
from gunicorn.http.wsgi import create

from .fields import RequestHead

#: RFC 3986 section 2: printable ASCII. Gunicorn 27 holds HTTP/1.1 to it, 23 does not.
_NOT_IN_TARGET = re.compile(rb"[^\x21-\x7e]|#")
_AUTHORITY = re.compile(rb"[^\x00-\x20\x7f-\xff@/?#\\]*")


#: How many peers' addresses are remembered.
_ADDRESSES = 1_000


class TunnelRefused(UnsupportedTransferCoding):  # type: ignore[misc]
    """CONNECT asks for a tunnel, which no WSGI application can offer (RFC 9113 section 8.5).

    Of Gunicorn's errors only the one that this is derived from is answered with 501.
    """

    def __str__(self) -> str:
        return "CONNECT is not implemented"


class _NothingBuffered:
    """In place of Gunicorn's unreader: no bytes follow, h2 carries the body."""

    def unread(self, data: bytes) -> None:
        """Take nothing back."""


class ConfigCache:
    """Gunicorn's configuration, with each value looked up once: a request asks for fifteen.

    What a hook changes before the first request counts, as it does for Gunicorn's own workers.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg
        #: Of addresses that came lately: whether they may say what the client's is.
        self.trusted: dict[Any, bool] = {}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._cfg, name)
        setattr(self, name, value)
        return value


class Http2Request(Request):  # type: ignore[misc]
    """A Gunicorn request read from HTTP/2 fields instead of bytes.

    :param body: what the environ offers as `wsgi.input`.
    :raises gunicorn.http.errors.ParseException: one of Gunicorn's own errors,
        for which `Worker.handle_error` knows the status.
    """

    def __init__(
        self, cfg: ConfigCache, head: RequestHead, peer_address: Any, body: Any, stream_id: int
    ) -> None:
        self._head = head
        self._stream_body = body
        super().__init__(cfg, _NothingBuffered(), peer_address, stream_id)

    def _peer_is_trusted_proxy(self) -> bool:
        """Gunicorn's answer (27 and later), which takes a tenth of a request to work out."""
        trusted: dict[Any, bool] = self.cfg.trusted
        host = self.peer_addr[0] if isinstance(self.peer_addr, tuple) else self.peer_addr
        if host not in trusted:
            if len(trusted) >= _ADDRESSES:
                trusted.clear()
            trusted[host] = super()._peer_is_trusted_proxy()
        return trusted[host]

    def parse(self, unreader: Any) -> bytes:
        """Run Gunicorn's checks over the request line and the fields."""
        head = self._head
        if head.too_large:
            raise LimitRequestHeaders("limit request headers fields size")
        if head.method == b"CONNECT":
            raise TunnelRefused("")
        line = head.method + b" " + head.path + b" HTTP/1.1"
        if len(line) > self.limit_request_line > 0:
            raise LimitRequestLine(len(line), self.limit_request_line)
        self._check_target(head.method, head.path)
        self.parse_request_line(line)
        self.version = (2, 0)
        lines = self._header_lines()
        self.headers = self.parse_headers(b"\r\n".join(lines)) if lines else []
        return b""

    @staticmethod
    def _check_target(method: bytes, target: bytes) -> None:
        """RFC 9113 section 8.3.1: a path, or `*` for OPTIONS; no URI, no authority."""
        whole_server = target == b"*" and method.upper() == b"OPTIONS"
        if (not target.startswith(b"/") and not whole_server) or _NOT_IN_TARGET.search(target):
            raise InvalidRequestLine(target[:100].decode("latin-1"))

    def _header_lines(self) -> list[bytes]:
        """The fields as HTTP/1.1 would have carried them.

        :authority is Host, and the two must not disagree (RFC 9113 section
        8.3.1); cookie crumbs become one field again (section 8.2.3).
        """
        hosts: list[bytes] = []
        cookies: list[bytes] = []
        lines: list[bytes] = []
        for name, value in self._head.fields:
            if name == b"host":
                hosts.append(value)
            elif name == b"cookie":
                cookies.append(value)
            else:
                lines.append(name + b": " + value)
        authority = self._head.authority
        if authority is not None:
            hosts.append(authority)
        if len(set(hosts)) > 1 or len(hosts) > (1 if authority is None else 2):
            raise InvalidHeader("HOST", req=self)
        if hosts:
            if not _AUTHORITY.fullmatch(hosts[0]):
                raise InvalidHeader("HOST", req=self)
            lines.insert(0, b"host: " + hosts[0])
        if cookies:
            lines.append(b"cookie: " + b"; ".join(cookies))
        return lines

    def set_body_reader(self) -> None:
        """The body is framed by HTTP/2; its length was checked as it arrived."""
        self.body = self._stream_body


def build(
    req: Any, sock: Any, client: Any, server: Any, cfg: Any, multithread: bool
) -> tuple[Any, dict[str, Any]]:
    """Gunicorn's response and environ for ``req``.

    :param sock: what is offered as `gunicorn.socket`.
    :param client: the peer's address as `socket.accept` gave it.
    :param server: the listener's address as `socket.getsockname` gives it.
    :raises gunicorn.http.errors.ConfigurationProblem: SCRIPT_NAME does not fit.
    """
    resp, environ = create(req, sock, client, server, cfg)
    environ["wsgi.multithread"] = multithread
    return resp, environ
