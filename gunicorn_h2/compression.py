"""Header compression (RFC 7541): hpack's tables and codes, bounded, and quick where fields repeat.

Pure, called on the loop thread. What the fields mean, and whether they may be there,
is for `fields` to say.
"""

from __future__ import annotations

from collections.abc import Iterable

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import Decoder, Encoder, HeaderTuple, HPACKError
from hpack.hpack import encode_integer

from .stream import Field

#: RFC 7541 section 4.2: a block may begin with two size updates, no more.
_MAX_SIZE_UPDATES = 2
#: A block that fits into the smallest frame is decoded whatever is in it, a larger one
#: up to so many representations: each costs microseconds of the loop, and a byte is enough.
_ALWAYS_DECODED = 16_384
_MAX_REPRESENTATIONS = 4_096
#: Fields whose values are seldom sent twice, and would push out others, with the places of
#: their names in the static table (RFC 7541 appendix A).
_NOT_INDEXED = {
    b"age": 21,
    b"content-length": 28,
    b"content-range": 30,
    b"etag": 34,
    b"last-modified": 44,
    b"location": 46,
    b"set-cookie": 55,
}


class CompressionFault(ProtocolError):
    """The header block cannot be decoded; HPACK state is lost, and the connection with it."""

    error_code = ErrorCodes.COMPRESSION_ERROR


class TooManyFields(ProtocolError):
    """Decoding the header block would take too long; without it, HPACK state is lost."""

    error_code = ErrorCodes.ENHANCE_YOUR_CALM


class FieldEncoder(Encoder):
    """hpack's encoder, which looks a field up once for as long as its table stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        #: How fields are written that stand in a table.
        self._indexed: dict[Field, bytes] = {}

    def encode(self, headers: Iterable[Field], huffman: bool = True) -> bytes:  # type: ignore[override]
        """A header block; what is not worth a place in the table does not get one."""
        indexed = self._indexed
        parts = []
        if self.header_table.resized:
            parts.append(super().encode(()))
            indexed.clear()
        for field in headers:
            part = indexed.get(field)
            if part is None:
                part = self._encode_field(field, huffman)
            parts.append(part)
        return b"".join(parts)

    def _encode_field(self, field: Field, huffman: bool) -> bytes:
        name, value = field
        if name in _NOT_INDEXED:
            # A literal "without indexing" (section 6.2.2). Compressing what is sent once
            # costs more than it saves.
            length = bytes(encode_integer(len(value), 7))
            return bytes((0x0F, _NOT_INDEXED[name] - 15)) + length + value
        part = self.add(field, False, huffman)
        if part[0] & 0x80:
            self._indexed[field] = part
        else:
            # It has a place in the table now, and the others have moved on by one.
            self._indexed.clear()
        return part


class FieldDecoder(Decoder):
    """hpack's decoder, bounded, which keeps what it decoded from h2.

    h2 is given an empty list: whether a block is malformed is for `fields` to say,
    stream by stream. Owned by L.
    """

    def __init__(self) -> None:
        super().__init__()
        self._decoded: list[Field] = []

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """Decode ``data`` and keep the fields for `take`; h2 gets none of them."""
        if _leading_size_updates(data) > _MAX_SIZE_UPDATES:
            raise CompressionFault("too many table size updates")
        if len(data) > _ALWAYS_DECODED and _is_dense(data):
            raise TooManyFields("too many representations")
        # The guard bounds the block's compressed size, `_is_dense` the time it takes, and
        # decoded fields that come from the table share its memory. What remains to be bounded
        # (the sum a request may carry) can be checked once the block is whole:
        # stopping half-way would lose the table, and with it the connection.
        try:
            self._decoded = self._decode(data)
        except (HPACKError, IndexError, ValueError) as error:
            raise CompressionFault(f"header block: {type(error).__name__}") from error
        return []

    def _decode(self, data: bytes) -> list[Field]:
        """RFC 7541 section 6, with the commonest case, a small index, done in place."""
        by_index = self.header_table.get_by_index
        fields: list[Field] = []
        position, end = 0, len(data)
        while position < end:
            first = data[position]
            if 0x80 < first < 0xFF:
                fields.append(by_index(first & 0x7F))
                position += 1
                continue
            rest = data[position:]
            if first & 0x80:
                field, consumed = self._decode_indexed(rest)
            elif first & 0xE0 == 0x20:
                if fields:
                    raise CompressionFault("table size update inside of a block")
                position += self._update_encoding_context(rest)
                continue
            else:
                field, consumed = self._decode_literal(rest, bool(first & 0x40))
            fields.append((field[0], field[1]))
            position += consumed
        return fields

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
