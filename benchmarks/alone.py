"""What is measured of gunicorn_h2 alone: how it scales, what it costs, how it does far away."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.proc import rss

from .h2load import Load, check, requests_per_second
from .processes import free_port, running
from .report import Figure
from .servers import Target, gunicorn

THREADS = 16
_STREAMS = (1, 10, 100)
_CONNECTIONS = (10, 100, 1_000)
_IDLE_CONNECTIONS = 500
_LONG_UPLOAD = 10 * (1 << 20)
#: Each way, in milliseconds.
_DELAY = 25
#: The last tenth begins after more than a million.
_ENDURANCE_REQUESTS = 1_200_000

#: A value for each row of each figure.
Values = dict[Figure, dict[str, float]]
Measure = Callable[[Certs, float, Path], Values]


def scaling(certs: Certs, seconds: float, _: Path) -> Values:
    """Small requests, by streams a connection and by connections."""
    loads = {f"1 connection, {streams} streams": Load(1, streams) for streams in _STREAMS}
    for connections in _CONNECTIONS:
        loads[f"{connections} connections, 1 stream"] = Load(connections, 1)
    rates = {}
    with gunicorn(certs, THREADS) as server:
        for name, load in loads.items():
            rates[name] = requests_per_second(server.url, load, seconds)
    return {Figure("GET of 13 bytes, as it scales", "req/s"): rates}


def workers(certs: Certs, seconds: float, _: Path) -> Values:
    """Small requests, by the number of worker processes."""
    rates = {}
    for count in (1, 2):
        with gunicorn(certs, THREADS, workers=count) as server:
            rate = requests_per_second(server.url, Load(10, 10), seconds)
        rates[f"{count} worker{'s' if count > 1 else ''}"] = rate
    return {
        Figure(f"GET of 13 bytes, c10 m10, {os.cpu_count()} cores with h2load's", "req/s"): rates
    }


def memory(certs: Certs, _: float, directory: Path) -> Values:
    """What an idle connection over TLS costs, here after a request, and where nothing is done."""
    values = {}
    for loop in ("asyncio", "uvloop"):
        if importlib.util.find_spec(loop):
            values[f"gunicorn_h2 on {loop}"] = _idle_memory(certs, loop)
            values[f"{loop} and TLS"] = _bare_idle_memory(certs, loop, directory)
    title = f"memory of one of {_IDLE_CONNECTIONS} idle TLS connections"
    return {Figure(title, "KB", higher_is_better=False): values}


def _idle_memory(certs: Certs, loop: str) -> float:
    """KB that the worker holds for one that had a request."""
    env = {"GUNICORN_H2_LOOP": loop}
    with gunicorn(certs, THREADS, env=env) as server, contextlib.ExitStack() as stack:

        def connect() -> None:
            client = stack.enter_context(RawClient(server).greet())
            assert client.request(path="/hello").status == 200

        return _growth(connect, server.worker_pid)


def _bare_idle_memory(certs: Certs, loop: str, directory: Path) -> float:
    """KB that a program holds which accepts and does no more."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.idle_tls", str(port)]
    command += [str(certs.cert), str(certs.key), loop]
    context = certs.client_context()
    with running(command, port, directory) as program, contextlib.ExitStack() as stack:
        target = Target(port, certs)

        def connect() -> None:
            plain = target.connect(None, timeout=10)
            stack.enter_context(context.wrap_socket(plain, server_hostname="localhost"))

        return _growth(connect, program.pid)


def _growth(connect: Callable[[], None], pid: int) -> float:
    """KB that a process takes for each of many connections, but for the first."""
    connect()
    before = rss(pid)
    for _ in range(_IDLE_CONNECTIONS):
        connect()
    return (rss(pid) - before) / 1024 / _IDLE_CONNECTIONS


def long_path(certs: Certs, _: float, directory: Path) -> Values:
    """An upload to a server that is far away, by HTTP/2 and by HTTP/1.1."""
    values: Values = {}
    with gunicorn(certs, THREADS) as server:
        for megabits, rate in (("100", "100 Mbit/s"), ("inf", "any rate")):
            port = free_port()
            command = [sys.executable, "-m", "benchmarks.relay", str(port), str(server.port)]
            command += [str(_DELAY), megabits]
            title = f"POST of 10 MB over a path of {2 * _DELAY} ms there and back, at {rate}"
            with running(command, port, directory):
                values[Figure(title, "s", higher_is_better=False)] = {
                    name: _upload(port, certs, http2=http2)
                    for name, http2 in (("HTTP/2", True), ("HTTP/1.1", False))
                }
    return values


def _upload(port: int, certs: Certs, *, http2: bool) -> float:
    """Seconds on a warm connection."""
    with httpx.Client(
        http1=not http2,
        http2=http2,
        verify=httpx.create_ssl_context(verify=str(certs.ca)),
        base_url=f"https://127.0.0.1:{port}",
        timeout=60,
    ) as client:
        client.get("/hello").raise_for_status()
        start = time.perf_counter()
        response = client.post("/upload", content=bytes(_LONG_UPLOAD))
        elapsed = time.perf_counter() - start
    assert response.text == str(_LONG_UPLOAD)
    assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    return elapsed


def endurance(certs: Certs, _: float, __: Path) -> Values:
    """The worker's CPU time for a request, at first and after a million on the same connections."""
    with gunicorn(certs, THREADS) as server:
        command = Load(10, 10).command(server.url, "-n", str(_ENDURANCE_REQUESTS))
        pid = server.worker_pid
        marks = [_cpu_seconds(pid)]
        output = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as h2load:
            assert h2load.stdout is not None
            # A line for every tenth of the requests, as soon as it is done.
            for line in h2load.stdout:
                output.append(line)
                if line.endswith("% done\n"):
                    marks.append(_cpu_seconds(pid))
        check("".join(output))
    tenth = _ENDURANCE_REQUESTS / 10
    microseconds = {
        "the first 120,000": (marks[1] - marks[0]) / tenth * 1e6,
        "after 1,080,000": (marks[-1] - marks[-2]) / tenth * 1e6,
    }
    title = f"CPU time of a GET of 13 bytes among {_ENDURANCE_REQUESTS:,} on 10 connections"
    return {Figure(title, "µs", higher_is_better=False): microseconds}


def _cpu_seconds(pid: int) -> float:
    """The time that a process has spent on a processor, in user and in system mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


MEASURES: dict[str, Measure] = {
    "scaling": scaling,
    "workers": workers,
    "memory": memory,
    "long-path": long_path,
}
