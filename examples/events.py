"""Server-sent events for hundreds of clients, beside ordinary requests.

    GUNICORN_H2_MAX_THREADS=500 gunicorn -k gunicorn_h2.H2Worker events:app

GET /events is a stream of what is said; POST /say says something to every stream.
A stream holds its thread while it is open: without h2_max_threads as many streams as
there are threads would leave none for /say. What is said stays within one worker: with
several, let them hear of it from a database or a message broker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

#: Seconds of silence after which a stream is sent a comment, so that proxies keep it.
KEEP_ALIVE = 15.0

said: list[str] = []
news = threading.Condition()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return events(environ["gunicorn_h2.client_disconnected"])
    if environ["PATH_INFO"] == "/say" and environ["REQUEST_METHOD"] == "POST":
        text = environ["wsgi.input"].read().decode("utf-8", "replace")
        with news:
            said.append(" ".join(text.split()))
            news.notify_all()
        start_response("204 No Content", [])
        return []
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"There are GET /events and POST /say.\n"]


def events(client_disconnected: Callable[[], bool]) -> Iterator[bytes]:
    number = len(said)
    yield b": welcome\n\n"
    while not client_disconnected():
        with news:
            if len(said) == number:
                news.wait(KEEP_ALIVE)
            new = said[number:]
        number += len(new)
        # Where a client has gone meanwhile, the generator ends at its next `yield`.
        yield "".join(f"data: {text}\n\n" for text in new).encode() or b": still here\n\n"
