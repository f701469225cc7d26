"""Stop working when nobody waits for the answer any more.

    gunicorn -k gunicorn_h2.H2Worker disconnects:app

/report is work in steps, which looks whether the client is still there before each;
/events is a stream of server-sent events, which is closed when the client goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    errors = environ["wsgi.errors"]
    if environ["PATH_INFO"] == "/report":
        client_disconnected = environ["gunicorn_h2.client_disconnected"]
        for step in range(50):
            if client_disconnected():
                errors.write(f"report: given up after {step} steps\n")
                break
            time.sleep(0.1)
        # To nobody, where the client has gone: that is noticed and logged as 499.
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"the report\n"]
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return events(errors)


def events(errors: Any) -> Iterator[bytes]:
    number = 0
    try:
        while True:
            # Nothing to tell: b"" sends nothing, but sees that the client is there.
            yield b"data: %d\n\n" % number if number % 5 == 0 else b""
            number += 1
            time.sleep(0.1)
    finally:
        errors.write(f"events: closed after {number} turns\n")
