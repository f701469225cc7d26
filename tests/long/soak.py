"""Put real servers under good and bad traffic for long, and see that nothing grows or fails.

::

    python -m tests.long.soak --minutes 60 --rate 8

Two servers, one with TLS and one in cleartext (HTTP/2 by prior knowledge, HTTP/1.1), of one
worker each: so that each figure is of one process, whichever request asks for it. A round
of traffic lasts a minute; then all clients are gone, and what a worker still holds is
written down, as a line of the table. At the end come the slopes, by least squares over
the rounds after the warm-up. The exit status is 1 when a slope is beyond its bound, when
one request of the good traffic was not answered as it should be, when a worker was
replaced, or when one logged a traceback.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.support.certs import Certs, make_certs
from tests.support.http1 import Http1Client
from tests.support.server import Server

from . import bad_traffic, good_traffic

#: Clients that are at work at the same time, on each server.
_GOOD_CLIENTS, _BAD_CLIENTS = 3, 2
#: How long a worker may take to notice that all clients are gone, in seconds.
_SETTLING = 15.0
#: Rounds over less time than this, in seconds, tell nothing about an hour.
_SHORTEST = 600.0
MIB = 1 << 20


class Bound(NamedTuple):
    """A figure may rise by so much an hour; what is below the noise, in all, is no rise."""

    per_hour: float
    noise: float


#: What is watched of a worker, in the order of the table.
BOUNDS = {
    "rss": Bound(8 * MIB, 4 * MIB),
    "descriptors": Bound(2, 2),
    "threads": Bound(1, 1),
    "Link": Bound(1, 1),
    "Connection": Bound(1, 1),
    "Stream": Bound(1, 1),
    "Exchange": Bound(1, 1),
    "objects": Bound(5_000, 2_000),
}
Sample = dict[str, float]


class Tally:
    """Counts what became of the good traffic. Shared by the threads of its clients."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answered = self.failed = self.bad = 0

    def add(self, *, answered: int = 0, failed: int = 0, bad: int = 0) -> None:
        with self._lock:
            self.answered += answered
            self.failed += failed
            self.bad += bad


class Soaked:
    """One server, and what was seen of it."""

    def __init__(self, name: str, server: Server) -> None:
        self.name = name
        self.server = server
        self.worker_pid = server.worker_pid
        self.tally = Tally()
        self.samples: list[Sample] = []

    def clients(self, rate: float, until: float, seed: str) -> list[threading.Thread]:
        """Threads that are clients until the round is over."""
        threads = []
        for number in range(_GOOD_CLIENTS + _BAD_CLIENTS):
            good = number < _GOOD_CLIENTS
            pause = (_GOOD_CLIENTS if good else _BAD_CLIENTS) / rate
            chosen = random.Random(f"{seed}/{self.name}/{number}")
            run = self._run_good if good else self._run_bad
            threads.append(threading.Thread(target=_repeat, args=(run, chosen, pause, until)))
        return threads

    def _run_good(self, chosen: random.Random) -> None:
        scenario = chosen.choice(good_traffic.SCENARIOS)
        with self._failures_counted(scenario.__name__):
            self.tally.add(answered=scenario(self.server, chosen))

    def _run_bad(self, chosen: random.Random) -> None:
        scenario = chosen.choice(bad_traffic.SCENARIOS)
        with self._failures_counted(scenario.__name__), suppress(*bad_traffic.ENDS):
            scenario(self.server, chosen)
        self.tally.add(bad=1)

    @contextmanager
    def _failures_counted(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.tally.add(failed=1)
            print(f"{self.name}: {name} failed\n{traceback.format_exc()}", flush=True)

    def sample(self, elapsed: float) -> None:
        """Write down what the worker holds once its clients are gone."""
        deadline = time.monotonic() + _SETTLING
        while True:
            with Http1Client(self.server, timeout=good_traffic.TIMEOUT) as client:
                tables = json.loads(client.get("/tables").body)
                # The only connection left is the one that asks.
                if tables["Link"] == 1 or time.monotonic() > deadline:
                    break
            time.sleep(0.1)
        server = self.server
        sample: Sample = {
            "rss": server.rss(),
            "descriptors": server.fd_count(),
            "threads": server.thread_count(),
        }
        self.samples.append(
            {"elapsed": elapsed, **{name: tables.get(name, 0) for name in BOUNDS}, **sample}
        )

    def line(self) -> str:
        last, tally = self.samples[-1], self.tally
        figures = [_shown(name, last[name]) for name in BOUNDS]
        counts = [str(tally.answered), str(tally.failed), str(tally.bad)]
        return _row(f"{last['elapsed'] / 60:.1f}", self.name, *counts, *figures)

    def faults(self, warm_up: float) -> list[str]:
        """What was not as it must be; prints the slopes."""
        steady = [each for each in self.samples if each["elapsed"] > warm_up]
        shown = [_shown(name, slope(steady, name)) for name in BOUNDS]
        print(_row("slope/h", self.name, "", "", "", *shown))
        faults = growth(steady)
        if self.tally.failed:
            faults.append(f"{self.tally.failed} failures of good traffic")
        if any(each["Link"] > 1 or each["Stream"] for each in self.samples):
            faults.append("connections were held when all clients were gone")
        if self.server.worker_pids() != [self.worker_pid]:
            faults.append("the worker was replaced")
        if "Traceback" in self.server.log():
            faults.append(f"a traceback was logged\n{self.server.log()}")
        return [f"{self.name}: {fault}" for fault in faults]


def growth(samples: list[Sample]) -> list[str]:
    """What rises beyond its bound; in too short a time nothing can be said of that."""
    span = samples[-1]["elapsed"] - samples[0]["elapsed"]
    if span < _SHORTEST:
        return []
    slopes = {name: slope(samples, name) for name in BOUNDS}
    return [
        f"{name} rises by {_shown(name, slopes[name])} an hour"
        for name, bound in BOUNDS.items()
        if slopes[name] > bound.per_hour and slopes[name] * span / 3_600 > bound.noise
    ]


def slope(samples: list[Sample], name: str) -> float:
    """By how much a figure rises in an hour: least squares."""
    count = len(samples)
    mean_x = sum(each["elapsed"] for each in samples) / count
    mean_y = sum(each[name] for each in samples) / count
    spread = sum((each["elapsed"] - mean_x) ** 2 for each in samples)
    if not spread:
        return 0.0
    together = sum((each["elapsed"] - mean_x) * (each[name] - mean_y) for each in samples)
    return 3_600 * together / spread


def main() -> int:
    arguments = parse(sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        certs = make_certs(Path(directory))
        with _serve(certs, tls=True) as secure, _serve(certs, tls=False) as plain:
            soaked = [Soaked("tls", secure), Soaked("cleartext", plain)]
            print(f"seed {arguments.seed}", flush=True)
            print(_row("minute", "server", "answered", "failed", "bad", *BOUNDS), flush=True)
            soak(soaked, arguments)
            warm_up = arguments.minutes * 60 * arguments.warm_up
            faults = [fault for each in soaked for fault in each.faults(warm_up)]
    print("\n".join(faults) or "nothing grows, nothing failed")
    return 1 if faults else 0


def soak(soaked: list[Soaked], arguments: argparse.Namespace) -> None:
    """Round after round of traffic, each with a line of the table at its end."""
    started = time.monotonic()
    rounds = max(3, round(arguments.minutes * 60 / arguments.round))
    for number in range(1, rounds + 1):
        until = started + number * arguments.round
        seed = f"{arguments.seed}/{number}"
        threads = [
            thread for each in soaked for thread in each.clients(arguments.rate, until, seed)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in soaked:
            each.sample(time.monotonic() - started)
            print(each.line(), flush=True)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.long.soak")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument(
        "--rate",
        type=float,
        default=8,
        help="scenarios a second, of good and of bad traffic and on each server (default: 8)",
    )
    parser.add_argument("--round", type=float, default=60, help="seconds (default: 60)")
    parser.add_argument(
        "--warm-up", type=float, default=0.25, help="part of the time to leave out of the slopes"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    return parser.parse_args(arguments)


def _serve(certs: Certs, tls: bool) -> Server:
    quiet = ["--access-logfile", "/dev/null"]
    return Server("tests.long.soak_app:app", certs=certs, tls=tls, args=quiet)


def _repeat(
    run: Callable[[random.Random], None], chosen: random.Random, pause: float, until: float
) -> None:
    """Run one scenario after the other, each ``pause`` seconds after the one before."""
    while (started := time.monotonic()) < until:
        run(chosen)
        time.sleep(max(0.0, min(started + pause, until) - time.monotonic()))


def _row(*cells: str) -> str:
    return " ".join(f"{cell:>11}" for cell in cells)


def _shown(name: str, value: float) -> str:
    return f"{value / MIB:.2f} MiB" if name == "rss" else f"{round(value, 1):g}"


if __name__ == "__main__":
    sys.exit(main())
