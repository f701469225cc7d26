"""To the same bytes, the worker answers the very bytes that Gunicorn's gthread answers.

Both servers run side by side; nothing but the Date may differ.
"""

from __future__ import annotations

import re

import pytest

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.http1 import Http1Client
from tests.support.server import Server


@pytest.fixture(scope="module")
def both(module_serve: Serve) -> tuple[Server, Server]:
    """Our worker and gthread, with low limits and a short keep-alive."""
    args = ["--limit-request-line", "200", "--limit-request-fields", "5"]
    args += ["--limit-request-field_size", "100", "--keep-alive", "1"]
    return module_serve(args=args), module_serve(args=args, worker_class="gthread", threads=4)


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


GET = "GET /hello HTTP/1.1"
POST = "POST /echo HTTP/1.1"
CLOSE = "Connection: close"
CHUNKED = "Transfer-Encoding: chunked"

EXCHANGES: dict[str, bytes] = {
    "good": head(GET, "Host: a", CLOSE),
    "not found": head("GET /nothing HTTP/1.1", "Host: a", CLOSE),
    "no host": head(GET, CLOSE),
    "two hosts": head(GET, "Host: a", "Host: b", CLOSE),
    "lower-case method": head("get /hello HTTP/1.1", "Host: a"),
    "short method": head("GE /hello HTTP/1.1", "Host: a"),
    "long method": head("G" * 30 + " /hello HTTP/1.1", "Host: a"),
    "method with junk": head("GE\x00T /hello HTTP/1.1", "Host: a"),
    "options *": head("OPTIONS * HTTP/1.1", "Host: a", CLOSE),
    "get *": head("GET * HTTP/1.1", "Host: a"),
    "connect": head("CONNECT a:1 HTTP/1.1", "Host: a"),
    "absolute": head("GET http://a/hello HTTP/1.1", "Host: a", CLOSE),
    "fragment": head("GET /hello#x HTTP/1.1", "Host: a", CLOSE),
    "percent": head("GET /%68ello HTTP/1.1", "Host: a", CLOSE),
    "8-bit target": head("GET /h\xe9llo HTTP/1.1", "Host: a", CLOSE),
    "space in target": head("GET /hel lo HTTP/1.1", "Host: a"),
    "no target": head("GET HTTP/1.1", "Host: a"),
    "one word": head("GET", "Host: a"),
    "garbage": head("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "no version": head("GET /hello", "Host: a"),
    "http/0.9": head("GET /hello HTTP/0.9", "Host: a"),
    "http/1.2": head("GET /hello HTTP/1.2", "Host: a", CLOSE),
    "http/2.0": head("GET /hello HTTP/2.0", "Host: a"),
    "http/11": head("GET /hello HTTP/11", "Host: a"),
    "tab in the line": head("GET\t/hello HTTP/1.1", "Host: a"),
    "empty line first": b"\r\n" + head(GET, "Host: a", CLOSE),
    "empty lines first": b"\r\n\r\n" + head(GET, "Host: a", CLOSE),
    "line at the limit": head("GET /" + "x" * 186 + " HTTP/1.1", "Host: a", CLOSE),
    "line too long": head("GET /" + "x" * 187 + " HTTP/1.1", "Host: a", CLOSE),
    "line without end": b"GET /" + b"x" * 500,
    "fields at the limit": head(GET, "Host: a", CLOSE, "X-A: 1", "X-B: 1", "X-C: 1"),
    "too many fields": head(GET, "Host: a", CLOSE, *["X-A: 1"] * 4),
    "field too long": head(GET, "Host: a", "X-A: " + "x" * 100),
    "fields without end": b"GET /hello HTTP/1.1\r\n" + b"X-A: 1\r\n" * 2000,
    "no colon": head(GET, "Host a"),
    "space before the colon": head(GET, "Host : a"),
    "no name": head(GET, ": a"),
    "name with junk": head(GET, "Ho(st: a"),
    "name with underscore": head(GET, "X_A: 1", "Host: a", CLOSE),
    "folded": head(GET, "Host: a", " b"),
    "value with NUL": head(GET, "Host: a\x00b"),
    "value with CR": head(GET, "Host: a\rb"),
    "8-bit value": head(GET, "Host: a", "X-A: \xe9", CLOSE),
    "bare LF": head(GET, "Host: a", CLOSE).replace(b"\r\n", b"\n"),
    "bare LF in the head": b"GET /hello HTTP/1.1\r\nHost: a\nX: b\r\n",
    "expect what": head(GET, "Host: a", "Expect: much"),
    "body": head(POST, "Host: a", "Content-Length: 4", CLOSE) + b"body",
    "length +4": head(POST, "Host: a", "Content-Length: +4", CLOSE) + b"body",
    "length -1": head(POST, "Host: a", "Content-Length: -1", CLOSE) + b"body",
    "length four": head(POST, "Host: a", "Content-Length: four", CLOSE) + b"body",
    "two lengths": head(POST, "Host: a", *["Content-Length: 4"] * 2) + b"body",
    "length list": head(POST, "Host: a", "Content-Length: 4, 4") + b"body",
    "length and chunked": head(POST, "Host: a", "Content-Length: 4", CHUNKED) + b"0\r\n\r\n",
    "gzip": head(POST, "Host: a", "Transfer-Encoding: gzip") + b"body",
    "gzip, chunked": head(POST, "Host: a", "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
    "chunked twice": head(POST, "Host: a", CHUNKED, CHUNKED) + b"0\r\n\r\n",
    "unknown coding": head(POST, "Host: a", "Transfer-Encoding: x") + b"body",
    "chunked in 1.0": head("POST /echo HTTP/1.0", CHUNKED) + b"0\r\n\r\n",
    "chunks": head(POST, "Host: a", CHUNKED, CLOSE) + b"3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n",
    "chunk size": head(POST, "Host: a", CHUNKED) + b"zz\r\nabc\r\n0\r\n\r\n",
    "chunk -1": head(POST, "Host: a", CHUNKED) + b"-1\r\nabc\r\n0\r\n\r\n",
    "chunk end": head(POST, "Host: a", CHUNKED) + b"3\r\nabcdef\r\n0\r\n\r\n",
    "chunk line": head(POST, "Host: a", CHUNKED) + b"3" * 300,
    "trailer": head(POST, "Host: a", CHUNKED) + b"0\r\nX Y: 1\r\n\r\n",
    "application error": head("GET /raise HTTP/1.1", "Host: a"),
    "error after start": head("GET /raise-after HTTP/1.1", "Host: a"),
    "error in the body": head("GET /raise-mid HTTP/1.1", "Host: a"),
    "no start_response": head("GET /no-start HTTP/1.1", "Host: a"),
    "bad response header": head("GET /headers?a=b%0D%0Ac:d HTTP/1.1", "Host: a"),
    "bad response name": head("GET /headers?a%20b=c HTTP/1.1", "Host: a"),
}


#: Where the gthread of an older Gunicorn hangs, closes without an answer, or takes
#: the application's fault for the client's.
BETTER_THAN_BEFORE_27 = {
    *("bare LF", "bare LF in the head", "chunk size", "chunk -1", "chunk end"),
    *("bad response header", "bad response name"),
}


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_very_bytes_of_gthread(name: str, both: tuple[Server, Server]) -> None:
    if name == "chunk line" and gunicorn_version() < (27,):
        pytest.skip("this Gunicorn waits for the end of the line")
    if name in BETTER_THAN_BEFORE_27 and gunicorn_version() < (27,):
        both = (both[0], both[0])
    clients = [Http1Client(server) for server in both]
    try:
        for client in clients:
            client.send(EXCHANGES[name])
        ours, theirs = (undated(client.read_to_end()) for client in clients)
    finally:
        for client in clients:
            client.close()
    assert ours == theirs


def undated(answer: bytes) -> bytes:
    return re.sub(rb"\r\nDate: [^\r]*", b"\r\nDate: now", answer)
