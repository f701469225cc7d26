"""What open event streams cost short requests, with a pool that grows (`h2_max_threads`).

    python -m benchmarks.event_streams [--streams N] [--requests N] [--threads N]

One worker over TLS. Short requests are made one after another on a connection of their
own, first alone, then beside N streams with an event a second each, ten to a connection.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path

from hyperframe.frame import DataFrame

from tests.support.certs import make_certs
from tests.support.frames import RawClient
from tests.support.server import Server

_STREAMS_PER_CONNECTION = 10


def latencies(server: Server, count: int) -> list[float]:
    """Milliseconds that each of ``count`` short requests takes, in ascending order."""
    times = []
    with RawClient(server).greet() as client:
        for number in range(count):
            start = time.perf_counter()
            assert client.request(path="/hello", stream_id=2 * number + 1).status == 200
            times.append(1000 * (time.perf_counter() - start))
    return sorted(times)


def open_streams(server: Server, count: int, stack: contextlib.ExitStack) -> None:
    """Open ``count`` streams and see the first event of each."""
    clients = []
    for first in range(0, count, _STREAMS_PER_CONNECTION):
        client = stack.enter_context(RawClient(server).greet())
        size = min(_STREAMS_PER_CONNECTION, count - first)
        for number in range(size):
            client.headers(2 * number + 1, path="/events")
        clients.append((client, size))
    for client, size in clients:
        heard: set[int] = set()
        while len(heard) < size:
            frame = client.read_frame(timeout=60)
            if isinstance(frame, DataFrame):
                heard.add(frame.stream_id)


def show(what: str, times: list[float]) -> None:
    """Print a row."""
    p99 = times[int(0.99 * len(times))]
    print(f"{what:32} {statistics.median(times):8.2f} {p99:8.2f}", flush=True)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--threads", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        server = stack.enter_context(
            Server(
                "benchmarks.apps:app",
                tls=True,
                certs=make_certs(Path(directory)),
                threads=args.threads,
                graceful_timeout=1,
                env={"GUNICORN_H2_MAX_THREADS": str(args.threads + args.streams + 16)},
            )
        )
        latencies(server, 100)
        rss, threads = server.rss(), server.thread_count()
        print(f"{'short requests':32} {'p50 ms':>8} {'p99 ms':>8}")
        show("alone", latencies(server, args.requests))
        start = time.perf_counter()
        open_streams(server, args.streams, stack)
        took = time.perf_counter() - start
        show(f"beside {args.streams} event streams", latencies(server, args.requests))
        show("beside them, again", latencies(server, args.requests))
        print(
            f"{args.streams} streams were open after {took:.1f} s and cost"
            f" {(server.rss() - rss) / 1024:,.0f} KB of memory"
            f" and {server.thread_count() - threads} threads"
        )


if __name__ == "__main__":
    main()
