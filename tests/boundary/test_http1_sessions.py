"""Races between an HTTP/1.1 connection and the threads that serve it, step by step."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from gunicorn_h2.settings import Settings
from tests.boundary.bench import Bench
from tests.boundary.clients import Body, with_bench
from tests.support.boundary import until, wait

GET = b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"


def test_pipelined_requests_wait_until_the_peer_reads_their_answers() -> None:
    """Or a few kilobytes of requests would have any number of answers held in memory."""
    calls: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "60000")])
        return [b"x" * 60_000]

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET * 100)
        await until(lambda: transport.get_write_buffer_size() > 65_536)
        # As long as it goes on by itself.
        for _ in range(20):
            await until(lambda: not bench.running(link))
            await asyncio.sleep(0)
        assert len(calls) < 8
        received = [0]

        def complete() -> bool:
            received[0] += len(transport.take())
            return len(calls) == 100 and not bench.running(link)

        await until(complete)
        assert received[0] > 100 * 60_000
        assert len(calls) == 100
        transport.disconnect()

    with_bench(app, test)


def test_a_pipelined_request_of_a_peer_that_is_gone_is_not_run() -> None:
    calls: list[str] = []
    gate = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "2")])
        return Body([b"ok"], lambda: wait(gate))

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET * 5)
        # The response is complete when the peer goes, and its thread has nothing
        # more to read or to write that could tell it so.
        await until(lambda: transport.get_write_buffer_size() > 0)
        transport.disconnect()
        await until(lambda: transport.lost)
        gate.set()
        await until(lambda: not bench.running(link))
        assert len(calls) == 1

    with_bench(app, test)


def test_no_100_continue_in_the_middle_of_an_http1_response() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        yield b"begun "
        yield environ["wsgi.input"].read()

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(
            b"POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        received = bytearray()
        await until(lambda: received.__iadd__(transport.take()).endswith(b"begun "))
        transport.send(b"body")
        await until(lambda: received.__iadd__(transport.take()).endswith(b"body"))
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"100" not in received
        await until(lambda: not bench.running(link))
        transport.disconnect()

    with_bench(app, test)


def test_with_a_mark_of_0_a_100_continue_does_not_count_as_response() -> None:
    written = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read()
        write = start_response("200 OK", [("Content-Length", "2")])
        write(b"ok")
        written.set()
        return []

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(
            b"POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        await until(lambda: transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n")
        session: Any = link._session
        exchange = session._exchange
        assert exchange._sent == exchange._written == 0
        transport.send(b"body")
        await until(lambda: b"200 OK" in transport.take())
        await until(written.is_set)
        await until(lambda: not bench.running(link))
        transport.disconnect()

    with_bench(app, test, settings=Settings(threads=1, high_water_mark=0))


def test_a_drained_connection_closes_though_its_request_took_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gunicorn_h2.http1._LINGER", 0.01)
    gate = threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ok"
        wait(gate)

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET)
        await until(lambda: transport.get_write_buffer_size() > 0)
        link.drain()
        # Later than the moment at which an idle connection would have been closed.
        passed = asyncio.Event()
        bench.loop.call_later(0.05, passed.set)
        await passed.wait()
        assert not transport.is_closing()
        gate.set()
        transport.take()
        await until(lambda: transport.ended or transport.lost)

    with_bench(app, test, keepalive=3_600)
