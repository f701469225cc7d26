"""A relay that makes a path on loopback as long as one through the world.

    python -m benchmarks.relay PORT UPSTREAM_PORT [MILLISECONDS]

What arrives is passed on so many milliseconds later, in both directions, at any rate:
it adds latency, and neither loss nor TCP's slow start. A sender is held back by what
its protocol makes it wait for, and by nothing else.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: Each way.
DELAY = 0.025


class _End(asyncio.Protocol):
    """One end: whatever it is sent comes out of the other end, later."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.other is not None and self.other.transport is not None
        asyncio.get_running_loop().call_later(self._delay, self.other.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            asyncio.get_running_loop().call_later(self._delay, self.other.transport.close)


class _Front(_End):
    """The end at the client, which connects the other one to the server."""

    def __init__(self, delay: float, upstream: int) -> None:
        super().__init__(delay)
        self._upstream = upstream
        self._connecting: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._connecting = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        self.other = _End(self._delay)
        self.other.other = self
        await asyncio.sleep(self._delay)
        await loop.create_connection(lambda: self.other, "127.0.0.1", self._upstream)
        self.transport.resume_reading()


@asynccontextmanager
async def relay(upstream: int, delay: float = DELAY, port: int = 0) -> AsyncIterator[int]:
    """Relay to a port on loopback until the block ends; the relay's own port."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Front(delay, upstream), "127.0.0.1", port)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def main(port: int, upstream: int, delay: float) -> None:
    """Relay until interrupted."""
    async with relay(upstream, delay, port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    milliseconds = float(sys.argv[3]) if len(sys.argv) > 3 else 1000 * DELAY
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), milliseconds / 1000))
