"""Header compression: what is decoded and refused; any decoder reads what is encoded."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.compression import CompressionFault, FieldDecoder, FieldEncoder, TooManyFields
from gunicorn_h2.stream import Field

GET: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/a?b"),
]

# -- decoding -----------------------------------------------------------------------


def test_h2_gets_none_of_the_fields() -> None:
    decoder = FieldDecoder()
    assert list(decoder.decode(Encoder().encode(GET), raw=True)) == []
    assert decoder.take() == GET
    assert decoder.take() == []


def test_the_dynamic_table_lasts_from_block_to_block() -> None:
    encoder, decoder = Encoder(), FieldDecoder()
    for _ in range(3):
        decoder.decode(encoder.encode([*GET, (b"x-long", b"y" * 100)]))
        assert decoder.take() == [*GET, (b"x-long", b"y" * 100)]


def update(size: int) -> bytes:
    """A dynamic table size update, as RFC 7541 section 6.3 writes it."""
    if size < 31:
        return bytes([0x20 | size])
    size -= 31
    rest = b""
    while size >= 128:
        rest += bytes([0x80 | size % 128])
        size //= 128
    return bytes([0x3F]) + rest + bytes([size])


@pytest.mark.parametrize(
    "updates", [[], [0], [30], [31], [4_096], [0, 4_096], [4_096, 1], [200, 200]]
)
def test_two_size_updates_may_come_first(updates: list[int]) -> None:
    decoder = FieldDecoder()
    decoder.decode(b"".join(map(update, updates)) + b"\x82")
    assert decoder.take() == [(b":method", b"GET")]


@pytest.mark.parametrize("updates", [[0] * 3, [4_096] * 3, [0, 200, 4_096], [31] * 60_000])
def test_more_size_updates_than_two(updates: list[int]) -> None:
    with pytest.raises(CompressionFault, match="updates") as caught:
        FieldDecoder().decode(b"".join(map(update, updates)) + b"\x82")
    assert caught.value.error_code is ErrorCodes.COMPRESSION_ERROR


#: A field of a length that takes three bytes to tell, after which a block is a large one.
LARGE = b"\x00\x01x\x7f\x80\x7f" + b"y" * 16_383


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(b"\x80", id="index 0"),
        pytest.param(b"\xff\xff\xff\x7f", id="index beyond the table"),
        pytest.param(b"\xbe", id="index of an empty dynamic table"),
        pytest.param(b"\x00\x05ab", id="name cut off"),
        pytest.param(b"\x00\x01a\x7f", id="length cut off"),
        pytest.param(b"\x00\x01a\x05b", id="value cut off"),
        pytest.param(b"\x00", id="nothing after the first byte"),
        pytest.param(b"\xff" + b"\xff" * 60 + b"\x01", id="endless integer"),
        pytest.param(b"\x00\x01a\x81\x00", id="Huffman padding with zeros"),
        pytest.param(b"\x00\x01a\x84\xff\xff\xff\xff", id="Huffman EOS"),
        pytest.param(b"\x3f\xe2\x1f", id="table larger than was offered"),
        pytest.param(b"\x3f\xff", id="size update cut off"),
        pytest.param(b"\x3f", id="size update without its number"),
        pytest.param(b"\x82\x20", id="size update after a field"),
        pytest.param(b"\x3f" + b"\xff" * 6, id="endless size update"),
        pytest.param(LARGE + b"\xff" * 6, id="endless integer in a large block"),
        pytest.param(LARGE + b"\xff", id="integer cut off in a large block"),
        pytest.param(LARGE + b"\x00", id="name cut off in a large block"),
        pytest.param(LARGE + b"\x00\x05ab", id="value cut off in a large block"),
    ],
)
def test_a_block_that_cannot_be_decoded(block: bytes) -> None:
    with pytest.raises(CompressionFault) as caught:
        FieldDecoder().decode(block)
    assert caught.value.error_code is ErrorCodes.COMPRESSION_ERROR
    # It goes into the log.
    assert len(str(caught.value)) < 100


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_any_block_is_decoded_or_ends_the_connection(blocks: list[bytes]) -> None:
    decoder = FieldDecoder()
    for block in blocks:
        try:
            decoder.decode(block)
        except CompressionFault:
            return
        decoder.take()


LITERALS = {
    "incremental": b"\x40\x01n\x01v",
    "incremental, with an indexed name": b"\x44\x01v",
    "not indexed": b"\x00\x01n\x01v",
    "not indexed, with an indexed name": b"\x04\x01v",
    "not indexed, with an index of two bytes": b"\x0f\x05\x01v",
    "never indexed": b"\x10\x01n\x01v",
}


@pytest.mark.parametrize(
    "representation", [*LITERALS.values(), b"\x82"], ids=[*LITERALS, "indexed"]
)
def test_a_large_block_has_a_limited_number_of_fields(representation: bytes) -> None:
    decoder = FieldDecoder()
    decoder.decode(update(0) + LARGE + representation * 4_094)
    assert len(decoder.take()) == 4_095
    with pytest.raises(TooManyFields) as caught:
        decoder.decode(update(0) + LARGE + representation * 4_095)
    assert caught.value.error_code == ErrorCodes.ENHANCE_YOUR_CALM


def test_a_small_block_may_have_any_number_of_fields() -> None:
    decoder = FieldDecoder()
    decoder.decode(b"\x82" * 16_384)
    assert len(decoder.take()) == 16_384


#: Names and values that repeat, some of them in the static table, and some that fill the table.
REPEATING = st.tuples(
    st.sampled_from((b":status", b"content-type", b"etag", b"content-length", b"x-a", b"x-b")),
    st.sampled_from((b"200", b"204", b"", b"text/plain", b"a", b"y" * 900)),
)
BLOCKS = st.lists(st.lists(REPEATING, max_size=6), max_size=12)


@given(BLOCKS, st.lists(st.integers(0, 300), max_size=3), st.binary(max_size=8))
def test_it_decodes_as_hpack_does(
    blocks: list[list[Field]], positions: list[int], noise: bytes
) -> None:
    encoder, ours, theirs = Encoder(), FieldDecoder(), Decoder()
    for number, fields in enumerate(blocks):
        block = encoder.encode(fields)
        if number == len(blocks) - 1:
            for position in positions:
                block = block[:position] + noise + block[position + 1 :]
        try:
            expected = theirs.decode(block, raw=True)
        except (HPACKError, IndexError):
            with pytest.raises(CompressionFault):
                ours.decode(block)
            return
        try:
            ours.decode(block)
        except CompressionFault as error:
            assert "updates" in str(error)
            return
        assert ours.take() == expected
        assert ours.header_table.dynamic_entries == theirs.header_table.dynamic_entries


# -- encoding -----------------------------------------------------------------------


@given(st.lists(st.tuples(st.lists(REPEATING, max_size=6), st.none() | st.integers(0, 4_096))))
def test_any_decoder_reads_what_is_encoded(
    responses: list[tuple[list[Field], int | None]],
) -> None:
    encoder, decoder = FieldEncoder(), Decoder()
    for fields, table_size in responses:
        if table_size is not None:
            encoder.header_table_size = table_size
        assert decoder.decode(encoder.encode(fields), raw=True) == fields
        assert encoder.header_table.dynamic_entries == decoder.header_table.dynamic_entries


def test_a_field_that_repeats_takes_a_byte() -> None:
    encoder = FieldEncoder()
    fields = [(b":status", b"200"), (b"server", b"gunicorn"), (b"x", b"y")]
    sizes = [len(encoder.encode(fields)) for _ in range(3)]
    assert sizes[0] > 3
    assert sizes[1:] == [3, 3]


def test_indexes_are_not_kept_when_the_table_moves_on() -> None:
    encoder, decoder = FieldEncoder(), Decoder()
    old, new = (b"x", b"old"), (b"x", b"new")
    for fields in ([old], [old], [new], [old], [new, old]):
        assert decoder.decode(encoder.encode(fields), raw=True) == fields


def test_what_is_seldom_sent_twice_gets_no_place_in_the_table() -> None:
    encoder = FieldEncoder()
    encoder.encode([(b"x", b"y")])
    before = list(encoder.header_table.dynamic_entries)
    block = encoder.encode([(b"etag", b"abc"), (b"set-cookie", b"a=b"), (b"content-length", b"7")])
    assert list(encoder.header_table.dynamic_entries) == before
    # "Without indexing" (RFC 7541 section 6.2.2), the name from the static table.
    assert block == b"\x0f\x13\x03abc" + b"\x0f\x28\x03a=b" + b"\x0f\x0d\x017"
