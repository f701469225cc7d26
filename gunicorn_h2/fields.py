"""Header blocks: decoded by hpack, checked against RFC 9113 section 8, turned into a request head.

Pure, called on the loop thread. h2 makes a malformed request an error of the
connection; here it costs the sender its stream only, so this module does that
part of h2's work: h2 sees that a header block came, not what is in it. Nothing
in here decides policy (what a path may look like, which names are trusted):
that is Gunicorn's, in environ.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import Decoder, HeaderTuple, HPACKError

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
#: RFC 7541 section 4.2: a block may begin with two size updates, no more.
_MAX_SIZE_UPDATES = 2
#: A block that fits into the smallest frame is decoded whatever is in it, a larger one
#: up to so many representations: each costs microseconds of the loop, and a byte is enough.
_ALWAYS_DECODED = 16_384
_MAX_REPRESENTATIONS = 4_096
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


class CompressionFault(ProtocolError):
    """The header block cannot be decoded; HPACK state is lost, and the connection with it."""

    error_code = ErrorCodes.COMPRESSION_ERROR


class TooManyFields(ProtocolError):
    """Decoding the header block would take too long; without it, HPACK state is lost."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class FieldDecoder(Decoder):
    """hpack's decoder, bounded, which keeps what it decoded from h2.

    h2 is given an empty list: whether a block is malformed is for
    `request_head` and `trailer_fields` to say, stream by stream. Owned by L.
    """

    def __init__(self) -> None:
        # The guard bounds the block's compressed size, `_is_dense` the time it takes, and
        # decoded fields that come from the table share its memory. What remains to be bounded
        # (the sum a request may carry) can be checked once the block is whole:
        # stopping half-way would lose the table, and with it the connection.
        super().__init__(max_header_list_size=2**31)
        self._decoded: list[Field] = []

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Decode ``data`` and keep the fields for `take`; h2 gets none of them."""
        if _leading_size_updates(data) > _MAX_SIZE_UPDATES:
            raise CompressionFault("too many table size updates")
        if len(data) > _ALWAYS_DECODED and _is_dense(data):
            raise TooManyFields("too many representations")
        try:
            self._decoded = [(name, value) for name, value in super().decode(data, raw=True)]
        except (HPACKError, IndexError, ValueError) as error:
            raise CompressionFault(f"header block: {type(error).__name__}") from error
        return []

    def take(self) -> list[Field]:
        """The fields of the block decoded last."""
        decoded, self._decoded = self._decoded, []
        return decoded


def _leading_size_updates(block: bytes) -> int:
    count = position = 0
    while position < len(block) and block[position] & 0xE0 == 0x20:
        count += 1
        _, position = _integer(block, position, 0x1F)
    return count


def _is_dense(block: bytes) -> bool:
    """Whether the block holds more than `_MAX_REPRESENTATIONS` (RFC 7541 section 6).

    They are counted without being decoded, and only as far as that.
    """
    count = position = 0
    while position < len(block) and count <= _MAX_REPRESENTATIONS:
        count += 1
        first = block[position]
        indexed, updates_size = first & 0x80, first & 0xE0 == 0x20
        mask = 0x7F if indexed else 0x3F if first & 0x40 else 0x1F if updates_size else 0x0F
        index, position = _integer(block, position, mask)
        for _ in range(0 if indexed or updates_size else 1 if index else 2):
            if position < len(block):
                length, position = _integer(block, position, 0x7F)
                position += length
    return count > _MAX_REPRESENTATIONS


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """The integer at ``position`` (RFC 7541 section 5.1), and where it ends.

    :raises CompressionFault: its end is beyond the block's, or it is larger than any.
    """
    value = block[position] & mask
    position += 1
    if value == mask:
        for shift in range(0, 35, 7):
            if position >= len(block):
                break
            byte = block[position]
            position += 1
            value += (byte & 0x7F) << shift
            if not byte & 0x80:
                return value, position
        raise CompressionFault("integer without an end")
    return value, position


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
