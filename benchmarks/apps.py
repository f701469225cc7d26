"""The application that every server under measurement runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

_HELLO = b"Hello, world!"
_MEGABYTE = bytes(1_048_576)
_KILOBYTE = bytes(1_024)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """/hello, /sleep?s=, /1mb, /100mb, /generator (100 x 1 KB), /events (one a second), /upload."""
    path = environ["PATH_INFO"]
    body = _HELLO
    if path == "/sleep":
        time.sleep(float(parse_qs(environ["QUERY_STRING"])["s"][0]))
    elif path == "/1mb":
        body = _MEGABYTE
    elif path == "/generator":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (_KILOBYTE for _ in range(100))
    elif path == "/100mb":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return (_MEGABYTE for _ in range(100))
    elif path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return _events()
    elif path == "/upload":
        size = 0
        while data := environ["wsgi.input"].read(65_536):
            size += len(data)
        body = str(size).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _events() -> Iterator[bytes]:
    while True:
        yield b"data: tick\n\n"
        time.sleep(1)
