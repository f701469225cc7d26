"""Rows 23 to 28: requests that are malformed, lie about themselves, or ask for what is not there.

Each costs its sender the stream, and nobody else anything: a sibling, begun before, is
served after.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.conftest import Serve
from tests.support.frames import RawClient, Response
from tests.support.http1 import Http1Client
from tests.support.http1 import request as http1_request
from tests.support.rawconn import FieldInput
from tests.support.server import Server
from tests.support.wire import ErrorCode

from .watch import Watch


@pytest.fixture
def tls() -> bool:
    """Cleartext: what frames mean does not depend on what carries them."""
    return False


@contextmanager
def beside_a_sibling(watch: Watch) -> Iterator[RawClient]:
    """A connection whose stream 1 must be well whatever happens on the others."""
    watch.expects_warnings = True
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        yield client
        client.data(1, b"sibling", end_stream=True)
        assert client.response(1).body == b"sibling"


def want_refused(response: Response, *statuses: int) -> None:
    """See one of these answers (400 unless told), or RST_STREAM(PROTOCOL_ERROR)."""
    if response.status:
        assert response.status in (statuses or (400,)), response
    else:
        assert response.reset_code == ErrorCode.PROTOCOL_ERROR, response


# -- Content-Length ------------------------------------------------------------------------------

#: Its values, the body sent, and whether trailers end it.
LENGTHS: dict[str, tuple[list[str], bytes | None, bool]] = {
    "too long": (["10"], b"12345", False),
    "too long, with trailers": (["10"], b"12345", True),
    "too long, without a body": (["10"], None, False),
    "too short": (["3"], b"12345", False),
    "too short, with trailers": (["3"], b"12345", True),
    "twice": (["5", "5"], b"12345", False),
    "twice, unlike": (["5", "6"], b"12345", False),
    "a list": (["5, 5"], b"12345", False),
    "with a sign": (["+5"], b"12345", False),
    "with a space": ([" 5"], b"12345", False),
    "negative": (["-5"], b"12345", False),
    "empty": ([""], b"12345", False),
    "hexadecimal": (["0x5"], b"12345", False),
    "of many digits": (["5" * 5_000], b"12345", False),
}


@pytest.mark.parametrize("kind", LENGTHS)
def test_row_23_content_length(watch: Watch, kind: str) -> None:
    """`/echo` would answer with what it takes for the whole body."""
    lengths, body, trailers = LENGTHS[kind]
    extra: list[FieldInput] = [("content-length", length) for length in lengths]
    with beside_a_sibling(watch) as client:
        client.headers(3, method="POST", path="/echo", extra=extra, end_stream=body is None)
        if body is not None:
            client.data(3, body, end_stream=not trailers)
        if trailers:
            client.headers(3, [("x-trailer", "1")])
        want_refused(client.response(3))


# -- field names and values -----------------------------------------------------------------------

FIELDS: dict[str, FieldInput] = {
    **{
        f"{which} in a {part}": ("x-a" + text, "1") if part == "name" else ("x-a", f"1{text}2")
        for which, text in {"CR": "\r", "LF": "\n", "NUL": "\0", "CR LF": "\r\nx-b: 1"}.items()
        for part in ("name", "value")
    },
    "a space in a name": ("x a", "1"),
    "a space before a name": (" x-a", "1"),
    "a space after a name": ("x-a ", "1"),
    "a space before a value": ("x-a", " 1"),
    "a space after a value": ("x-a", "1 "),
    "a tab after a value": ("x-a", "1\t"),
    "an empty name": ("", "1"),
    "a colon in a name": ("x:a", "1"),
    "uppercase": ("X-A", "1"),
    "beyond ASCII in a name": (b"x-\xe9", "1"),
    "Connection": ("connection", "close"),
    "Keep-Alive": ("keep-alive", "5"),
    "Proxy-Connection": ("proxy-connection", "close"),
    "Transfer-Encoding": ("transfer-encoding", "chunked"),
    "Upgrade": ("upgrade", "h2c"),
    "TE other than trailers": ("te", "gzip"),
    "an unknown pseudo-header": (":x", "1"),
    "a pseudo-header after the fields": (":path", "/x"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_row_24_fields(watch: Watch, kind: str) -> None:
    with beside_a_sibling(watch) as client:
        want_refused(client.request(path="/hello", extra=[("x-first", "1"), FIELDS[kind]]))


UNDERSCORES: list[tuple[str, str]] = [
    ("content_length", "5"),
    ("x_forwarded_for", "192.0.2.1"),
    ("x_forwarded_proto", "https"),
    ("remote_user", "root"),
    ("script_name", "/a"),
    ("path_info", "/b"),
]
FORWARDED: list[tuple[str, str]] = [
    ("x-forwarded-proto", "https"),
    ("x-forwarded-ssl", "on"),
    ("x-forwarded-for", "192.0.2.1"),
    ("forwarded", "proto=https"),
]
#: Of the connection, not of the request.
VARYING = {"REMOTE_PORT", "SERVER_PORT", "SERVER_PROTOCOL"}


@pytest.mark.parametrize("allowed", ["127.0.0.1", "192.0.2.1"], ids=["trusted", "untrusted"])
@pytest.mark.parametrize("header_map", ["drop", "refuse", "dangerous"])
def test_row_25_who_is_believed(serve: Serve, header_map: str, allowed: str) -> None:
    """What Gunicorn's gthread makes of the same request over HTTP/1.1, under the same settings."""
    args = ["--header-map", header_map, "--forwarded-allow-ips", allowed]
    ours = serve("tests.support.facts:app", args=args)
    gthread = serve("tests.support.facts:app", args=args, worker_class="gthread", threads=2)
    for fields in (UNDERSCORES, FORWARDED, [*UNDERSCORES, *FORWARDED]):
        for script in ("/a/b", "/c"):
            assert over_http2(ours, script, fields) == over_http1(gthread, script, fields)


Seen = tuple[int, dict[str, object]]


def over_http2(server: Server, path: str, fields: Sequence[tuple[str, str]]) -> Seen:
    with RawClient(server).greet() as client:
        response = client.request(path=path, extra=fields)
    return seen(response.status, response.body)


def over_http1(server: Server, path: str, fields: Sequence[tuple[str, str]]) -> Seen:
    with Http1Client(server) as client:
        client.send(http1_request(path, *(f"{name}: {value}" for name, value in fields)))
        response = client.response()
    return seen(response.status, response.body)


def seen(status: int, body: bytes) -> Seen:
    if status != 200:
        return status, {}
    environ = json.loads(body)["environ"]
    ours = ("gunicorn_h2.", "wsgi.ext.", "gunicorn.http2.")
    return status, {
        key: value
        for key, value in environ.items()
        if key not in VARYING and not key.startswith(ours)
    }


# -- pseudo-headers ------------------------------------------------------------


def fields(**pseudo: str | None) -> list[FieldInput]:
    """A request's, with other pseudo-headers; None leaves one out."""
    usual = {"method": "GET", "scheme": "http", "authority": "localhost", "path": "/hello"}
    both = {**usual, **pseudo}
    return [(f":{name}", value) for name, value in both.items() if value is not None]


HOSTS: dict[str, list[FieldInput]] = {
    "two Hosts": [*fields(authority=None), ("host", "a"), ("host", "b")],
    "the same Host twice": [*fields(authority=None), ("host", "a"), ("host", "a")],
    "Host unlike :authority": [*fields(), ("host", "other")],
    "userinfo": fields(authority="user@localhost"),
    "a path in it": fields(authority="localhost/x"),
    "a space in it": fields(authority="local host"),
    ":authority twice": [*fields(), (":authority", "localhost")],
}


@pytest.mark.parametrize("kind", HOSTS)
def test_row_26_hosts(watch: Watch, kind: str) -> None:
    with beside_a_sibling(watch) as client:
        client.headers(3, HOSTS[kind])
        want_refused(client.response(3))


def test_row_26_host_stands_in_for_authority(watch: Watch) -> None:
    with beside_a_sibling(watch) as client:
        client.headers(3, [*fields(authority=None, path="/environ"), ("host", "example.org:81")])
        assert json.loads(client.response(3).body)["HTTP_HOST"] == "example.org:81"


PATHS = [None, "", "*", "http://localhost/hello", "/a#b", "/a b", "/a\x80", "hello", "?a", "\\a"]


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_row_27_paths(watch: Watch, path: str | None) -> None:
    with beside_a_sibling(watch) as client:
        client.headers(3, fields(path=path))
        want_refused(client.response(3))


def test_row_27_paths_that_are_the_applications_business(watch: Watch) -> None:
    with beside_a_sibling(watch) as client:
        client.headers(3, fields(method="OPTIONS", path="*"))
        assert client.response(3).body == b"not found"
        client.headers(5, fields(path="/wsgi/../environ"))
        # `..` was not resolved on the way to it.
        assert client.response(5).status == 500
    watch.expects_tracebacks = True


KINDS: dict[str, list[FieldInput]] = {
    "no method": fields(method=None),
    "an empty method": fields(method=""),
    "a method with a space": fields(method="GET /"),
    "a method with a line break": fields(method="GET\r\n"),
    "a method with a brace": fields(method="G{T"),
    "no scheme": fields(scheme=None),
    "an empty scheme": fields(scheme=""),
    "CONNECT": fields(method="CONNECT", scheme=None, path=None),
    "CONNECT with a path": fields(method="CONNECT"),
    ":protocol": [*fields(method="CONNECT"), (":protocol", "websocket")],
    ":protocol of a GET": [*fields(), (":protocol", "websocket")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_row_28_methods_and_schemes(watch: Watch, kind: str) -> None:
    with beside_a_sibling(watch) as client:
        client.headers(3, KINDS[kind])
        want_refused(client.response(3), 400, 501)


@pytest.mark.parametrize("scheme", ["http", "https", "ftp"])
def test_row_28_a_bare_scheme_is_not_believed(watch: Watch, scheme: str) -> None:
    """`wsgi.url_scheme` is that of the transport; an unknown one may also be refused."""
    with beside_a_sibling(watch) as client:
        client.headers(3, fields(scheme=scheme, path="/environ"))
        response = client.response(3)
        if response.status == 200:
            told = json.loads(response.body)["wsgi.url_scheme"]
            assert told == ("https" if watch.server.tls else "http")
        else:
            want_refused(response)
            assert scheme == "ftp"
