"""Fields of a header block, checked against RFC 9113 section 8 and turned into a request head.

Pure, called on the loop thread. h2 makes a malformed request an error of the
connection; here it costs the sender its stream only, so this module does that
part of h2's work. Nothing in here decides policy (what a path may look like,
which names are trusted): that is Gunicorn's, in environ.py.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .stream import Field

#: RFC 9113 section 8.2.1: no uppercase, no controls, no colon but the leading one.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]")
#: RFC 9113 section 8.2.2.
CONNECTION_SPECIFIC = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_REQUEST_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
#: RFC 9110 section 6.5.1: fields that frame, route or authenticate a message
#: have no business after its body. Gunicorn refuses the same ones.
_FORBIDDEN_IN_TRAILERS = frozenset(
    (b"host", b"content-length", b"trailer", b"authorization", b"te")
)
#: RFC 9113 section 6.5.2: what a field costs beyond its characters.
_FIELD_OVERHEAD = 32


class MalformedFields(Exception):
    """The block breaks RFC 9113 section 8; its stream is reset, nothing else."""


class RequestHead(NamedTuple):
    """The fields of one request, as bytes, after the checks of RFC 9113 section 8."""

    method: bytes
    scheme: bytes
    authority: bytes | None
    path: bytes
    #: Regular fields in the order they came.
    fields: list[Field]
    content_length: int | None
    #: Value of the `priority` field (RFC 9218), empty where absent.
    priority: bytes
    #: The field list passed a limit (`max_header_list_size`, `max_header_fields`).
    too_large: bool


def request_head(fields: list[Field], max_list_size: int, max_fields: int) -> RequestHead:
    """Check a request's fields and sort them (RFC 9113 sections 8.1 to 8.3).

    :param max_list_size: bytes, counted as RFC 9113 section 6.5.2 says.
    :param max_fields: number of regular fields.
    :raises MalformedFields: the stream must be reset with PROTOCOL_ERROR.
    """
    pseudo: dict[bytes, bytes] = {}
    regular: list[Field] = []
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + _FIELD_OVERHEAD
        if name[:1] == b":":
            if regular:
                raise MalformedFields("pseudo-header field after a regular one")
            if name in pseudo:
                raise MalformedFields("pseudo-header field twice")
            if name not in _REQUEST_PSEUDO:
                raise MalformedFields("unknown pseudo-header field")
            _check_value(value)
            pseudo[name] = value
        else:
            regular.append((name, value))
    too_large = size > max_list_size or len(regular) > max_fields
    if too_large:
        # The answer is 431 whatever else is wrong with it: do not read on.
        regular = []
    content_length: int | None = None
    priority = b""
    for name, value in regular:
        _check_regular(name, value)
        if name == b"content-length":
            if content_length is not None:
                raise MalformedFields("content-length twice")
            content_length = _content_length(value)
        elif name == b"priority":
            priority = priority + b"," + value if priority else value
    method = pseudo.get(b":method", b"")
    if not method:
        raise MalformedFields("no :method")
    if method == b"CONNECT":
        # RFC 9113 section 8.5; answered 501 later, but it must be well-formed.
        if b":authority" not in pseudo:
            raise MalformedFields("CONNECT without :authority")
        if b":protocol" in pseudo or b":path" in pseudo or b":scheme" in pseudo:
            raise MalformedFields("CONNECT with :path, :scheme or :protocol")
    elif b":protocol" in pseudo:
        raise MalformedFields(":protocol was not offered")
    elif not pseudo.get(b":scheme") or b":path" not in pseudo:
        raise MalformedFields("no :scheme or no :path")
    return RequestHead(
        method=method,
        scheme=pseudo.get(b":scheme", b""),
        authority=pseudo.get(b":authority"),
        path=pseudo.get(b":path", b""),
        fields=regular,
        content_length=content_length,
        priority=priority,
        too_large=too_large,
    )


def trailer_fields(fields: list[Field], max_list_size: int, max_fields: int) -> list[Field]:
    """Check the fields that follow a body (RFC 9113 section 8.1).

    :returns: the fields an application may see.
    :raises MalformedFields: the stream must be reset with PROTOCOL_ERROR.
    """
    size = 0
    for name, value in fields:
        size += len(name) + len(value) + _FIELD_OVERHEAD
        _check_regular(name, value)
    if size > max_list_size or len(fields) > max_fields:
        raise MalformedFields("trailers too large")
    return [field for field in fields if field[0] not in _FORBIDDEN_IN_TRAILERS]


def _check_regular(name: bytes, value: bytes) -> None:
    if not _NAME.fullmatch(name):
        raise MalformedFields("invalid field name")
    if name in CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
        raise MalformedFields("connection-specific field")
    _check_value(value)


def _check_value(value: bytes) -> None:
    if _FORBIDDEN_IN_VALUE.search(value):
        raise MalformedFields("NUL, CR or LF in a field value")
    if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
        raise MalformedFields("space around a field value")


def _content_length(value: bytes) -> int:
    # `isdigit` alone would do for bytes; the length keeps int() from working on
    # a megabyte of digits. 18 digits are more than any body.
    if not value.isdigit() or len(value) > 18:
        raise MalformedFields("invalid content-length")
    return int(value)
