"""What a hostile peer costs: ours beside Gunicorn's gthread and Hypercorn, in the same run.

    python -m benchmarks.hostile

Each recipe has a server of its own, over TLS on loopback. Printed are how much the
server's memory grew, how long others waited meanwhile (99th percentile of a fresh
connection with one small request; "never" where one got no answer in 10 s), and whether
the server put an end to the peer's connection.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import gunicorn

from tests.hostile.peers import reading_nothing, wide_open
from tests.hostile.watch import Neighbour, crowd
from tests.support import proc, wire
from tests.support.certs import make_certs
from tests.support.frames import RawClient
from tests.support.rawconn import NothingArrived, ServerClosed
from tests.support.server import Server
from tests.support.wire import FrameType, Setting

from .servers import CONTESTANTS, OURS, Target

SERVERS = (OURS, "Gunicorn gthread", "Hypercorn")
THREADS = 8
#: Seconds that a recipe goes on which has nothing more to send.
PATIENCE = 3.0
WAIT_LIMIT = 10.0


# -- recipes: True if the server has put an end to it ------------------------------------------


def stopped(client: RawClient) -> bool:
    """Whether the server closes the connection before long."""
    try:
        client.want_closed(timeout=PATIENCE)
    except NothingArrived:
        return False
    return True


def huge_frames(server: Server) -> bool:
    """Row 5: 20 peers announce 16 MB each, and send one."""
    with crowd(server, 20) as clients:
        for client in clients:
            client.headers(1, method="POST", path="/upload", end_stream=False)
            client.try_write(wire.frame(FrameType.DATA, 0, 1, bytes(1 << 20), length=2**24 - 1))
        return all(stopped(client) for client in clients)


def unknown_settings(server: Server) -> bool:
    """Row 6: 64,000 settings that nobody knows."""
    frames = [
        wire.settings_frame([(0x1000 + 32 * number % 0xE000 + each, 1) for each in range(32)])
        for number in range(2_000)
    ]
    with RawClient(server).greet() as client:
        client.try_write(b"".join(frames))
        return stopped(client)


def huge_header_table(server: Server) -> bool:
    """Row 8: a header table of 4 GB, and 2,000 requests."""
    with RawClient(server).greet({Setting.HEADER_TABLE_SIZE: 2**32 - 1}) as client:
        for _ in range(40):
            first = client.next_stream_id
            stream_ids = range(first, first + 100, 2)
            for stream_id in stream_ids:
                client.headers(stream_id, path="/hello")
            client.responses(stream_ids)
    return False


def rapid_reset(server: Server) -> bool:
    """Row 14: 10,000 requests that are cancelled at once."""
    with RawClient(server).greet() as client:
        frames = []
        for stream_id in range(1, 20_001, 2):
            block = client.encode(client.request_fields(path="/hello"))
            frames.append(wire.headers_frames(stream_id, block) + wire.rst_stream_frame(stream_id))
        client.try_write(b"".join(frames))
        return stopped(client)


def closed_windows(server: Server) -> bool:
    """Row 17: 100 responses of a megabyte, and no window for any of them."""
    with reading_nothing(server) as client:
        for stream_id in range(1, 200, 2):
            client.headers(stream_id, path="/1mb")
        return stopped(client)


def unread_socket(server: Server) -> bool:
    """Row 18: 100 responses of a megabyte, every window open, nothing read."""
    with wide_open(server) as client:
        for stream_id in range(1, 200, 2):
            client.headers(stream_id, path="/1mb")
        time.sleep(PATIENCE)
    return False


RECIPES: list[Callable[[Server], bool]] = [
    huge_frames,
    unknown_settings,
    huge_header_table,
    rapid_reset,
    closed_windows,
    unread_socket,
]


def measure(target: Target, recipe: Callable[[Server], bool]) -> str:
    """Run a recipe; its line of the table."""
    server = cast(Server, target)
    assert target.pid is not None
    warm = Neighbour(server, WAIT_LIMIT)
    for _ in range(10):
        warm.ask()
    before = most = proc.rss(target.pid)
    neighbour = Neighbour(server, WAIT_LIMIT)
    neighbour.start()
    ended = False
    with contextlib.suppress(ServerClosed, NothingArrived, TimeoutError):
        ended = recipe(server)
    most = max(most, proc.rss(target.pid))
    try:
        waited = f"{neighbour.stop() * 1e3:.0f} ms"
    except AssertionError:
        waited = "never"
    growth = (most - before) / (1 << 20)
    return f"{growth:8.1f} MB {waited:>10} {'stopped' if ended else 'went on'}"


def main() -> None:
    """Measure and print a table."""
    print(f"gunicorn {gunicorn.__version__}, one worker, {THREADS} threads, TLS")
    with tempfile.TemporaryDirectory() as directory:
        certs = make_certs(Path(directory))
        for recipe in RECIPES:
            print(recipe.__doc__)
            for label in SERVERS:
                with CONTESTANTS[label].start(certs, THREADS, Path(directory)) as target:
                    print(f"    {label:22} {measure(target, recipe)}", flush=True)


if __name__ == "__main__":
    main()
