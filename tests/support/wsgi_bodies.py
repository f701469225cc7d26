"""Cases of `wsgi_apps`: bodies of any size, sent and read in every style."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from .wsgi_cases import case, gates

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: A line, longer than some buffers, whose length divides no frame. The lines are few,
#: because Gunicorn's own `readlines` takes time by their square.
BLOCK = bytes(range(11, 256)) * 37 + b"end of line\n"
#: Of a part of a response: neither a frame nor a block.
PART = 10_007


def payload(size: int) -> bytes:
    """The body of that size, the same in both directions."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def _parts(body: bytes) -> list[bytes]:
    return [body[start : start + PART] for start in range(0, len(body), PART)]


def _as_write(body: bytes, write: Callable[[bytes], object], environ: Any) -> Any:
    for part in _parts(body):
        write(part)
    return []


#: How to send: (body, write, environ) -> what is returned to the server.
SENDS: dict[str, Callable[[bytes, Callable[[bytes], object], Any], Any]] = {
    "list": lambda body, write, environ: [body],
    "list of parts": lambda body, write, environ: _parts(body),
    "generator": lambda body, write, environ: (part for part in _parts(body)),
    "write": _as_write,
    "file_wrapper": lambda body, write, environ: environ["wsgi.file_wrapper"](io.BytesIO(body)),
}


def _lines(body: Any) -> Iterator[bytes]:
    while line := body.readline():
        yield line


def _pieces(body: Any) -> Iterator[bytes]:
    while piece := body.read(65_536):
        yield piece


#: How to read.
READS: dict[str, Callable[[Any], Iterator[bytes]]] = {
    "read": lambda body: iter([body.read()]),
    "read(65536)": _pieces,
    "readline": _lines,
    "readlines": lambda body: iter(body.readlines()),
    "iteration": iter,
}


@case
def _download(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    query = parse_qs(environ["QUERY_STRING"])
    body = payload(int(query["size"][0]))
    headers = [("Content-Type", "application/octet-stream")]
    if "sized" in query:
        headers.append(("Content-Length", str(len(body))))
    write = start_response("200 OK", headers)
    return SENDS[query["style"][0]](body, write, environ)


@case
def _upload(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    query = parse_qs(environ["QUERY_STRING"])
    digest, size = hashlib.sha256(), 0
    for piece in READS[query["style"][0]](environ["wsgi.input"]):
        digest.update(piece)
        size += len(piece)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{size} {digest.hexdigest()} {environ.get('CONTENT_LENGTH')}".encode()]


@case
def _echo_parts(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return _pieces(environ["wsgi.input"])


@case
def _late_end(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Sends everything, and returns once `/open` was asked for with its tag."""
    size = environ["HTTP_X_SIZE"]
    announced = [("Content-Length", size)] if "HTTP_X_SIZED" in environ else []
    start_response("200 OK", [("Content-Type", "application/octet-stream"), *announced])
    yield payload(int(size))
    gates[environ["QUERY_STRING"]].wait(30)
