"""What the recipes have in common: how peers behave, and the ends that they wait for."""

from __future__ import annotations

import time

from hyperframe.frame import Frame, GoAwayFrame

from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.server import Server
from tests.support.wire import ErrorCode, Setting

from .watch import Watch

MAX_WINDOW = 2**31 - 1
#: Seconds for an end that comes at once; only failures wait so long.
TIMEOUT = 10.0


def reading_nothing(server: Server) -> RawClient:
    """A peer whose window for every response is closed."""
    return RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 0})


def wide_open(server: Server) -> RawClient:
    """A peer whose windows hold any response."""
    client = RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW})
    client.window_update(0, MAX_WINDOW - 65_535)
    return client


def want_end(client: RawClient, error_code: ErrorCode, *, timeout: float = TIMEOUT) -> list[Frame]:
    """See the connection end with this GOAWAY; return what came before it."""
    frames = client.want_closed(timeout=timeout)
    assert frames and isinstance(frames[-1], GoAwayFrame), f"no GOAWAY at the end: {frames[-3:]}"
    assert frames[-1].error_code == error_code, frames[-1]
    return frames[:-1]


def want_calm(watch: Watch, client: RawClient) -> list[Frame]:
    """See GOAWAY(ENHANCE_YOUR_CALM), and the connection closed with it."""
    frames = want_end(client, ErrorCode.ENHANCE_YOUR_CALM)
    watch.note(answered_before_calm=f"{len(frames)} frames")
    return frames


def want_well(client: RawClient) -> None:
    """See the connection serve another request."""
    response = client.request(path="/hello")
    assert (response.status, response.body) == (200, HELLO)


def seconds_until_closed(client: RawClient, timeout: float) -> float:
    """Wait for the server to close; return how long that took."""
    start = time.monotonic()
    client.want_closed(timeout=timeout)
    return time.monotonic() - start
