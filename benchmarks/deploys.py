"""What a deploy costs: requests lost while the workers are replaced again and again under load.

    python -m benchmarks.deploys [--event EVENT]... [--client CLIENT]... [--seconds N]

200 requests are in flight all the time, half of them GETs and half POSTs of 10 KB,
over 20 connections (of HTTP/1.1: 200), and take 5 to 50 ms in an application that
checks what it was sent. Two workers with 32 threads each serve them: with 100 requests
for each worker, every one is busy and some always wait for a thread, which is what a
drain must not lose. The proxies are described in benchmarks/deploy/proxies.py.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import gunicorn

from benchmarks.deploy.clients import CLIENTS
from benchmarks.deploy.drops import MARGIN, drop_many
from benchmarks.deploy.events import EVENTS, Happenings, repeat
from benchmarks.deploy.load import Tally
from tests.support.certs import Certs, make_certs
from tests.support.server import Server

APPLICATION = "benchmarks.deploy.app:app"
WORKERS = {
    "h2": ("gunicorn_h2.H2Worker", []),
    "gthread": ("gthread", ["--http-protocols", "h2,h1"]),
}
GRACEFUL_TIMEOUT = 10
COLUMNS = (
    *("event", "worker", "client", "requests"),
    *("lost", "retried", "drained", "workers", "gap, ms"),
)
ROW = "{:13} {:8} {:14} {:>8} {:>6} {:>7} {:>7} {:>7} {:>9}"


async def run(
    event_name: str, worker: str, client_name: str, seconds: float, certs: Certs
) -> tuple[Tally, Happenings, list[str]]:
    """One event under one client's load."""
    event, client = EVENTS[event_name], CLIENTS[client_name]
    worker_class, args = WORKERS[worker]
    tally, happenings = Tally(), Happenings()
    with Server(
        APPLICATION,
        worker_class=worker_class,
        tls=client.tls,
        certs=certs,
        workers=2,
        threads=32,
        graceful_timeout=GRACEFUL_TIMEOUT,
        args=[*args, *event.args],
        python=event.python,
    ) as server:
        repeating = asyncio.create_task(repeat(event, server, happenings))
        try:
            lines = await client.run(server, seconds, tally)
        finally:
            repeating.cancel()
        await asyncio.gather(repeating, return_exceptions=True)
    faults = [line for line in server.log().splitlines() if "[ERROR]" in line or "cutting" in line]
    return tally, happenings, [*lines, *faults[:5]]


def show(tally: Tally, happenings: Happenings, lines: list[str]) -> None:
    """Print what there is to say below a row of the table."""
    for reason, count in tally.lost.most_common(6):
        print(f"    {count} x {reason}")
    if happenings.killed:
        outside = Counter(tally.lost_by_pid)
        for pid in happenings.killed:
            del outside[pid]
        print(f"    lost outside the killed workers: {sum(outside.values())}")
    for line in lines:
        print(f"    | {line[:200]}")


def drops(worker: str) -> None:
    """Run the event that has no answers to count, and print what it found."""
    worker_class, args = WORKERS[worker]
    with Server(
        APPLICATION,
        worker_class=worker_class,
        workers=2,
        threads=32,
        graceful_timeout=GRACEFUL_TIMEOUT,
        args=args,
    ) as server:
        findings = drop_many(server)
        log = server.log()
    allowed = GRACEFUL_TIMEOUT + MARGIN
    print(
        f"drops         {worker:8} {findings.dropped} connections dropped, {len(findings.ends)}"
        f" workers replaced; ended within {max(findings.ends):.1f} s (allowed: {allowed:g} s);"
        f" left over: {findings.descriptors} descriptors, {findings.threads} threads;"
        f" log lines of WARNING and above: {len(re.findall('(WARNING|ERROR|CRITICAL)', log))};"
        f" ended by the server first: {dict(findings.errors)}"
    )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--event", action="append", choices=[*EVENTS, "drops"])
    parser.add_argument("--client", action="append", choices=CLIENTS)
    parser.add_argument("--worker", action="append", choices=WORKERS)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    # asyncio warns of every write to a peer that was killed.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    # However it is ended, the server and the proxies end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    print(f"gunicorn {gunicorn.__version__}, 2 workers of 32 threads, {options.seconds:g} s a row")
    print(ROW.format(*COLUMNS))
    with tempfile.TemporaryDirectory() as directory:
        certs = make_certs(Path(directory))
        for event in options.event or ["hup"]:
            for worker in options.worker or ["h2"]:
                if event == "drops":
                    drops(worker)
                    continue
                for client in options.client or CLIENTS:
                    tally, happenings, lines = asyncio.run(
                        run(event, worker, client, options.seconds, certs)
                    )
                    figures = (tally.requests, tally.failed, tally.retried, tally.drained)
                    more = (len(tally.pids), round(tally.longest_gap * 1000))
                    print(ROW.format(event, worker, client, *figures, *more), flush=True)
                    show(tally, happenings, lines)


if __name__ == "__main__":
    main()
