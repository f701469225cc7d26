"""What is done to the server while the load runs, and the arguments it needs for that."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.proc import processes
from tests.support.server import Server

#: Seconds between two of them.
INTERVAL = 3.0
_POLL = 0.05


@dataclass
class Happenings:
    """What has happened so far in a run."""

    count: int = 0
    #: Workers that were killed.
    killed: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class Event:
    """A way to replace workers.

    :param act: does it once; None for what happens by itself.
    :param args: arguments for Gunicorn.
    :param python: arguments for the interpreter, before ``-m gunicorn``.
    """

    act: Callable[[Server, Happenings], Awaitable[None]] | None
    args: Sequence[str] = ()
    python: Sequence[str] = ()


async def hup(server: Server, happenings: Happenings) -> None:
    """New workers with the configuration read anew, then TERM for the old ones."""
    server.signal(signal.SIGHUP)


async def restart(server: Server, happenings: Happenings) -> None:
    """The service ends and starts anew, while its socket is held open for it."""
    booted = len(server.booted_pids())
    server.signal(signal.SIGHUP)
    while len(server.booted_pids()) < booted + server.workers:
        await asyncio.sleep(_POLL)


async def kill9(server: Server, happenings: Happenings) -> None:
    """One worker gets no chance to take leave; only what it had begun may fail."""
    pid = random.choice(server.worker_pids())
    happenings.killed.add(pid)
    os.kill(pid, signal.SIGKILL)


async def ttou(server: Server, happenings: Happenings) -> None:
    """A third worker, and the oldest one away again."""
    server.signal(signal.SIGTTIN if happenings.count % 2 else signal.SIGTTOU)


_PID_FILE = Path(tempfile.gettempdir()) / f"deploys-{os.getpid()}.pid"


async def usr2(server: Server, happenings: Happenings) -> None:
    """A new master beside the old one, then WINCH and TERM for the old one.

    Gunicorn heeds WINCH only as a daemon; elsewhere TERM does all of it. QUIT, which
    some guides send, is Gunicorn's quick shutdown: it cuts off what runs.
    """
    old = int(_PID_FILE.read_text())
    os.kill(old, signal.SIGUSR2)
    successor = _PID_FILE.with_name(f"{_PID_FILE.name}.2")
    while not successor.exists() or not successor.read_text().strip():
        await asyncio.sleep(_POLL)
    new = int(successor.read_text())
    while len(_children(new) & server.booted_pids()) < server.workers:
        await asyncio.sleep(_POLL)
    os.kill(old, signal.SIGWINCH)
    os.kill(old, signal.SIGTERM)
    while _PID_FILE.exists() is False or _PID_FILE.read_text().strip() != str(new):
        await asyncio.sleep(_POLL)


def _children(master: int) -> set[int]:
    return {each.pid for each in processes() if each.parent == master}


EVENTS: dict[str, Event] = {
    "hup": Event(hup),
    "restart": Event(restart, python=["-m", "benchmarks.deploy.activation"]),
    "max_requests": Event(None, args=["--max-requests", "500", "--max-requests-jitter", "250"]),
    "kill9": Event(kill9),
    "usr2": Event(usr2, args=["--pid", str(_PID_FILE)]),
    "ttou": Event(ttou),
    "none": Event(None),
}


async def repeat(
    event: Event, server: Server, happenings: Happenings, interval: float = INTERVAL
) -> None:
    """Have the event happen every ``interval`` seconds, until cancelled."""
    for happenings.count in itertools.count(1):
        await asyncio.sleep(interval)
        if event.act is not None:
            await event.act(server, happenings)
