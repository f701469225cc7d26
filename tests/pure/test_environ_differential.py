"""The environ over HTTP/2 is the one that the installed Gunicorn gives over HTTP/1.1.

Random requests under random settings go both ways. Whatever Gunicorn refuses has to
be refused with the same error, and so answered with the same status. What may
differ is listed in `test_environ.py`, case by case; here is only

- SERVER_PROTOCOL;
- the objects of the environ, each request's own (`environs.OBJECTS`);
- Cookie, whose crumbs `Request.http1` joins as RFC 9113 section 8.2.3 says.
"""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Any, TypeVar

from gunicorn.http.errors import ParseException
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gunicorn_h2.fields import MalformedFields
from tests.support import gunicorn_version
from tests.support.environs import (
    SERVER,
    Field,
    Outcome,
    Request,
    Setup,
    over_http1,
    over_http2,
)

T = TypeVar("T")

#: A few names that mean something to Gunicorn, and few enough to come twice.
NAMES = [
    b"accept",
    b"content-type",
    b"content-length",
    b"content_length",
    b"content_type",
    b"cookie",
    b"expect",
    b"http-x",
    b"path_info",
    b"remote_user",
    b"script_name",
    b"script-name",
    b"te",
    b"x-forwarded-for",
    b"x_forwarded_for",
    b"x-forwarded-proto",
    b"x-forwarded-ssl",
    b"x_forwarded_proto",
    b"x-a",
    b"x_a",
]
VALUES = {
    b"content-length": [b"0", b"5", b"007", b"123456789012345678"],
    b"content-type": [b"text/plain", b"", b"a/b; charset=\xe9"],
    b"cookie": [b"a=1", b"b=2; c=3", b""],
    b"expect": [b"100-continue", b"100-Continue", b"200-ok"],
    b"script_name": [b"/app", b"/", b"", b"/other"],
    b"te": [b"trailers", b"Trailers"],
    b"x-forwarded-proto": [b"https", b"http", b"HTTPS", b"ftp"],
    b"x-forwarded-ssl": [b"on", b"off"],
}
TOKEN = (string.digits + string.ascii_lowercase + "!#$%&'*+-.^_`|~").encode()
TARGET = bytes(range(0x21, 0x7F)).replace(b"#", b"")
HOST = bytes(each for each in range(0x21, 0x7F) if each not in b"@/?#\\")

#: RFC 9113 section 8.2.1 leaves everything but NUL, CR and LF to us, and we to Gunicorn.
IN_VALUE = bytes(each for each in range(256) if each not in b"\0\r\n")


def octets(alphabet: bytes, max_size: int, min_size: int = 0) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=min_size, max_size=max_size).map(bytes)


def mostly(usual: st.SearchStrategy[T], odd: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """The odd one in five cases, so that requests are accepted often enough."""
    return st.sampled_from([usual] * 4 + [odd]).flatmap(lambda chosen: chosen)


names = st.sampled_from(NAMES) | octets(TOKEN, min_size=1, max_size=30)
text = st.sampled_from([b"", b"a", b"a, b", b"a  b", b"\xe9", b"\xc3\xa9", b'"x;y="'])
any_value = mostly(text, octets(IN_VALUE, max_size=40).map(lambda value: value.strip(b" \t")))
# RFC 9113 section 8.2.2 forbids these, whatever Gunicorn would say to them.
FORBIDDEN = {
    b"connection",
    b"proxy-connection",
    b"keep-alive",
    b"transfer-encoding",
    b"upgrade",
    b"host",
}


@st.composite
def a_field(draw: st.DrawFn) -> Field:
    name = draw(names.filter(lambda name: name not in FORBIDDEN))
    usual = VALUES.get(name)
    if name in (b"content-length", b"te") and usual:
        return name, draw(st.sampled_from(usual))
    return name, draw(st.sampled_from(usual) | any_value if usual else any_value)


def one_content_length(fields: list[Field]) -> tuple[Field, ...]:
    """A second one is malformed in HTTP/2; `test_environ.py` has it."""
    first: list[Field] = []
    for each in fields:
        if each[0] != b"content-length" or b"content-length" not in dict(first):
            first.append(each)
    return tuple(first)


usual_methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"VERSION-CONTROL"])
odd_methods = st.sampled_from([b"get", b"Get", b"options", b"connect", b"A", b"A#B"]) | octets(
    TOKEN + string.ascii_uppercase.encode(), min_size=1, max_size=25
)
methods = mostly(usual_methods, odd_methods)
paths = st.sampled_from(
    [
        b"/",
        b"//",
        b"//host/path",
        b"///",
        b"/app",
        b"/app/x?y=z",
        b"/application",
        b"/%2e%2e/..;/a?b?c",
        b"/caf%C3%A9/%ff/%zz/%",
        b"/a//b;c=d?e=%26&f=+",
        b"/?",
        b"/http://x/[1",
        b"//[1",
    ]
) | octets(TARGET, max_size=60).map(lambda rest: b"/" + rest)
hosts = (
    st.none()
    | st.sampled_from(
        [b"example.com", b"example.com:8443", b"[::1]", b"[::1]:80", b"", b"a:b:c", b":"]
    )
    | octets(HOST, max_size=20)
)
request_lines = st.tuples(methods, paths) | st.tuples(
    st.sampled_from([b"OPTIONS", b"options"]), st.just(b"*")
)
requests = st.builds(
    lambda line, **others: Request(*line, **others),
    line=request_lines.filter(lambda line: line[0] != b"CONNECT"),
    host=hosts,
    fields=st.lists(a_field(), max_size=12).map(one_content_length),
    scheme=st.sampled_from([b"http", b"https", b"gopher"]),
)

networks = ["10.0.0.0/8", "10.1.2.3,2001:db8::/32"] if gunicorn_version() >= (25, 3) else []
#: Each setting that has a say, with its default first.
SETTINGS: dict[str, list[Any]] = {
    "header_map": ["drop", "refuse", "dangerous"],
    "forwarder_headers": ["SCRIPT_NAME,PATH_INFO", "", "X_A,REMOTE_USER", "*"],
    "secure_scheme_headers": [
        {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
        {"X_FORWARDED_PROTO": "https"},
        {},
    ],
    "forwarded_allow_ips": ["127.0.0.1,::1", "*", "", "10.1.2.3,2001:db8::1", *networks],
    "limit_request_line": [4094, 0, 10, 30, 8190],
    "limit_request_fields": [100, 1, 3, 5],
    "limit_request_field_size": [8190, 0, 20, 40],
    "permit_unconventional_http_method": [False, True],
    "casefold_http_method": [False, True],
    "strip_header_spaces": [False, True],
    "permit_obsolete_folding": [False, True],
    "workers": [1, 2],
    "certfile": [None, "server.pem"],
    # Only of Gunicorn's own way to read bytes; the C parser has no part in HTTP/2.
    "http_parser": ["python"],
}
setups = st.builds(
    Setup,
    settings=st.fixed_dictionaries(
        {
            # The limits at their defaults, mostly: little is accepted with the others.
            name: st.sampled_from([values[0]] * len(values) + values)
            if name.startswith("limit_")
            else st.sampled_from(values)
            for name, values in SETTINGS.items()
        }
    ),
    script_name=st.sampled_from([None, "", "/app", "/"]),
    client=st.sampled_from(
        [
            ("127.0.0.1", 50000),
            ("10.1.2.3", 1),
            ("203.0.113.9", 65535),
            ("::1", 50000, 0, 0),
            ("2001:db8::1", 443, 0, 2),
            "",
            b"",
        ]
    ),
    server=st.sampled_from(
        [SERVER, ("0.0.0.0", 80), ("::1", 8000, 0, 0), "/run/gunicorn.sock", "/run/a:b"]
    ),
)


def same(ours: Outcome, gunicorns: Outcome) -> None:
    assert ours.without("SERVER_PROTOCOL") == gunicorns.without("SERVER_PROTOCOL")
    if ours.environ is not None:
        assert (ours["SERVER_PROTOCOL"], gunicorns["SERVER_PROTOCOL"]) == ("HTTP/2.0", "HTTP/1.1")


@settings(max_examples=600, deadline=None)
@given(requests, setups)
def test_a_well_formed_request_fares_as_over_http1(request: Request, setup: Setup) -> None:
    ours = over_http2(request, setup)
    event(f"{ours.error.__name__ if ours.error else 'accepted'}")
    same(ours, over_http1(request, setup))


@settings(max_examples=300, deadline=None)
@given(requests, st.sampled_from([b"example.com:81", b"", b"[::1]"]), setups)
def test_host_does_for_authority(request: Request, host: bytes, setup: Setup) -> None:
    """RFC 9113 section 8.3.1: a request that was HTTP/1.1 once may come with Host alone."""
    fields = [each for each in request.http2() if each[0] != b":authority"]
    same(
        over_http2([*fields, (b"host", host)], setup),
        over_http1(replace(request, host=host), setup),
    )


anything = st.binary(max_size=20)
pseudo = st.sampled_from([b":method", b":path", b":scheme", b":authority", b":status", b":"])
junk_names = mostly(names, pseudo | anything | st.sampled_from(sorted(FORBIDDEN)))
junk_fields = st.lists(st.tuples(junk_names, mostly(any_value, anything)), max_size=5)


@settings(max_examples=600, deadline=None)
@given(requests, junk_fields, st.lists(st.integers(0, 12), max_size=8), setups)
def test_nothing_is_accepted_that_http1_would_refuse(
    request: Request, junk: list[Field], places: list[int], setup: Setup
) -> None:
    """Also for fields that break RFC 9113: they are refused, or harmless over HTTP/1.1 too."""
    fields = request.http2()
    for each, place in zip(junk, places, strict=False):
        fields.insert(place, each)
    ours = over_http2(fields, setup)
    event(f"{ours.error.__name__ if ours.error else 'accepted'}")
    if ours.error is not None:
        assert issubclass(ours.error, (MalformedFields, ParseException))
        return
    accepted = dict(fields)
    same(
        ours,
        over_http1(
            Request(
                method=accepted[b":method"],
                path=accepted[b":path"],
                host=accepted.get(b":authority", accepted.get(b"host")),
                fields=tuple(each for each in fields if each[0][:1] != b":" and each[0] != b"host"),
            ),
            setup,
        ),
    )


@settings(max_examples=400, deadline=None)
@given(
    requests,
    st.sampled_from([b":method", b":path", b":authority"]),
    st.lists(st.sampled_from(b" \t/:@#?%*HTP1.x\\\r\n\0\xff"), max_size=8).map(bytes),
    setups,
)
def test_no_pseudo_field_smuggles_anything(
    request: Request, name: bytes, junk: bytes, setup: Setup
) -> None:
    """What stands in a request line or in Host over HTTP/1.1 cannot end it."""
    fields = [each if each[0] != name else (name, each[1] + junk) for each in request.http2()]
    ours = over_http2(fields, setup)
    if ours.error is not None:
        return
    values = dict(fields)
    assert ours["RAW_URI"].encode("latin-1") == values[b":path"]
    method = values[b":method"].decode("latin-1")
    casefold = setup.settings["casefold_http_method"]
    assert ours["REQUEST_METHOD"] == (method.upper() if casefold else method)
    assert ours.environ is not None
    host = ours.environ.get("HTTP_HOST")
    assert (host is None) == (b":authority" not in values)
    assert host is None or host.encode("latin-1") == values[b":authority"]
