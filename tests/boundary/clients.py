"""A server on a loop in memory, an HTTP/2 client for it, and what applications return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.settings import SettingCodes

from gunicorn_h2.settings import Settings
from tests.boundary.bench import Bench
from tests.support.boundary import on_loop

App = Callable[[dict[str, Any], Callable[..., Any]], Any]
FIELDS = [(":scheme", "http"), (":authority", "example.test")]


class Client:
    """An HTTP/2 client on a connection in memory; it gives no credit unless told."""

    def __init__(self, bench: Bench, window: int | None = None) -> None:
        self.bench = bench
        self.link, self.transport = bench.connect()
        # What it sends may be wrong, if a test wants that.
        config = H2Configuration(header_encoding="latin-1", validate_outbound_headers=False)
        self.h2 = H2Connection(config)
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[Event] = []
        self.flush()

    def request(self, path: str = "/", method: str = "GET", **fields: str) -> int:
        """Send a request's head; GET and HEAD have no body."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), *FIELDS, *fields.items()]
        self.h2.send_headers(stream_id, head, end_stream=method != "POST")
        self.flush()
        return stream_id

    def flush(self) -> None:
        self.transport.send(self.h2.data_to_send())

    def receive(self, answer: bool = True) -> None:
        """Read everything that has come; ACK what is to be ACKed unless told not to."""
        self.events += self.h2.receive_data(self.transport.take())
        if answer:
            self.flush()

    def has(self, kind: type[Any], stream_id: int = 1) -> bool:
        """Whether an event has come for the stream."""
        self.receive()
        return bool(self.of(kind, stream_id))

    def of(self, kind: type[Any], stream_id: int = 1) -> list[Any]:
        """The events of a kind that have come for the stream."""
        return [e for e in self.events if isinstance(e, kind) and e.stream_id == stream_id]

    @property
    def idle(self) -> bool:
        """Whether no thread has a request of this connection."""
        return not self.bench.running(self.link)


def with_bench(
    app: App,
    test: Callable[[Bench], Any],
    kind: str = "asyncio",
    settings: Settings | None = None,
    **config: Any,
) -> None:
    """Run a test with a server for ``app``; in the end no thread may be busy."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(loop, app, settings or Settings(threads=4), **config)
        try:
            await test(bench)
            await bench.check_pool()
        finally:
            bench.close()

    on_loop(scenario(), kind)


class Body:
    """A response body whose `close` is the application's."""

    def __init__(self, parts: Iterable[bytes], close: Callable[[], Any]) -> None:
        self._parts = parts
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)
