"""The application of `soak`: that of the tests, and what the worker holds.

``/tables`` answers with JSON: the number of live objects of each class of gunicorn_h2, and
of all objects together. Garbage is collected first, and free memory given back to the system,
so that only what is held is counted: what malloc keeps for later goes up and down by
megabytes with the traffic, and creeps for an hour.
"""

from __future__ import annotations

import ctypes
import gc
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tests.support import apps

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/tables":
        tables = _tables()
        _trim_memory()
        return apps.reply_json(start_response, tables)
    return apps.app(environ, start_response)


def _tables() -> dict[str, int]:
    gc.collect()
    counts: Counter[str] = Counter()
    for each in gc.get_objects():
        counts["objects"] += 1
        kind = type(each)
        # A class may have anything by the name of __module__.
        if str(kind.__module__).startswith("gunicorn_h2."):
            counts[kind.__name__] += 1
    return counts


def _trim_memory() -> None:
    libc = ctypes.CDLL(None)
    # Only glibc has it.
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
