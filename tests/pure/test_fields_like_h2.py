"""Whatever h2 would refuse in a request's fields, fields.py refuses too.

h2's own validation is switched off, because it takes the connection where a stream is
enough. The same fields are shown here to an `H2Connection` that validates.
"""

from __future__ import annotations

import hpack
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gunicorn_h2.fields import MalformedFields, request_head, trailer_fields
from gunicorn_h2.stream import Field
from tests.support.wire import PREFACE, headers_frames, settings_frame

GET = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.test"), (b":path", b"/")]

#: What is wrong, or is not, about a field: name and value.
ODD_FIELDS: list[Field] = [
    (b"", b"x"),
    *((name, b"x") for name in (b"Upper", b"a b", b" a", b"a ", b"a\x00", b"a\r", b"a\n", b"\xff")),
    *((name, b"x") for name in (b"a:", b":", b":x", b":status", b":protocol", b":Path", b'"')),
    *((b"x", value) for value in (b"", b" ", b" a", b"a ", b"a\t", b"\ta", b"a\x00b", b"a\rb")),
    *((b"x", value) for value in (b"a\nb", b"a\r\nb: c", b"\x01", b"\x7f", b"\x80\xff")),
    *((name, b"x") for name in (b"connection", b"proxy-connection", b"keep-alive", b"upgrade")),
    (b"transfer-encoding", b"chunked"),
    *((b"te", value) for value in (b"trailers", b"Trailers", b"gzip", b"trailers, gzip", b"")),
    *((b"content-length", value) for value in (b"5", b"-1", b"+5", b"5,5", b"", b"\xb2", b"x")),
    *((b"host", value) for value in (b"a.test", b"b.test", b"")),
    *GET,
    (b":method", b""),
    (b":scheme", b""),
    (b":path", b""),
    (b":authority", b""),
    (b":method", b"CONNECT"),
    (b":method", b"OPTIONS"),
    (b":path", b"*"),
]


def h2_refuses(fields: list[Field], trailers: bool = False) -> bool:
    """What h2 says when it validates."""
    connection = H2Connection(H2Configuration(client_side=False, header_encoding=None))
    connection.initiate_connection()
    encoder = hpack.Encoder()
    data = PREFACE + settings_frame()
    if trailers:
        data += headers_frames(1, encoder.encode(GET), end_stream=False)
    data += headers_frames(1, encoder.encode(fields), end_stream=True)
    try:
        connection.receive_data(data)
    except ProtocolError:
        return True
    return False


def we_refuse(fields: list[Field], trailers: bool = False) -> bool:
    """What we say, here or a step later."""
    try:
        if trailers:
            # What has no place in trailers is kept from the application, whatever it says.
            return trailer_fields(fields, 65_536, 100) != fields
        head = request_head(fields, 65_536, 100)
        # Gunicorn's rules, which answer with 400: see environ.py.
        hosts = [value for name, value in fields if name == b"host"]
        unlike = head.authority is not None and any(host != head.authority for host in hosts)
        # RFC 9113 asks for no authority at all, and Gunicorn leaves it to the application.
        nowhere = head.authority is None and not hosts
        return nowhere or unlike or head.path == b"" or head.authority == b"" or len(hosts) > 1
    except MalformedFields:
        return True
    return False


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=repr)
@pytest.mark.parametrize("where", ["first", "instead", "last", "alone"])
def test_an_odd_field(odd: Field, where: str) -> None:
    fields = {
        "first": [odd, *GET],
        "instead": [odd if name == odd[0] else (name, value) for name, value in GET],
        "last": [*GET, odd],
        "alone": [odd],
    }[where]
    assert we_refuse(fields) or not h2_refuses(fields)


@pytest.mark.parametrize("odd", ODD_FIELDS, ids=repr)
def test_an_odd_trailer(odd: Field) -> None:
    assert we_refuse([odd], trailers=True) or not h2_refuses([odd], trailers=True)


@settings(max_examples=400, deadline=None)
@example(fields=[(b"host", b"a.test"), *GET])
@example(fields=[field for field in GET if field[0] != b":authority"])
@given(
    fields=st.lists(st.sampled_from(ODD_FIELDS + GET * 6), max_size=8)
    | st.permutations(GET).flatmap(
        lambda head: st.sampled_from(ODD_FIELDS).map(lambda odd: [*head, odd])
    )
)
def test_any_fields(fields: list[Field]) -> None:
    assert we_refuse(fields) or not h2_refuses(fields)


def test_both_take_what_is_right() -> None:
    assert not we_refuse(GET) and not h2_refuses(GET)
