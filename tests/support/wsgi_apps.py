"""The WSGI application of `test_wsgi.py` and its like: every way to answer, right or wrong.

One path, one behaviour; `CASES` names them. The query string is the request's tag, and part
of every exception's text. For the tag in X-Tag, `/called` tells how often the application
was called, and `/closed` how often the iterables that it returned have been closed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.validate import validator

from . import wsgi_bodies as wsgi_bodies
from . import wsgi_faults as wsgi_faults
from . import wsgi_good as wsgi_good
from .wsgi_cases import BODY, CASES, PARTS, SECRET, TEXT, called, case, closed, gates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    called[environ["QUERY_STRING"]] += 1
    return CASES[environ["PATH_INFO"].strip("/")](environ, start_response)


# -- what the tests ask for ---------------------------------------------------------------


@case
def _closed(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return [str(closed[environ["HTTP_X_TAG"]]).encode()]


@case
def _called(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return [str(called[environ["HTTP_X_TAG"]]).encode()]


@case
def _wait(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answers once `/open` was asked for with its tag."""
    gates[environ["QUERY_STRING"]].wait(30)
    start_response("200 OK", [TEXT])
    return [b"waited"]


@case
def _open(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    gates[environ["HTTP_X_TAG"]].set()
    start_response("200 OK", [TEXT])
    return [b"opened"]


# -- wsgi.input ---------------------------------------------------------------


def _until_empty(read: Callable[[], bytes]) -> list[bytes]:
    return list(iter(read, b""))


#: How to read: the same results, whatever the protocol.
READS: dict[str, Callable[[Any], list[bytes]]] = {
    "read": lambda body: [body.read(), body.read()],
    "read(-1)": lambda body: [body.read(-1), body.read(-1)],
    "read(None)": lambda body: [body.read(None)],
    "read(0)": lambda body: [body.read(0), body.read()],
    "read(7)": lambda body: _until_empty(lambda: body.read(7)),
    "read(beyond)": lambda body: [body.read(1 << 20), body.read(1 << 20)],
    "readline": lambda body: _until_empty(body.readline),
    "readline(5)": lambda body: _until_empty(lambda: body.readline(5)),
    "readline(-1)": lambda body: _until_empty(lambda: body.readline(-1)),
    "readline(0)": lambda body: [body.readline(0), body.readline()],
    "readlines": lambda body: body.readlines(),
    "readlines(1 << 20)": lambda body: body.readlines(1 << 20),
    "iteration": lambda body: list(body),
    "mixed": lambda body: [
        body.readline(),
        body.read(3),
        next(body),
        body.readline(2),
        body.read(),
    ],
}


@case
def _read(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    pieces = READS[environ["HTTP_X_WHICH"]](environ["wsgi.input"])
    body = json.dumps([piece.decode("latin-1") for piece in pieces]).encode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [body]


@case
def _count(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """The body's size, read to the end that wsgi.input_terminated promises."""
    assert environ["wsgi.input_terminated"] is True
    start_response("200 OK", [TEXT])
    return [str(len(environ["wsgi.input"].read())).encode()]


@case
def _read_after_write(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    return [environ["wsgi.input"].read()]


@case
def _ignore(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Answers without having read."""
    start_response("200 OK", [TEXT])
    return [BODY]


# -- others' ---------------------------------------------------------------


def _valid(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    size = parse_qs(environ["QUERY_STRING"]).get("size", ["-1"])[0]
    body = environ["wsgi.input"].read(int(size))
    line = environ["wsgi.input"].readline()
    environ["wsgi.errors"].flush()
    answer = body + line or BODY
    start_response("200 OK", [TEXT, ("Content-Length", str(len(answer)))])
    return [answer]


CASES["valid"] = validator(_valid)


@case
def _early_hints(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    hints = environ["wsgi.early_hints"]
    hints([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
    hints([(b"Link", b"</c.css>; rel=preload")])
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    hints([("Link", "</late.css>; rel=preload")])
    return PARTS[1:]


@case
def _bad_early_hints(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    environ["wsgi.early_hints"]([("Link", f"{SECRET}\r\nX-Injected: 1")])
    return []
