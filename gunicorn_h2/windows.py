"""The windows in which request bodies are received: which of them grow, and how far.

Pure, called on the loop thread; h2 keeps the windows and gives credit back. A
window bounds what is held for an application that does not read, but it is also
all that can be under way to one that does: 64 KiB in each round trip of 50 ms is
1.3 MB/s. So a stream's window grows when its application has read all that came and
waits for more, where the peer may have been held back by it: half of the window or more
was used in the time that a round trip may take.
"""

from __future__ import annotations

from .engine import Engine
from .frames import DEFAULT_WINDOW
from .settings import Settings
from .stream import Stream

#: Paths are not longer, there and back, in seconds: who sends less than half a window in
#: this time is not held back by it.
_LONGEST_ROUND_TRIP = 1.0
#: Bytes of a connection's window before any stream's has grown.
_FIRST_CONNECTION_WINDOW = 1 << 20
#: A window that is too small becomes so many times as large.
_FACTOR = 16


class ReceiveWindows:
    """The inbound windows of one connection's streams. Owned by L."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._h2 = engine
        self._initial = settings.initial_window_size
        #: Bytes by which streams may still grow. Half of the connection's window is left to
        #: the others, should the applications of those that have grown stop reading; and up
        #: to half of it h2 gives back late.
        self._spare = max(0, settings.connection_window_size // 2 - self._initial)
        #: Bytes by which the connection's own window may still grow.
        self._withheld = settings.connection_window_size - DEFAULT_WINDOW
        self._grow_connection(max(self._initial, _FIRST_CONNECTION_WINDOW) - DEFAULT_WINDOW)

    def application_waits(self, stream: Stream, now: float) -> None:
        """The application has read all that came: let more be under way if it could be used."""
        window = self._initial + stream.growth
        if self._h2.remote_flow_control_window(stream.id) != window:
            # Less than half of it was used, which h2 gives back with what follows; or the
            # connection has no more to give.
            return
        used_quickly = now - stream.window_whole_since <= _LONGEST_ROUND_TRIP
        stream.window_whole_since = now
        growth = min((_FACTOR - 1) * window, self._spare)
        if used_quickly and growth:
            self._spare -= growth
            stream.growth += growth
            self._h2.increment_flow_control_window(growth, stream.id)
            self._grow_connection(2 * growth)

    def _grow_connection(self, count: int) -> None:
        """Let more be under way on all streams together, within what the setting allows."""
        count = min(count, self._withheld)
        if count:
            self._withheld -= count
            self._h2.grow_connection_window(count)

    def forget(self, stream: Stream) -> None:
        """The stream has ended: others may grow instead."""
        self._spare += stream.growth
