"""Header blocks: what is decoded, what is well-formed, and what a request head says."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.fields import (
    CompressionFault,
    FieldDecoder,
    MalformedFields,
    RequestHead,
    TooManyFields,
    request_head,
    trailer_fields,
)
from gunicorn_h2.stream import Field

LIST_SIZE, FIELDS = 1_000, 5
GET: list[Field] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":authority", b"example.org"),
    (b":path", b"/a?b"),
]


def head(*extra: Field, base: list[Field] = GET) -> RequestHead:
    return request_head([*base, *extra], LIST_SIZE, FIELDS)


def without(name: bytes) -> list[Field]:
    return [field for field in GET if field[0] != name]


def replaced(name: bytes, value: bytes) -> list[Field]:
    return [(each, value if each == name else old) for each, old in GET]


def is_malformed(*extra: Field, base: list[Field] = GET) -> None:
    with pytest.raises(MalformedFields):
        head(*extra, base=base)


# -- HPACK --------------------------------------------------------------------------


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


# -- requests -----------------------------------------------------------------------

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


def test_a_request_head() -> None:
    assert head((b"accept", b"*/*"), (b"x", b"1"), (b"x", b"")) == RequestHead(
        method=b"GET",
        scheme=b"https",
        authority=b"example.org",
        path=b"/a?b",
        fields=[(b"accept", b"*/*"), (b"x", b"1"), (b"x", b"")],
        content_length=None,
        priority=b"",
        too_large=False,
    )


def test_a_request_without_authority() -> None:
    assert head((b"host", b"h"), base=without(b":authority")).authority is None


@pytest.mark.parametrize("name", [b":method", b":scheme", b":path"])
def test_a_pseudo_field_is_missing(name: bytes) -> None:
    is_malformed(base=without(name))


@pytest.mark.parametrize("name", [b":method", b":scheme"])
def test_a_pseudo_field_is_empty(name: bytes) -> None:
    is_malformed(base=replaced(name, b""))


def test_an_empty_path_is_for_gunicorn_to_refuse() -> None:
    assert head(base=replaced(b":path", b"")).path == b""


@pytest.mark.parametrize("name", [name for name, _ in GET])
def test_a_pseudo_field_comes_twice(name: bytes) -> None:
    is_malformed(base=[*GET, (name, b"x")])


@pytest.mark.parametrize("name", [b":status", b":", b":Path", b":path ", b":x"])
def test_a_pseudo_field_that_no_request_has(name: bytes) -> None:
    is_malformed((name, b"200"))


def test_a_pseudo_field_after_a_regular_one() -> None:
    is_malformed(base=[(b"a", b"b"), *GET])


@pytest.mark.parametrize("value", [b"/\r", b"/\n", b"/\x00", b" /", b"/ ", b"\t/"])
def test_a_value_of_a_pseudo_field(value: bytes) -> None:
    is_malformed(base=replaced(b":path", value))


def test_connect() -> None:
    connect = [(b":method", b"CONNECT"), (b":authority", b"example.org:443")]
    assert head(base=connect).method == b"CONNECT"
    is_malformed(base=connect[:1])
    for extra in ((b":scheme", b"https"), (b":path", b"/"), (b":protocol", b"websocket")):
        is_malformed(base=[*connect, extra])


def test_extended_connect_was_not_offered() -> None:
    is_malformed(base=[*GET, (b":protocol", b"websocket")])


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"Accept",
        b"aCcept",
        b" a",
        b"a ",
        b"a b",
        b"a:",
        b"a\x00",
        b"a\r",
        b"a\n",
        b"a\x7f",
        b"a\x80",
        b"a\xff",
        b'a"b',
        b"a(b)",
        b"a/b",
        b"a@b",
    ],
)
def test_a_name_that_is_none(name: bytes) -> None:
    is_malformed((name, b"1"))


def test_every_character_a_name_may_have() -> None:
    name = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
    assert head((name, b"1")).fields == [(name, b"1")]


@pytest.mark.parametrize(
    "value", [b"a\r\nb: c", b"a\rb", b"a\nb", b"a\x00b", b" a", b"a ", b"\ta", b"a\t", b" "]
)
def test_a_value_that_is_none(value: bytes) -> None:
    is_malformed((b"x", value))


@pytest.mark.parametrize("value", [b"", b"a b\tc", b"\x01\x7f", b"\x80\xff", b'":;,='])
def test_a_value_that_may_be(value: bytes) -> None:
    assert head((b"x", value)).fields == [(b"x", value)]


@pytest.mark.parametrize(
    "field",
    [
        (b"connection", b"close"),
        (b"proxy-connection", b"keep-alive"),
        (b"keep-alive", b"5"),
        (b"transfer-encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"te", b"gzip"),
        (b"te", b""),
        (b"te", b"trailers, gzip"),
    ],
)
def test_a_field_of_http_1_connections(field: Field) -> None:
    is_malformed(field)


@pytest.mark.parametrize("value", [b"trailers", b"Trailers"])
def test_te_trailers(value: bytes) -> None:
    assert head((b"te", value)).fields == [(b"te", value)]


@pytest.mark.parametrize(("value", "length"), [(b"0", 0), (b"007", 7), (b"9" * 18, 10**18 - 1)])
def test_content_length(value: bytes, length: int) -> None:
    assert head((b"content-length", value)).content_length == length


@pytest.mark.parametrize(
    "value", [b"", b"+5", b"-1", b"5,5", b"5 5", b"0x5", b"1_0", b"\xb2", b"5.0", b"1" * 19]
)
def test_a_content_length_that_is_none(value: bytes) -> None:
    is_malformed((b"content-length", value))


@pytest.mark.parametrize("second", [b"5", b"6"])
def test_content_length_twice(second: bytes) -> None:
    is_malformed((b"content-length", b"5"), (b"content-length", second))


def test_priority_fields_are_one_list() -> None:
    assert head((b"priority", b"u=1")).priority == b"u=1"
    assert head((b"priority", b"u=1"), (b"priority", b"i")).priority == b"u=1,i"


# -- requests that are too large -----------------------------------------------------


def test_as_many_fields_as_are_taken() -> None:
    assert not head(*[(b"x", b"1")] * FIELDS).too_large


def test_one_field_more() -> None:
    large = head(*[(b"x", b"1")] * (FIELDS + 1))
    assert large.too_large
    assert large.fields == []


def list_size(fields: list[Field]) -> int:
    return sum(len(name) + len(value) + 32 for name, value in fields)


def test_the_largest_field_list() -> None:
    room = LIST_SIZE - list_size([*GET, (b"x", b"")])
    assert not head((b"x", b"y" * room)).too_large
    assert head((b"x", b"y" * (room + 1))).too_large


def test_pseudo_fields_count_as_well() -> None:
    assert head(base=replaced(b":path", b"/" * LIST_SIZE)).too_large


def test_what_else_is_wrong_with_a_large_request_does_not_matter() -> None:
    large = head((b"Bad Name", b"y" * LIST_SIZE), (b"content-length", b"x"))
    assert large.too_large
    assert (large.fields, large.content_length) == ([], None)


# -- trailers -------------------------------------------------------------------------


def trailers(*fields: Field) -> list[Field]:
    return trailer_fields(list(fields), LIST_SIZE, FIELDS)


def test_trailers() -> None:
    assert trailers((b"x-sum", b"1"), (b"y", b"")) == [(b"x-sum", b"1"), (b"y", b"")]


def test_trailers_that_mean_something_only_before_the_body_are_left_out() -> None:
    names = (b"host", b"content-length", b"trailer", b"authorization")
    kept = trailers(*((name, b"1") for name in names), (b"x", b"1"))
    assert kept == [(b"x", b"1")]
    assert trailers((b"te", b"trailers")) == []


@pytest.mark.parametrize(
    "field",
    [
        (b":path", b"/"),
        (b":status", b"200"),
        (b"X", b"1"),
        (b"x", b"a\nb"),
        (b"connection", b"close"),
        (b"te", b"gzip"),
    ],
)
def test_malformed_trailers(field: Field) -> None:
    with pytest.raises(MalformedFields):
        trailers((b"a", b"b"), field)


def test_trailers_have_the_limits_of_heads() -> None:
    assert len(trailers(*[(b"x", b"1")] * FIELDS)) == FIELDS
    with pytest.raises(MalformedFields):
        trailers(*[(b"x", b"1")] * (FIELDS + 1))
    room = LIST_SIZE - 33
    assert trailers((b"x", b"y" * room))
    with pytest.raises(MalformedFields):
        trailers((b"x", b"y" * (room + 1)))


# -- anything at all -------------------------------------------------------------------

texts = st.binary(max_size=8) | st.sampled_from([name for name, _ in GET] + [b"x", b"te"])


@given(st.lists(st.tuples(texts, texts), max_size=12))
def test_any_fields_are_a_request_or_malformed(fields: list[Field]) -> None:
    try:
        made = request_head([*GET, *fields], LIST_SIZE, 100)
    except MalformedFields:
        return
    assert made.fields == fields
    for name, value in made.fields:
        assert name == name.lower()
        assert not set(b"\r\n\x00") & {*name, *value}


@given(st.lists(st.tuples(texts, texts), max_size=12))
def test_any_fields_are_trailers_or_malformed(fields: list[Field]) -> None:
    try:
        made = trailer_fields(fields, LIST_SIZE, 100)
    except MalformedFields:
        return
    assert not any(name.startswith(b":") for name, _ in made)
