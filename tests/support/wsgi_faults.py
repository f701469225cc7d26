"""Cases of `wsgi_apps`: wrong ways to answer, errors, and answers without an end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from .wsgi_cases import BODY, LENGTH, PARTS, TEXT, Boom, Tracked, boom, case, closed, raising
from .wsgi_good import OnlyRead

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Larger than any window or buffer on the way.
ENDLESS = [b"x" * 65536] * 4096


class BoomBase(BaseException):
    """An application's error that `except Exception` does not see."""


@case
def _replaced_too_late(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """The head has gone: start_response raises what it was given."""
    start_response("200 OK", [TEXT])
    yield PARTS[0]
    try:
        raise boom(environ)
    except Boom:
        start_response("503 Sorry", [TEXT], sys.exc_info())
    yield b"never"


@case
def _replaced_after_write(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    try:
        raise boom(environ)
    except Boom:
        start_response("503 Sorry", [TEXT], sys.exc_info())
    return [b"never"]


@case
def _started_twice(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    start_response("201 Created", [TEXT])
    return [b"never"]


@case
def _started_twice_in_the_body(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterator[bytes]:
    start_response("200 OK", [TEXT])
    yield PARTS[0]
    start_response("201 Created", [TEXT])
    yield b"never"


@case
def _never_started(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    return [BODY]


@case
def _never_started_and_empty(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    return []


@case
def _none(environ: WSGIEnvironment, start_response: StartResponse) -> None:
    start_response("200 OK", [TEXT])


@case
def _none_and_never_started(environ: WSGIEnvironment, start_response: StartResponse) -> None:
    return None


@case
def _text(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", [TEXT])
    return ["text"]


@case
def _bare_bytes(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    """Iterates as integers."""
    start_response("200 OK", [TEXT])
    return BODY


@case
def _text_later(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", [TEXT])
    return [PARTS[0], "text"]


STATUSES: dict[str, Any] = {
    "an integer": 200,
    "bytes": b"200 OK",
    "nothing": None,
    "an empty string": "",
    "two digits": "20 OK",
    "four digits": "2000 OK",
    "no space": "200OK",
    "words": "OK",
    "CR LF": "200 OK\r\nX-Injected: 1",
    "LF": "200 OK\nX-Injected: 1",
    "NUL": "200 O\0K",
    "beyond latin-1": "200 \u20ac",
    "informational": "100 Continue",
    "zero": "000 Zero",
}
HEADERS: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "no pairs": ["X-A"],
    "triples": [("X-A", "1", "2")],
    "bytes for a name": [(b"X-A", "1")],
    "bytes for a value": [("X-A", b"1")],
    "a number for a value": [("X-A", 1)],
    "nothing for a value": [("X-A", None)],
    "CR LF in a value": [("X-A", "1\r\nX-Injected: 1")],
    "LF in a value": [("X-A", "1\nX-Injected: 1")],
    "CR in a value": [("X-A", "1\rX")],
    "NUL in a value": [("X-A", "1\0")],
    "a value beyond latin-1": [("X-A", "\u20ac")],
    "CR LF in a name": [("X-A: 1\r\nX-Injected", "1")],
    "a colon in a name": [("X:A", "1")],
    "a pseudo-field": [(":status", "201")],
    "a space in a name": [("X A", "1")],
    "an empty name": [("", "1")],
    "a name beyond ASCII": [("X-\xe9", "1")],
    "a length of words": [("Content-Length", "many")],
    "a negative length": [("Content-Length", "-5")],
}


def _bad_head(kind: str, value: Any, environ: Any, start_response: Any) -> list[bytes]:
    if kind == "status":
        start_response(value, [TEXT])
    else:
        start_response("200 OK", value)
    return [BODY]


@case
def _bad_status(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    which = environ["HTTP_X_WHICH"]
    return _bad_head("status", STATUSES[which], environ, start_response)


@case
def _bad_headers(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    which = environ["HTTP_X_WHICH"]
    return _bad_head("headers", HEADERS[which], environ, start_response)


#: By the name that `/raise...` takes in X-Which. StopIteration is of old code that
#: calls next(); the last three pass by `except Exception`.
ERRORS: dict[str, type[BaseException]] = {
    "Exception": Boom,
    "StopIteration": StopIteration,
    "OSError": OSError,
    "TimeoutError": TimeoutError,
    "AssertionError": AssertionError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BoomBase,
}


def _error(environ: WSGIEnvironment) -> BaseException:
    return boom(environ, ERRORS[environ.get("HTTP_X_WHICH", "Exception")])


@case
def _raise(environ: WSGIEnvironment, start_response: StartResponse) -> None:
    raise _error(environ)


@case
def _raise_after_start(environ: WSGIEnvironment, start_response: StartResponse) -> None:
    start_response("200 OK", [TEXT, LENGTH])
    raise _error(environ)


@case
def _raise_in_first_step(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT])
    return Tracked(environ, raising(boom(environ)))


@case
def _raise_in_the_middle(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT])
    return Tracked(environ, raising(_error(environ), PARTS[0]))


@case
def _raise_in_the_middle_sized(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT, LENGTH])
    return Tracked(environ, raising(boom(environ), PARTS[0]))


@case
def _raise_after_the_last_part(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    """All that Content-Length announced is out; the peer cannot know of the error."""
    start_response("200 OK", [TEXT])
    return Tracked(environ, raising(boom(environ), *PARTS))


@case
def _raise_after_write(environ: WSGIEnvironment, start_response: StartResponse) -> None:
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    raise boom(environ)


class FailsToClose(Tracked):
    def __init__(self, environ: WSGIEnvironment, parts: Iterable[bytes]) -> None:
        super().__init__(environ, parts)
        self._error = boom(environ)

    def close(self) -> None:
        super().close()
        raise self._error


@case
def _raise_in_close(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT])
    return FailsToClose(environ, PARTS)


@case
def _shorter(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT, LENGTH])
    return Tracked(environ, PARTS[:1])


@case
def _shorter_by_everything(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT, LENGTH])
    return Tracked(environ, [])


@case
def _endless(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT])
    return Tracked(environ, ENDLESS)


@case
def _endless_file(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    class Endless(OnlyRead):
        def read(self, size: int) -> bytes:
            return b"x" * size

    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](Endless(environ))


@case
def _read_forever(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """Waits for a body that does not end; closed[tag] tells that it is over."""
    try:
        while environ["wsgi.input"].read(1):
            pass
    finally:
        closed[environ["QUERY_STRING"]] += 1
    start_response("200 OK", [TEXT])
    return [b"never"]
