"""The application under the load: it takes 5 to 50 ms and checks what it was sent."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

#: Bytes of a POST: more than a segment, less than any window.
BODY_SIZE = 10_240


def body_of(number: int) -> bytes:
    """The body that request ``number`` posts: no two are alike."""
    return b"%010d" % number * (BODY_SIZE // 10)


def path_of(number: int) -> str:
    """The path of request ``number``; spread over 5 to 50 ms."""
    return f"/work?id={number}&ms={5 + number * 7 % 46}"


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer "id pid", or 400 where the body is not the request's own."""
    query = parse_qs(environ["QUERY_STRING"])
    number = int(query["id"][0])
    posted = environ["REQUEST_METHOD"] == "POST"
    # h2load posts one file again and again, and asks for the same path.
    expected = body_of(number) if posted else b""
    right = environ["wsgi.input"].read() == expected
    time.sleep(int(query["ms"][0]) / 1000)
    answer = f"{number} {os.getpid()}".encode()
    fields = [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))]
    start_response("200 OK" if right else "400 Bad Request", fields)
    return [answer]
