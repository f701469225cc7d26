"""Header blocks: what is decoded, what is well-formed, and what a request head says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.fields import (
    MalformedFields,
    RequestHead,
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


# -- requests -----------------------------------------------------------------------


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
