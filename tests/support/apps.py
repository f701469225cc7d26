"""The WSGI application that the tests serve: one callable, one behaviour a path.

=============================  ==================================================
/hello                         13 bytes of text/plain with Content-Length
/environ                       the environ as JSON, objects as their str()
/echo                          the request's body and content type
/read?size=65536&delay=0       reads the body in pieces, slowly; count and sha256
/sleep?s=0.5                   answers after so many seconds
/stream?n=3&size=5&delay=0     generator of n pieces, no Content-Length
/large?n=1048576&cl=0          generator of 64 KiB blocks; cl=1: with length
/write?n=3&size=5              n pieces through the write() callable
/file?n=1048576&cl=0           n bytes through wsgi.file_wrapper
/status?code=404               that status
/headers?name=value&...        those response headers, unchecked
/raise                         raises before start_response
/raise-after                   raises after it, before the body
/raise-mid                     raises after the first piece of the body
/no-start                      returns a body, never calls start_response
/pid                           the worker's pid
/threads                       the names of the worker's threads, as JSON
/calls                         calls to the application in this worker, this one too
=============================  ==================================================
"""

from __future__ import annotations

import hashlib
import http
import itertools
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HELLO = b"Hello, world!"

#: What /large and /file repeat.
BLOCK = bytes(range(256)) * 256

_calls = itertools.count(1)


class ApplicationError(Exception):
    """What the raising paths raise."""


class Query:
    """The parameters of a request, with defaults."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._values = parse_qs(environ.get("QUERY_STRING", ""))

    def integer(self, name: str, default: int) -> int:
        return int(self._values.get(name, [default])[0])

    def seconds(self, name: str, default: float) -> float:
        return float(self._values.get(name, [default])[0])


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["tests.call"] = next(_calls)
    handler = HANDLERS.get(environ.get("PATH_INFO", ""), not_found)
    return handler(environ, start_response)


def repeated(size: int) -> Iterator[bytes]:
    """Yield `size` bytes in blocks of 64 KiB: the body of /large and /file."""
    for _ in range(size // len(BLOCK)):
        yield BLOCK
    if size % len(BLOCK):
        yield BLOCK[: size % len(BLOCK)]


def piece(size: int, number: int) -> bytes:
    """Return piece `number` of the body of /stream and /write."""
    return bytes([ord("a") + number % 26]) * size


def reply(
    start_response: StartResponse,
    body: bytes,
    content_type: str = "text/plain",
    status: str = "200 OK",
) -> list[bytes]:
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def reply_json(start_response: StartResponse, value: object) -> list[bytes]:
    return reply(start_response, json.dumps(value).encode(), "application/json")


def not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, b"not found", status="404 Not Found")


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, HELLO)


def show_environ(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    plain = (str, int, float, bool, tuple, list, type(None))
    shown = {
        key: value if isinstance(value, plain) else str(value) for key, value in environ.items()
    }
    return reply(start_response, json.dumps(shown, default=str).encode(), "application/json")


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read()
    return reply(start_response, body, environ.get("CONTENT_TYPE") or "application/octet-stream")


def read_slowly(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = Query(environ)
    size, delay = query.integer("size", 65536), query.seconds("delay", 0)
    digest, count, reads = hashlib.sha256(), 0, 0
    while data := environ["wsgi.input"].read(size):
        digest.update(data)
        count += len(data)
        reads += 1
        time.sleep(delay)
    return reply_json(
        start_response, {"count": count, "reads": reads, "sha256": digest.hexdigest()}
    )


def sleep(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    time.sleep(Query(environ).seconds("s", 0.5))
    return reply(start_response, b"slept")


def stream(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = Query(environ)
    size, delay = query.integer("size", 5), query.seconds("delay", 0)
    start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(query.integer("n", 3)):
        if number:
            time.sleep(delay)
        yield piece(size, number)


def large(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return repeated(start_sized(environ, start_response))


def write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = Query(environ)
    send = start_response("200 OK", [("Content-Type", "text/plain")])
    for number in range(query.integer("n", 3)):
        send(piece(query.integer("size", 5), number))
    return []


def file(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    contents = tempfile.TemporaryFile()  # noqa: SIM115  (the wrapper's close() closes it)
    contents.writelines(repeated(start_sized(environ, start_response)))
    contents.seek(0)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](contents)
    return wrapped


def start_sized(environ: WSGIEnvironment, start_response: StartResponse) -> int:
    """Start a response of `n` bytes, announced if `cl` says so."""
    query = Query(environ)
    size = query.integer("n", 1 << 20)
    headers = [("Content-Type", "application/octet-stream")]
    if query.integer("cl", 0):
        headers.append(("Content-Length", str(size)))
    start_response("200 OK", headers)
    return size


def status(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    code = Query(environ).integer("code", 200)
    phrases = {int(each): each.phrase for each in http.HTTPStatus}
    line = f"{code} {phrases.get(code, 'Unknown')}"
    if code in (204, 304):
        start_response(line, [])
        return []
    return reply(start_response, line.encode(), status=line)


def headers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    pairs = parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True, encoding="latin-1")
    start_response("200 OK", pairs)
    return [b"headers"]


def raise_before(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    raise ApplicationError("before start_response")


def raise_after(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    raise ApplicationError("after start_response")


def raise_mid(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first piece"
    raise ApplicationError("after the first piece")


def no_start(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return [b"never started"]


def pid(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, str(os.getpid()).encode())


def threads(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply_json(start_response, [thread.name for thread in threading.enumerate()])


def calls(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, str(environ["tests.call"]).encode())


HANDLERS: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/hello": hello,
    "/environ": show_environ,
    "/echo": echo,
    "/read": read_slowly,
    "/sleep": sleep,
    "/stream": stream,
    "/large": large,
    "/write": write,
    "/file": file,
    "/status": status,
    "/headers": headers,
    "/raise": raise_before,
    "/raise-after": raise_after,
    "/raise-mid": raise_mid,
    "/no-start": no_start,
    "/pid": pid,
    "/threads": threads,
    "/calls": calls,
}
