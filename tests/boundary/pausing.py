"""Stops a thread before any one line of this package, to let the other side go first there.

Random interleavings find what is likely; this finds what needs one switch of
threads at the one wrong place. A test runs its scenario again and again, with
the switch before the first line, the second, and so on to the last.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import gunicorn_h2
from gunicorn_h2.handoff import Exchange
from gunicorn_h2.pool import Pool
from tests.support.boundary import wait

_PACKAGE = str(Path(gunicorn_h2.__file__).parent)


class Pause:
    """A pause of one thread before the line ``at`` that it runs; `reached` if it got there.

    Lines on which the thread holds a lock do not count: L would have to wait
    there, so nothing can go in between.
    """

    def __init__(self, at: int) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()
        #: What the thread does there instead of waiting, where that is given.
        self.instead: Callable[[], None] | None = None
        self.where = ""
        self._left = at

    def __call__(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """``function``, under observation for as long as it runs."""

        def observed() -> Any:
            before = sys.gettrace()
            sys.settrace(self.trace)
            try:
                return function()
            finally:
                sys.settrace(before)

        return observed

    def watch_caller(self) -> None:
        """Observe this thread from here on, the pool's own code that called included."""
        sys.settrace(self.trace)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            frame.f_trace = self.trace
            frame = frame.f_back

    def trace(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        if event == "line" and not self.reached.is_set() and not _holds_a_lock(frame):
            if self._left == 0:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                self.reached.set()
                if self.instead is None:
                    wait(self.let_go)
                else:
                    self.instead()
            self._left -= 1
        return self.trace


def _holds_a_lock(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        owner = frame.f_locals.get("self")
        if isinstance(owner, Exchange) and owner._lock.locked():
            return True
        if isinstance(owner, Pool) and owner._lock.locked():
            return True
        frame = frame.f_back
    return False
