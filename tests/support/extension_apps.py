"""The WSGI application for what goes beyond PEP 3333: one callable, one behaviour a path.

=================================  =============================================
/hints                             two 103s, then the page
/hints?name=value&...              one 103 with those fields; what came of it
/hints-late                        a 103 after each of the first two of three parts
/hints-then-echo                   a 103, then the request's body
/trailers?name=value&...           "body" and those trailers; what they raised
/trailers-of?kind=generator        trailers over one kind of response
/request-trailers                  what they are once the body is read, as JSON
/echo                              the request's body, once all of it is read
/ignore                            answers without reading
/duplex?size=65536                 yields what each read(size) gives
/late-read                         the first part of a response, then the body's size
/wait-read?id=x                    reads the body to its end
/wait-write?id=x                   writes for as long as it can
/wait-yield?id=x&part=.            yields until it is closed, but twice at most
                                   once the client has gone
/wait-poll?id=x                    returns once `client_disconnected` says so
/wait-callable?id=x                calls write(b"") for as long as it can
/events?id=x                       what happened in the requests of that id, as JSON
=================================  =============================================
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl

from .apps import Query, reply, reply_json

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HINTS = [[("Link", "</a.css>; rel=preload")], [("link", "</b.js>; rel=preload"), ("x-n", "2")]]

#: What a waiting application does between two looks, in seconds.
PAUSE = 0.01
#: When it gives up, so that a test that has failed leaves no thread behind.
PATIENCE = 20.0

#: By id. Appending is atomic; the worker is one process.
_events: dict[str, list[str]] = {}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return HANDLERS[environ["PATH_INFO"]](environ, start_response)


def pairs(environ: WSGIEnvironment) -> list[tuple[str, str]]:
    query = environ.get("QUERY_STRING", "")
    return parse_qsl(query, keep_blank_values=True, encoding="latin-1")


def outcome(call: Callable[[], object]) -> bytes:
    """What came of a call: ``ok``, or the name of its exception and the text."""
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}".encode()
    return b"ok"


def events(environ: WSGIEnvironment) -> list[str]:
    """The list that this request reports to."""
    return _events.setdefault(parse_qs(environ["QUERY_STRING"])["id"][0], [])


# -- early hints and 100-continue -----------------------------------------------


def hints(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    fields = pairs(environ)
    if fields:
        return reply(start_response, outcome(lambda: environ["wsgi.early_hints"](fields)))
    for each in HINTS:
        environ["wsgi.early_hints"](each)
    return reply(start_response, b"page")


def hints_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(2):
        yield b"part"
        environ["wsgi.early_hints"](HINTS[0])
    yield b"part"


def hints_then_echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["wsgi.early_hints"](HINTS[0])
    return echo(environ, start_response)


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, environ["wsgi.input"].read())


def ignore(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply(start_response, b"no, thanks", status="413 Content Too Large")


# -- trailers -------------------------------------------------------------------


def trailers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    said = outcome(lambda: environ["wsgi.ext.http.send_trailers"](pairs(environ)))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said]


def trailers_of(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    kind = parse_qs(environ["QUERY_STRING"])["kind"][0]
    send = environ["gunicorn.http2.send_trailers"]
    headers = [("Content-Type", "text/plain")]
    if kind == "sized":
        headers.append(("Content-Length", "4"))
    write = start_response("204 No Content" if kind == "no-content" else "200 OK", headers)
    if kind == "generator":
        return _parts_and_trailers(send)
    send([("x-sum", "early")])
    send([("X-Sum", " 4 "), ("x-again", "1"), ("x-again", "2")])
    if kind == "callable":
        write(b"body")
        return []
    if kind == "failing":
        return _failing_parts()
    return [] if kind in ("empty", "no-content") else [b"body"]


def _parts_and_trailers(send: Callable[[list[tuple[str, str]]], None]) -> Iterator[bytes]:
    yield from (b"bo", b"dy")
    send([("X-Sum", " 4 "), ("x-again", "1"), ("x-again", "2")])


def _failing_parts() -> Iterator[bytes]:
    yield b"bo"
    raise RuntimeError("in the middle of the body")


def request_trailers(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"].read().decode("latin-1")
    trailers = environ["gunicorn_h2.request_trailers"]()
    return reply_json(start_response, {"trailers": trailers, "body": body})


# -- full duplex ----------------------------------------------------------------


def duplex(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    size = Query(environ).integer("size", 65536)
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    while data := environ["wsgi.input"].read(size):
        yield data


def late_read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun;"
    yield b"%d" % len(environ["wsgi.input"].read())


# -- disconnects ----------------------------------------------------------------


def wait_read(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    told = events(environ)
    told.append("waiting")
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        told.append(_name(error))
        told.append(f"disconnected: {environ['gunicorn_h2.client_disconnected']()}")
        raise
    return reply(start_response, b"read")


def wait_write(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    told = events(environ)
    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    told.append("waiting")
    try:
        while True:
            write(bytes(65536))
    except OSError as error:
        told.append(_name(error))
        raise


def wait_callable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    told = events(environ)
    write = start_response("200 OK", [("Content-Type", "application/octet-stream")])
    told.append("waiting")
    try:
        for _ in range(int(PATIENCE / PAUSE)):
            time.sleep(PAUSE)
            write(b"")
    except OSError as error:
        told.append(_name(error))
        raise
    return []


def wait_yield(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    told = events(environ)
    part = parse_qs(environ["QUERY_STRING"]).get("part", [""])[0].encode()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    told.append("waiting")
    late = 0
    deadline = time.monotonic() + PATIENCE
    try:
        while late < 2 and time.monotonic() < deadline:
            late += environ["gunicorn_h2.client_disconnected"]()
            since = time.monotonic()
            yield part
            time.sleep(PAUSE)
    finally:
        told.append(f"yields after the client had gone: {late}")
        told.append(f"closed {'in time' if time.monotonic() - since < 1 else 'late'}")


def wait_poll(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    told = events(environ)
    told.append("waiting")
    deadline = time.monotonic() + PATIENCE
    while not environ["gunicorn_h2.client_disconnected"]():
        if time.monotonic() > deadline:
            told.append("never disconnected")
            break
        time.sleep(PAUSE)
    else:
        told.append("disconnected")
        told.append(f"hints: {_disconnect_of(lambda: environ['wsgi.early_hints'](HINTS[0]))}")
    return reply(start_response, b"done")


def _disconnect_of(call: Callable[[], object]) -> str:
    try:
        call()
    except OSError as error:
        return _name(error)
    return "no exception"


def _name(error: OSError) -> str:
    return f"{type(error).__module__}.{type(error).__qualname__}"


def show_events(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return reply_json(start_response, events(environ))


HANDLERS: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
    "/hints": hints,
    "/hints-late": hints_late,
    "/hints-then-echo": hints_then_echo,
    "/echo": echo,
    "/ignore": ignore,
    "/trailers": trailers,
    "/trailers-of": trailers_of,
    "/request-trailers": request_trailers,
    "/duplex": duplex,
    "/late-read": late_read,
    "/wait-read": wait_read,
    "/wait-write": wait_write,
    "/wait-callable": wait_callable,
    "/wait-yield": wait_yield,
    "/wait-poll": wait_poll,
    "/events": show_events,
}
