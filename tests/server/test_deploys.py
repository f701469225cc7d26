"""Deploys under load lose no request; `python -m benchmarks.deploys` does this at length."""

from __future__ import annotations

import asyncio

from benchmarks.deploy import clients
from benchmarks.deploy.events import EVENTS, Happenings, repeat
from benchmarks.deploy.load import Tally
from tests.conftest import Serve
from tests.support.server import Server

#: Seconds of load, and between two reloads: the last of them is over before the end.
SECONDS = 6.0
INTERVAL = 2.0


async def deploy(server: Server) -> list[Tally]:
    """Reload again and again under the load of both clients; what became of it."""
    tallies = [Tally(), Tally()]
    reloads = asyncio.create_task(repeat(EVENTS["hup"], server, Happenings(), INTERVAL))
    try:
        await asyncio.gather(
            clients.http2(server, SECONDS, tallies[0]), clients.http1(server, SECONDS, tallies[1])
        )
    finally:
        reloads.cancel()
    return tallies


def test_reloads_under_load_lose_nothing(serve: Serve) -> None:
    server = serve(
        "benchmarks.deploy.app:app", tls=True, workers=2, threads=32, graceful_timeout=20
    )
    for tally in asyncio.run(deploy(server)):
        assert not tally.lost
        assert tally.drained
        assert len(tally.pids) > server.workers, "no worker was replaced"
    assert "ERROR" not in server.log()
