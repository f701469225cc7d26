"""What the cases of `wsgi_apps` have in common: their register, and the usual answer."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PARTS = [b"first ", b"second ", b"third"]
BODY = b"".join(PARTS)
TEXT = ("Content-Type", "text/plain")
LENGTH = ("Content-Length", str(len(BODY)))

#: Begins the text of every exception below: nothing of it may reach a peer.
SECRET = "s3cret"

closed: Counter[str] = Counter()
called: Counter[str] = Counter()
gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)

Handler = Callable[["WSGIEnvironment", "StartResponse"], Any]

#: By path.
CASES: dict[str, Handler] = {}


class Boom(Exception):
    """An application's error."""


def case(handler: Handler) -> Handler:
    CASES[handler.__name__.strip("_")] = handler
    return handler


def boom(environ: WSGIEnvironment, kind: type[BaseException] = Boom) -> BaseException:
    return kind(f"{SECRET} {environ['QUERY_STRING']}")


class Tracked:
    """An iterable without a length that remembers being closed."""

    def __init__(self, environ: WSGIEnvironment, parts: Iterable[bytes]) -> None:
        self._tag = environ["QUERY_STRING"]
        self._parts = iter(parts)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._parts)

    def close(self) -> None:
        closed[self._tag] += 1


def raising(error: BaseException, *parts: bytes) -> Iterator[bytes]:
    yield from parts
    raise error
