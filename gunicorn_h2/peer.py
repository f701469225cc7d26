"""Who is at the other end: the facts about a connection that an application may ask for.

Collected on the loop thread when a connection is made, read on pool threads,
never changed. `gunicorn.socket` is made of them: an application may look at the
socket's addresses and certificates as it can under Gunicorn's own workers, but
the socket itself belongs to the loop.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Any, NoReturn

from .handoff import Exchange


@dataclass(frozen=True, slots=True)
class Peer:
    """One accepted connection."""

    #: The peer's address as `socket.accept` gives it: a tuple, or "" on a unix socket.
    client: Any
    #: The listener's address as `socket.getsockname` gives it.
    server: Any
    family: int
    #: Of the TLS connection; None (and {} or b"") in cleartext.
    tls_version: str | None = None
    cipher: tuple[str, str, int] | None = None
    alpn_protocol: str | None = None
    certificate: dict[str, Any] | None = None
    certificate_der: bytes | None = None

    @property
    def log_address(self) -> str:
        """The address for a log line."""
        return str(self.client[0]) if isinstance(self.client, tuple) else "unix:"


class RequestSocket:
    """`gunicorn.socket` of one request: facts, and an explained refusal for the rest.

    Gunicorn itself writes to it in two cases: `100 Continue`, which is kept until
    the application reads, and, over HTTP/1.1, the response.
    """

    __slots__ = ("_exchange", "_peer")

    def __init__(self, exchange: Exchange, peer: Peer) -> None:
        self._exchange = exchange
        self._peer = peer

    @property
    def family(self) -> int:
        return self._peer.family

    def getpeername(self) -> Any:
        """As `socket.getpeername`."""
        return self._peer.client

    def getsockname(self) -> Any:
        """The listener's address."""
        return self._peer.server

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As `ssl.SSLSocket.getpeercert`; None in cleartext."""
        return self._peer.certificate_der if binary_form else self._peer.certificate

    def cipher(self) -> tuple[str, str, int] | None:
        """As `ssl.SSLSocket.cipher`; None in cleartext."""
        return self._peer.cipher

    def version(self) -> str | None:
        """As `ssl.SSLSocket.version`; None in cleartext."""
        return self._peer.tls_version

    def selected_alpn_protocol(self) -> str | None:
        """As `ssl.SSLSocket.selected_alpn_protocol`; None in cleartext."""
        return self._peer.alpn_protocol

    def send(self, data: bytes) -> int:
        """Take Gunicorn's `100 Continue`: it is sent when the application reads."""
        if not data.startswith(b"HTTP/1.1 100 "):
            self._refuse("send")
        self._exchange.expects_continue = True
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Refused: bytes beside the response would break the connection."""
        self._refuse("sendall")

    def recv(self, size: int) -> bytes:
        """Refused: the connection's bytes belong to all of its requests."""
        self._refuse("recv")

    def fileno(self) -> int:
        """Refused, so that nobody can read, write or close behind the server's back."""
        self._refuse("fileno")

    @staticmethod
    def _refuse(what: str) -> NoReturn:
        raise OSError(
            errno.EOPNOTSUPP,
            f"gunicorn.socket.{what}() is not available under gunicorn_h2.H2Worker",
        )


class Http1Socket(RequestSocket):
    """What Gunicorn's HTTP/1.1 response writes to."""

    __slots__ = ()

    def sendall(self, data: bytes) -> None:
        """Hand bytes of the response over; blocks while too many are unsent."""
        self._exchange.send_data(data)

    def gettimeout(self) -> float:
        """For `gunicorn.util.write_error`: non-blocking already."""
        return 0.0


class ErrorPage:
    """Takes what `gunicorn.util.write_error` writes, so that it can go out as HTTP/2."""

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = b""

    def gettimeout(self) -> float:
        """For `gunicorn.util.write_error`: non-blocking already."""
        return 0.0

    def sendall(self, data: bytes) -> None:
        """Keep ``data``."""
        self._bytes += data

    def parts(self) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
        """Status code, fields and body of the page; None where none was written."""
        head, separator, body = self._bytes.partition(b"\r\n\r\n")
        if not separator:
            return None
        status_line, *lines = head.split(b"\r\n")
        fields = []
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() != b"connection":
                fields.append((name.lower(), value.strip()))
        return status_line.split(b" ")[1], fields, body
