"""The kinds of client: each puts the load on a server for some seconds and fills a tally."""

from __future__ import annotations

import asyncio
import itertools
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from tests.support.server import Server

from . import proxies, raw_http1, raw_http2
from .app import body_of, path_of
from .load import IN_FLIGHT, Fetch, Lost, Request, Tally, run_load

#: Connections of a client that multiplexes.
CONNECTIONS = 20
#: h2load asks for one path and posts one file: those of this request, which takes 27 ms.
_H2LOAD_NUMBER = 26
#: Seconds after which h2load is started anew: what the server took leave of it does
#: not replace, and so a first drain would be its last.
_H2LOAD_SECONDS = 4
_LOG_LINES = 8


@dataclass(frozen=True)
class Client:
    """A kind of client.

    :param run: (server, seconds, tally) -> lines of a log that tell more.
    :param tls: whether the server is to speak TLS.
    """

    run: Callable[[Server, float, Tally], Awaitable[list[str]]]
    tls: bool


async def http2(server: Server, seconds: float, tally: Tally) -> list[str]:
    """Our own frames: see raw_http2.py."""
    async with _clients(CONNECTIONS, raw_http2.Client, server, tally) as fetches:
        await run_load(fetches, seconds, tally)
    return []


async def http1(server: Server, seconds: float, tally: Tally) -> list[str]:
    """HTTP/1.1 with keep-alive, one request on a connection at a time."""
    async with _clients(IN_FLIGHT, raw_http1.Client, server, tally) as fetches:
        await run_load(fetches, seconds, tally)
    return []


@asynccontextmanager
async def _clients(
    count: int, kind: type[raw_http1.Client | raw_http2.Client], server: Server, tally: Tally
) -> AsyncIterator[list[Fetch]]:
    context = None
    if server.tls:
        assert server.certs is not None
        context = server.certs.client_context(["h2" if kind is raw_http2.Client else "http/1.1"])
    clients = [kind(server.port, context, tally) for _ in range(count)]
    try:
        yield [client.fetch for client in clients]
    finally:
        for client in clients:
            await client.close()


async def with_httpx(server: Server, seconds: float, tally: Tally) -> list[str]:
    """httpx, a client for each connection: it would put everything on one.

    It loses what is in flight at the first GOAWAY, whatever a server does: its h2 takes the
    connection for closed then, and refuses the responses that follow.
    """
    assert server.certs is not None
    context = httpx.create_ssl_context(verify=str(server.certs.ca))
    clients = [
        httpx.AsyncClient(http1=False, http2=True, verify=context, base_url=server.url, timeout=20)
        for _ in range(CONNECTIONS)
    ]

    async def fetch(client: httpx.AsyncClient, request: Request) -> tuple[int, bytes]:
        try:
            answer = await client.request(
                request.method, request.path, content=request.body or None
            )
        except Exception as error:
            # Not only httpx.HTTPError: errors of h2 and of anyio come through as well.
            # Their texts name the stream, or the request.
            text = re.sub(r"stream_id:\d+|\b\d+\b", "N", str(error))
            raise Lost(f"{type(error).__name__}: {text}") from None
        return answer.status_code, answer.content

    await run_load([partial(fetch, client) for client in clients], seconds, tally)
    for client in clients:
        await client.aclose()
    return []


async def h2load(server: Server, seconds: float, tally: Tally) -> list[str]:
    """h2load, once for GET and once for POST, since it can do only one of them.

    It repeats nothing, and does not look at the bodies of answers. What it has queued and
    not sent when GOAWAY comes it counts as failed, with the status -1.
    """
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        body = Path(name) / "body"
        body.write_bytes(body_of(_H2LOAD_NUMBER))
        for _ in range(max(1, round(seconds / _H2LOAD_SECONDS))):
            logs = [Path(name) / "get.log", Path(name) / "post.log"]
            runs = zip(logs, ([], [f"--data={body}"]), strict=True)
            outputs = await asyncio.gather(*(_h2load(server, *each) for each in runs))
            _count(logs, tally)
            lines += [output for output in outputs if " 0 failed, 0 errored" not in output]
    return lines


async def _h2load(server: Server, log: Path, more: list[str]) -> str:
    """Run it once; the line in which it counts."""
    url = f"{server.url.replace('127.0.0.1', 'localhost')}{path_of(_H2LOAD_NUMBER)}"
    command = ["h2load", f"--duration={_H2LOAD_SECONDS}", f"--log-file={log}", *more]
    command += [f"--clients={CONNECTIONS // 2}"]
    command += [f"--max-concurrent-streams={IN_FLIGHT // CONNECTIONS}"]
    process = await asyncio.create_subprocess_exec(
        *command, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _H2LOAD_SECONDS + 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    (line,) = re.findall(r"^requests: .*", output.decode(), re.MULTILINE)
    return str(line)


def _count(logs: list[Path], tally: Tally) -> None:
    """Add what h2load has logged: start in microseconds, status, duration."""
    answered = []
    for log in logs:
        for line in log.read_text().splitlines():
            started, status, duration = map(int, line.split()[:3])
            tally.requests += 1
            if status == 200:
                answered.append((started + duration) / 1e6)
            else:
                # -1: the stream ended without a response, or the connection did.
                tally.lost[f"status {status} in the log of h2load"] += 1
    answered.sort()
    gaps = (later - one for one, later in itertools.pairwise(answered))
    tally.longest_gap = max(tally.longest_gap, max(gaps, default=0.0))


@asynccontextmanager
async def _in_thread(
    start: AbstractContextManager[proxies.Proxy],
) -> AsyncIterator[proxies.Proxy]:
    """Start and end a proxy without holding up the loop."""
    proxy = await asyncio.to_thread(start.__enter__)
    try:
        yield proxy
    finally:
        await asyncio.to_thread(start.__exit__, None, None, None)


async def _proxied(
    start: Callable[[int, Path], AbstractContextManager[proxies.Proxy]],
    server: Server,
    seconds: float,
    tally: Tally,
) -> list[str]:
    """HTTP/1.1 with keep-alive to a proxy, which speaks HTTP/2 to the server."""
    with tempfile.TemporaryDirectory() as directory:
        async with _in_thread(start(server.port, Path(directory))) as proxy:
            clients = [raw_http1.Client(proxy.port, None, tally) for _ in range(IN_FLIGHT)]
            await run_load([client.fetch for client in clients], seconds, tally)
            for client in clients:
                await client.close()
            if proxy.retries is not None:
                tally.retried = await asyncio.to_thread(proxy.retries)
            lines = proxy.log.read_text(errors="replace").splitlines()
    return lines[-_LOG_LINES:] if tally.failed else []


CLIENTS: dict[str, Client] = {
    "raw": Client(http2, tls=True),
    "raw-http/1.1": Client(http1, tls=True),
    "h2load": Client(h2load, tls=True),
    "httpx": Client(with_httpx, tls=True),
    "nghttpx": Client(partial(_proxied, proxies.nghttpx), tls=False),
    "haproxy": Client(partial(_proxied, proxies.haproxy), tls=False),
    "haproxy-retry": Client(partial(_proxied, proxies.haproxy_retry), tls=False),
    "caddy": Client(partial(_proxied, proxies.caddy), tls=False),
    "caddy-retry": Client(partial(_proxied, proxies.caddy_retry), tls=False),
    "envoy": Client(partial(_proxied, proxies.envoy), tls=False),
    "envoy-limit": Client(partial(_proxied, proxies.envoy_limit), tls=False),
    "envoy-retry": Client(partial(_proxied, proxies.envoy_retry), tls=False),
}
