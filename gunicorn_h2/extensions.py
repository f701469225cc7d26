"""What HTTP offers and PEP 3333 does not name: early hints, trailers, disconnects.

Runs on a pool thread, called by the application through the keys of its environ.
How a thing is written over HTTP/1.1 or HTTP/2 is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from .fields import CONNECTION_SPECIFIC
from .handoff import Exchange
from .stream import Field

#: RFC 9110 sections 5.1 and 5.5; pseudo-header fields have a colon and are no tokens.
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[ \t\x21-\x7e\x80-\xff]*")
#: RFC 9110 section 6.5.1: they frame, route or authenticate, which is decided before a body.
_NOT_IN_TRAILERS = CONNECTION_SPECIFIC | {
    *(b"content-length", b"content-encoding", b"content-range", b"content-type"),
    *(b"host", b"te", b"trailer", b"authorization", b"set-cookie", b"cache-control"),
}
_NOT_IN_HINTS = CONNECTION_SPECIFIC | {b"content-length", b"te", b"trailer"}


class Extensions:
    """The extensions of one request.

    :param begun: whether the response's head has been sent.
    :param send_hints: sends a 103 with these fields, or drops it where the peer
        would not understand it.
    :param request_trailers: the fields that followed the request's body, once they are there.
    """

    def __init__(
        self,
        exchange: Exchange,
        begun: Callable[[], bool],
        send_hints: Callable[[list[Field]], None],
        request_trailers: Callable[[], list[tuple[str, str]]],
    ) -> None:
        self._exchange = exchange
        self._begun = begun
        self._send_hints = send_hints
        self._request_trailers = request_trailers
        #: What `send_trailers` was given: lower-case names.
        self.trailers: list[Field] = []

    def keys(self) -> dict[str, Any]:
        """The environ keys."""
        return {
            "wsgi.early_hints": self.early_hints,
            "wsgi.ext.http.send_trailers": self.send_trailers,
            "gunicorn.http2.send_trailers": self.send_trailers,
            "gunicorn_h2.request_trailers": self._request_trailers,
            "gunicorn_h2.client_disconnected": self.client_disconnected,
        }

    def early_hints(self, headers: Iterable[tuple[Any, Any]]) -> None:
        """Send a 103 (RFC 8297); may be called several times, does nothing once the response
        has begun.

        :raises TypeError, ValueError: a field is not one, or belongs to the connection.
        :raises ClientDisconnected: nobody will read it.
        """
        fields = _checked(headers, _NOT_IN_HINTS)
        if not self._begun():
            self._send_hints(fields)

    def send_trailers(self, trailers: Iterable[tuple[Any, Any]]) -> None:
        """Set the fields that follow the response's body; the last call counts.

        :raises TypeError, ValueError: a field is not one, or may not be a trailer.
        """
        self.trailers = _checked(trailers, _NOT_IN_TRAILERS)

    def client_disconnected(self) -> bool:
        """Whether the peer has gone, or has cancelled the request."""
        return self._exchange.aborted


def _checked(headers: Iterable[tuple[Any, Any]], refused: frozenset[bytes]) -> list[Field]:
    fields = []
    for name, value in headers:
        name, value = _text(name), _text(value).strip(" \t")
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a field name: {name!r:.100}")
        # Only the name: a value may be confidential.
        if not _VALUE.fullmatch(value):
            raise ValueError(f"not a field value, in {name}")
        lower = name.lower().encode("latin-1")
        if lower in refused:
            raise ValueError(f"the field {name} cannot be sent here")
        fields.append((lower, value.encode("latin-1")))
    return fields


def _text(part: Any) -> str:
    """``part``, which Gunicorn's early hints allow to be bytes."""
    if isinstance(part, bytes):
        return part.decode("latin-1")
    if not isinstance(part, str):
        raise TypeError(f"{part!r:.100} is not a string")
    return part
