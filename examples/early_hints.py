"""Tell the browser what a page needs while the page is still being made (RFC 8297).

    gunicorn -k gunicorn_h2.H2Worker --certfile cert.pem --keyfile key.pem early_hints:app

``wsgi.early_hints`` is called as often as there is something to tell. Servers that
do not have it leave it out of the environ, and the page works without.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

STYLE = b"body { font-family: sans-serif }"
PAGE = b"<!doctype html><link rel=stylesheet href=/style.css><p>Here it is."


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/style.css":
        start_response("200 OK", [("Content-Type", "text/css")])
        return [STYLE]
    if "wsgi.early_hints" in environ:
        environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style")])
    # In place of what takes its time: the database, templates, another service.
    time.sleep(0.5)
    start_response("200 OK", [("Content-Type", "text/html")])
    return [PAGE]
