"""Thousands of short lives of connections, each at random; afterwards nothing is left of them.

``GUNICORN_TESTS_LONG=1`` makes it twelve thousand; a quarter of them are run otherwise.

A scenario is drawn from its seed; how its threads interleave is not, so a seed
may have to be run again to fail again:

    BOUNDARY_SEED=1234 BOUNDARY_SCENARIOS=1000 pytest tests/boundary/test_interleavings.py

runs that one seed a thousand times.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gunicorn_h2 import http2
from gunicorn_h2.settings import Settings
from tests.boundary.bench import Bench
from tests.boundary.http1_peer import Http1Peer
from tests.boundary.http2_peer import Http2Peer
from tests.boundary.plans import PlannedApp
from tests.support import LONG
from tests.support.boundary import on_loop, thread_stacks

SEED = os.environ.get("BOUNDARY_SEED")
SCENARIOS = int(os.environ.get("BOUNDARY_SCENARIOS", "0"))
#: At a time, on one loop and one pool.
CROWD = 12
#: A wait for a scenario as a whole, which takes milliseconds.
LIMIT = float(os.environ.get("BOUNDARY_LIMIT", "30"))

PROFILES = {
    "defaults": Settings(threads=4),
    "no buffering": Settings(threads=4, high_water_mark=0),
    "narrow": Settings(
        threads=3,
        high_water_mark=1_000,
        transport_high_water_mark=16_384,
        initial_window_size=3_000,
        connection_window_size=65_535,
        max_concurrent_streams=3,
    ),
    "crowded": Settings(threads=1, max_queued_requests=8, connection_window_size=65_535),
}


@pytest.fixture(autouse=True)
def frequent_switches() -> Iterator[None]:
    """Let threads be interrupted at many more places than they would be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("kind", "count"), [("asyncio", 1_900), ("uvloop", 600)])
def test_http2(kind: str, count: int, profile: str) -> None:
    run_crowd(Http2Peer, kind, count, profile)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_http2_taken_in_many_turns(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "_TURN", 0.0)
    run_crowd(Http2Peer, kind, 1_000, "defaults")


@pytest.mark.parametrize("profile", ["defaults", "no buffering", "narrow"])
@pytest.mark.parametrize(("kind", "count"), [("asyncio", 500), ("uvloop", 250)])
def test_http1(kind: str, count: int, profile: str) -> None:
    run_crowd(Http1Peer, kind, count, profile)


def run_crowd(make_peer: Callable[..., Any], kind: str, count: int, profile: str) -> None:
    """Run ``count`` scenarios with one loop and pool, some at a time."""
    app = PlannedApp()
    base = f"{profile}:{kind}"
    count = count if LONG else count // 4
    seeds = iter([int(SEED)] * (SCENARIOS or 1) if SEED else _seeds(base, SCENARIOS or count))

    async def one(seed: int, bench: Bench) -> None:
        peer = make_peer(bench, app, random.Random(seed))
        try:
            await asyncio.wait_for(peer.run(), LIMIT)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}\n{peer!r}\n{thread_stacks()}") from error

    async def some(bench: Bench) -> None:
        for seed in seeds:
            await one(seed, bench)

    async def all_of_them() -> None:
        bench = Bench(asyncio.get_running_loop(), app, PROFILES[profile])
        try:
            await asyncio.gather(*(some(bench) for _ in range(CROWD)))
            await bench.check_pool()
            assert not bench.server.links
            assert not bench.server._requests
            assert not bench.escaped
            assert not app.plans
        finally:
            bench.close()

    on_loop(all_of_them(), kind, limit=600)


def _seeds(base: str, count: int) -> list[int]:
    return [random.Random(f"{base}:{number}").getrandbits(32) for number in range(count)]
