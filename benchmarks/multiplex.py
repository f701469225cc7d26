"""What multiplexing is worth: requests that share one connection, ours beside Gunicorn's gthread.

    python -m benchmarks.multiplex [--rounds N]

Both servers run in turn on loopback, over TLS, with the same application; every
figure is the median of the rounds. The times are those of a client (httpx).
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import gunicorn
import httpx

from tests.support.certs import Certs, make_certs
from tests.support.server import Server

APPLICATION = "benchmarks.apps:app"


async def eight_sleeps(client: httpx.AsyncClient) -> float:
    """Seconds until eight requests that sleep 0.5 s each are answered."""
    start = time.perf_counter()
    await asyncio.gather(*(client.get("/sleep?s=0.5") for _ in range(8)))
    return time.perf_counter() - start


async def small_behind_slow(client: httpx.AsyncClient) -> float:
    """Seconds until a small request is answered that was sent after one of 2 s."""
    slow = asyncio.create_task(client.get("/sleep?s=2"))
    await asyncio.sleep(0.2)
    start = time.perf_counter()
    await client.get("/hello")
    elapsed = time.perf_counter() - start
    await slow
    return elapsed


async def hundred_resources(client: httpx.AsyncClient) -> float:
    """Seconds until a page's 100 resources of 20 ms each are answered."""
    start = time.perf_counter()
    responses = await asyncio.gather(*(client.get("/sleep?s=0.02") for _ in range(100)))
    elapsed = time.perf_counter() - start
    for response in responses:
        response.raise_for_status()
    return elapsed


Scenario = Callable[[httpx.AsyncClient], Awaitable[float]]

SCENARIOS: dict[str, Scenario] = {
    "8 x 0.5 s": eight_sleeps,
    "small request behind one of 2 s": small_behind_slow,
    "100 x 20 ms": hundred_resources,
}

SERVERS: dict[str, tuple[str, list[str]]] = {
    "gunicorn_h2.H2Worker, 8 threads": ("gunicorn_h2.H2Worker", []),
    "gunicorn_h2.H2Worker, 32 threads": ("gunicorn_h2.H2Worker", ["--threads", "32"]),
    "gthread, 32 threads": ("gthread", ["--threads", "32", "--http-protocols", "h2,h1"]),
}


async def measure(url: str, certs: Certs, scenario: Scenario, rounds: int) -> float:
    """The median of ``rounds`` runs, each on a warm connection of its own, in seconds."""
    times = []
    for _ in range(rounds):
        context = httpx.create_ssl_context(verify=str(certs.ca))
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(
            http1=False, http2=True, verify=context, base_url=url, limits=limits, timeout=60
        ) as client:
            response = await client.get("/hello")
            assert response.http_version == "HTTP/2"
            times.append(await scenario(client))
    return statistics.median(times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"gunicorn {gunicorn.__version__}, one worker, one TLS connection, {rounds} rounds")
    with tempfile.TemporaryDirectory() as directory:
        certs = make_certs(Path(directory))
        for label, (worker_class, args) in SERVERS.items():
            with Server(
                APPLICATION, worker_class=worker_class, tls=True, certs=certs, args=args
            ) as server:
                for name, scenario in SCENARIOS.items():
                    seconds = asyncio.run(measure(server.url, certs, scenario, rounds))
                    print(f"{label:34} {name:34} {seconds * 1000:8.1f} ms", flush=True)


if __name__ == "__main__":
    main()
