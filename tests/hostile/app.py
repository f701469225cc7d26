"""The application behind the hostile suite: what the other tests serve, and a meeting point.

/rendezvous?n=4&id=x   answers once `n` requests for `x` are in here at the same time
/wsgi/NAME             the case of that name in `tests.support.wsgi_apps`
/...                   `tests.support.apps`
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.support import apps, wsgi_apps

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Seconds for all to arrive: one that a busy thread keeps away never does.
PATIENCE = 10.0
WSGI = "/wsgi"

_barriers: dict[str, threading.Barrier] = {}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    path = environ.get("PATH_INFO", "")
    if path == "/rendezvous":
        return rendezvous(environ, start_response)
    if path.startswith(WSGI):
        environ["PATH_INFO"] = path.removeprefix(WSGI)
        answer: Iterable[bytes] = wsgi_apps.app(environ, start_response)
        return answer
    return apps.app(environ, start_response)


def rendezvous(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    query = apps.Query(environ)
    parties = query.integer("n", 1)
    barrier = _barriers.setdefault(environ["QUERY_STRING"], threading.Barrier(parties))
    try:
        barrier.wait(PATIENCE)
    except threading.BrokenBarrierError:
        return apps.reply(start_response, b"alone", status="503 Service Unavailable")
    return apps.reply(start_response, b"met")
