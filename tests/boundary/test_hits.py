"""A connection is hit before every single line that a thread runs for its request.

Whatever hits it, the thread is let go, and what can still be answered is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from h2.events import StreamEnded

from gunicorn_h2.settings import Settings
from tests.boundary.bench import Bench, MemoryTransport
from tests.boundary.clients import Client, with_bench
from tests.boundary.pausing import Pause
from tests.boundary.test_lost_wakeups import TOO_MANY, turn
from tests.support.boundary import HANG


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """Reads in parts, and writes more than fits under the mark, before and after."""
    head = environ["wsgi.input"].read(3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield head
    yield b"x" * 300
    yield environ["wsgi.input"].read()


SETTINGS = Settings(threads=2, high_water_mark=100)
#: After these a body that is not complete will never be.
FINAL = ("disconnect", "eof", "reset", "deadlines")
CASES = [
    *((event, True) for event in (*FINAL, "drain", "more")),
    *((event, False) for event in FINAL),
]


class Hit:
    """What happens to a connection while a thread stands still."""

    def __init__(self, bench: Bench, pause: Pause, event: str, complete: bool) -> None:
        bench.worker.wsgi = pause_app(pause)
        self.bench = bench
        self.pause = pause
        self.event = event
        self.body = b"body" if complete else b"bod"

    async def run(self) -> None:
        """Begin a request, hit it when its thread gets there, and let the thread go on."""
        link, transport = self.connect()
        while self.bench.running(link) and not self.pause.reached.is_set():
            exchange = self.exchange(link._session)
            if exchange is not None and exchange._waiting_since is not None:
                # It waits for the rest of the body.
                break
            self.receive()
            await asyncio.sleep(0)
        self.hit(link, transport)
        await turn()
        self.pause.let_go.set()
        while self.bench.running(link) or not self.complete():
            self.receive()
            if self.event == "deadlines":
                # It was not waiting yet when it was hit.
                self.hit(link, transport)
            await asyncio.sleep(0)
        transport.disconnect()

    def hit(self, link: Any, transport: MemoryTransport) -> None:
        match self.event:
            case "disconnect":
                transport.disconnect()
            case "eof":
                transport.send_eof()
            case "deadlines":
                link.tick(link.server.now() + 3_600)
            case "drain":
                link.drain()
            case "reset":
                self.reset()
            case "more":
                self.ask_more()

    def connect(self) -> tuple[Any, MemoryTransport]:
        raise NotImplementedError

    def exchange(self, session: Any) -> Any:
        """The request's exchange, or None once it is over."""
        raise NotImplementedError

    def receive(self) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        raise NotImplementedError

    def ask_more(self) -> None:
        raise NotImplementedError

    def complete(self) -> bool:
        """Whether all that is to be answered is."""
        raise NotImplementedError


class Http2Hit(Hit):
    def connect(self) -> tuple[Any, MemoryTransport]:
        self.client = Client(self.bench)
        self.client.request(method="POST")
        self.client.h2.send_data(1, self.body, end_stream=len(self.body) == 4)
        self.client.flush()
        return self.client.link, self.client.transport

    def exchange(self, session: Any) -> Any:
        stream = session._connection.streams.get(1)
        return None if stream is None else stream.exchange

    def receive(self) -> None:
        if self.event in ("more", "reset"):
            self.client.receive()
        else:
            # h2 takes GOAWAY for the end of everything.
            self.client.transport.take()

    def reset(self) -> None:
        if not self.client.has(StreamEnded):
            self.client.h2.reset_stream(1)
            self.client.flush()

    def ask_more(self) -> None:
        self.client.request()

    def complete(self) -> bool:
        session: Any = self.client.link._session
        done = session is None or session._connection.streams == {}
        return done and (self.event != "more" or self.client.has(StreamEnded, 3))


class Http1Hit(Hit):
    def connect(self) -> tuple[Any, MemoryTransport]:
        self.link, self.transport = self.bench.connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
        self.transport.send(head + self.body)
        self.received = bytearray()
        return self.link, self.transport

    def exchange(self, session: Any) -> Any:
        return session._exchange

    def receive(self) -> None:
        self.received += self.transport.take()

    def ask_more(self) -> None:
        self.transport.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")

    def complete(self) -> bool:
        session: Any = self.link._session
        answers = self.received.count(b"\r\n0\r\n\r\n")
        done = session is None or session._exchange is None
        return done and (self.event != "more" or answers == 2)


@pytest.mark.parametrize(
    ("kind", "event", "complete"),
    [
        (kind, event, complete)
        for kind in (Http1Hit, Http2Hit)
        for event, complete in CASES
        if kind is Http2Hit or event != "reset"
    ],
)
def test_a_request_lets_its_thread_go_whenever_it_is_hit(
    kind: type[Hit], event: str, complete: bool
) -> None:
    async def hit(bench: Bench, pause: Pause) -> None:
        await kind(bench, pause, event, complete).run()

    run_hits(hit)


def pause_app(pause: Pause) -> Callable[..., Any]:
    """The application, whose thread is under observation once it is called."""

    def observed(environ: dict[str, Any], start_response: Any) -> Any:
        pause.watch_caller()
        return app(environ, start_response)

    return observed


def run_hits(hit: Callable[[Bench, Pause], Awaitable[None]]) -> None:
    """Run ``hit`` with its pause before each line that serves a request."""

    async def test(bench: Bench) -> None:
        for at in range(TOO_MANY):
            pause = Pause(at)
            try:
                await asyncio.wait_for(hit(bench, pause), HANG)
                await bench.check_pool()
            except BaseException as error:
                raise AssertionError(f"hit before {pause.where}: {error!r}") from error
            finally:
                pause.let_go.set()
            assert bench.escaped == []
            if not pause.reached.is_set():
                return
        raise AssertionError("the scenario does not end")

    with_bench(app, test, settings=SETTINGS)
