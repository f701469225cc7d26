"""The load: a fixed number of requests in flight, every answer checked, every loss with its reason.

What speaks the protocol is a `Fetch`; this only counts. A request is repeated
where its client says that the server has not begun it (`NotServed`), and only
there: everything else that is not the right answer is a lost request.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field

from .app import body_of, path_of

#: Requests that are under way at any time: all the slots of the load together.
IN_FLIGHT = 200
#: Seconds before the next request of a slot that lost one: a dead server is not to be hammered.
_AFTER_A_LOSS = 0.05
#: Seconds after which a request counts as lost.
_TIMEOUT = 20.0


class NotServed(Exception):
    """The server told that it has not processed the request (RFC 9113 section 8.7)."""


class Lost(Exception):
    """A request without its answer.

    :param pid: the worker that the connection led to, 0 where that is not known.
    """

    def __init__(self, reason: str, pid: int = 0) -> None:
        super().__init__(reason)
        self.pid = pid


@dataclass(frozen=True)
class Request:
    number: int
    post: bool

    @property
    def method(self) -> str:
        return "POST" if self.post else "GET"

    @property
    def path(self) -> str:
        return path_of(self.number)

    @property
    def body(self) -> bytes:
        return body_of(self.number) if self.post else b""


#: Makes one request and returns the status and the body of its answer.
Fetch = Callable[[Request], Awaitable[tuple[int, bytes]]]


@dataclass
class Tally:
    """What became of the requests."""

    requests: int = 0
    retried: int = 0
    #: Connections that the server took leave of, and that ended with nothing open.
    drained: int = 0
    longest_gap: float = 0.0
    #: Lost requests by reason.
    lost: Counter[str] = field(default_factory=Counter)
    #: Lost requests by the pid of the worker that had them; 0 where that is not known.
    lost_by_pid: Counter[int] = field(default_factory=Counter)
    #: The workers that answered.
    pids: set[int] = field(default_factory=set)

    @property
    def failed(self) -> int:
        return sum(self.lost.values())


async def run_load(fetches: Sequence[Fetch], seconds: float, tally: Tally) -> None:
    """Keep `IN_FLIGHT` requests under way, spread over ``fetches``, half of them POSTs."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    numbers = itertools.count()
    answered = [loop.time()]

    async def slot(fetch: Fetch, post: bool) -> None:
        while loop.time() < end:
            if await _make(Request(next(numbers), post), fetch, tally):
                now = loop.time()
                tally.longest_gap = max(tally.longest_gap, now - answered[0])
                answered[0] = now
            else:
                await asyncio.sleep(_AFTER_A_LOSS)

    await asyncio.gather(*(slot(fetch, post) for fetch, post in _slots(fetches)))


def _slots(fetches: Sequence[Fetch]) -> Iterator[tuple[Fetch, bool]]:
    for number in range(IN_FLIGHT):
        fetch = fetches[number % len(fetches)]
        # Each fetch gets both kinds, where it has more than one slot.
        yield fetch, bool((number // len(fetches) + number) % 2)


async def _make(request: Request, fetch: Fetch, tally: Tally) -> bool:
    """Make one request; whether the right answer came."""
    tally.requests += 1
    while True:
        try:
            status, answer = await asyncio.wait_for(fetch(request), _TIMEOUT)
        except NotServed:
            tally.retried += 1
        except Lost as error:
            tally.lost[str(error)] += 1
            tally.lost_by_pid[error.pid] += 1
            return False
        except (OSError, asyncio.TimeoutError) as error:
            tally.lost[f"{type(error).__name__}: {error}"] += 1
            tally.lost_by_pid[0] += 1
            return False
        else:
            break
    pid = pid_of(request, status, answer)
    if not pid:
        # The request's own number is in it, if anything is.
        text = re.sub(rb"\d+", b"N", answer[:60])
        tally.lost[f"status {status}: {text!r}"] += 1
        tally.lost_by_pid[0] += 1
        return False
    tally.pids.add(pid)
    return True


def pid_of(request: Request, status: int, answer: bytes) -> int:
    """The worker that gave this answer; 0 where it is not the right one."""
    match = re.fullmatch(rb"%d (\d+)" % request.number, answer)
    return int(match[1]) if status == 200 and match is not None else 0
