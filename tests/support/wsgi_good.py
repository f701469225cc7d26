"""Cases of `wsgi_apps`: every right way to answer."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .wsgi_cases import BODY, LENGTH, PARTS, TEXT, Boom, Tracked, boom, case, closed

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


@case
def _list(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return list(PARTS)


@case
def _tuple(environ: WSGIEnvironment, start_response: StartResponse) -> tuple[bytes, ...]:
    start_response("200 OK", [TEXT])
    return tuple(PARTS)


@case
def _list_sized(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, LENGTH])
    return list(PARTS)


@case
def _generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [TEXT])
    return (part for part in PARTS)


@case
def _generator_sized(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [TEXT, LENGTH])
    return (part for part in PARTS)


@case
def _lazy(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """start_response is called in the first step of the iteration."""
    start_response("200 OK", [TEXT])
    yield from PARTS


@case
def _iterator(environ: WSGIEnvironment, start_response: StartResponse) -> Tracked:
    start_response("200 OK", [TEXT])
    return Tracked(environ, PARTS)


class OldStyle:
    """Iterable by `__getitem__` alone."""

    def __getitem__(self, index: int) -> bytes:
        return PARTS[index]


@case
def _getitem(environ: WSGIEnvironment, start_response: StartResponse) -> OldStyle:
    start_response("200 OK", [TEXT])
    return OldStyle()


@case
def _empty_parts(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return [b"", *PARTS[:1], b"", b"", *PARTS[1:], b""]


@case
def _empty_first(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    """Yields while it has nothing to say, start_response included."""
    yield b""
    yield b""
    start_response("200 OK", [TEXT])
    yield from PARTS


@case
def _nothing(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT])
    return []


@case
def _nothing_sized(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "0")])
    return []


@case
def _write(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    write = start_response("200 OK", [TEXT])
    for part in PARTS:
        write(part)
    return []


@case
def _write_sized(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    write = start_response("200 OK", [TEXT, LENGTH])
    for part in PARTS:
        write(part)
    return []


@case
def _write_and_return(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    return PARTS[1:]


@case
def _write_in_generator(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
    write = start_response("200 OK", [TEXT])
    write(PARTS[0])
    yield PARTS[1]
    write(PARTS[2])


@case
def _fields(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    fields = [TEXT, ("X-Two", "a"), ("x-two", "b"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    fields += [("X-Latin", "caf\xe9"), ("X-Empty", ""), ("X-Space", " \tpadded\t ")]
    start_response("203 Quite So", fields)
    return [BODY]


@case
def _hop_by_hop(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    names = ["Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"]
    names += ["Proxy-Authenticate", "TE", "Trailers"]
    start_response("200 OK", [TEXT, *((name, "x") for name in names)])
    return [BODY]


@case
def _own_server_and_date(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, ("Server", "mine"), ("Date", "now")])
    return [BODY]


@case
def _no_reason(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("299", [TEXT])
    return [BODY]


@case
def _file(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    contents = tempfile.TemporaryFile()  # noqa: SIM115  (the wrapper's close() closes it)
    contents.write(BODY)
    contents.seek(0)
    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](contents)


@case
def _file_from_its_middle(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    contents = tempfile.TemporaryFile()  # noqa: SIM115  (the wrapper's close() closes it)
    contents.write(b"skipped" + BODY)
    contents.seek(len(b"skipped"))
    start_response("200 OK", [TEXT, LENGTH])
    return environ["wsgi.file_wrapper"](contents, 4)


@case
def _file_of_bytes(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](io.BytesIO(BODY))


class OnlyRead:
    """As little of a file as PEP 3333 asks for, and close()."""

    def __init__(self, environ: WSGIEnvironment) -> None:
        self._tag = environ["QUERY_STRING"]
        self._file = io.BytesIO(BODY)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def close(self) -> None:
        closed[self._tag] += 1


@case
def _file_of_anything(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](OnlyRead(environ))


@case
def _file_of_nothing(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](io.BytesIO())


@case
def _longer(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, LENGTH])
    return [*PARTS, b" and more"]


@case
def _longer_in_one_part(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, LENGTH])
    return [BODY + b" and more"]


@case
def _longer_than_0(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("200 OK", [TEXT, ("Content-Length", "0")])
    return [BODY]


@case
def _no_content(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("204 No Content", [])
    return []


@case
def _no_content_with_a_body(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("204 No Content", [LENGTH])
    return [BODY]


@case
def _not_modified(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    start_response("304 Not Modified", [("ETag", '"x"')])
    return []


@case
def _not_modified_with_a_length(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    start_response("304 Not Modified", [LENGTH])
    return []


@case
def _not_modified_with_a_body(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    start_response("304 Not Modified", [LENGTH])
    return [BODY]


@case
def _replaced(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    """An error before anything was sent: the first head is forgotten, its length too."""
    start_response("200 OK", [TEXT, ("X-First", "1"), ("Content-Length", "3")])
    try:
        raise boom(environ)
    except Boom:
        start_response("503 Sorry", [TEXT, ("X-Second", "2")], sys.exc_info())
    return [BODY]


@case
def _replaced_after_empty_parts(
    environ: WSGIEnvironment, start_response: StartResponse
) -> Iterator[bytes]:
    start_response("200 OK", [TEXT, ("X-First", "1")])
    yield b""
    try:
        raise boom(environ)
    except Boom:
        start_response("503 Sorry", [TEXT, ("X-Second", "2")], sys.exc_info())
    yield BODY


@case
def _started_twice_and_caught(
    environ: WSGIEnvironment, start_response: StartResponse
) -> list[bytes]:
    start_response("200 OK", [TEXT])
    try:
        start_response("201 Created", [TEXT, ("X-Second", "2")])
    except AssertionError:
        return [BODY]
    return [b"never"]
