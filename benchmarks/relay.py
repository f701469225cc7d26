"""A relay that makes a path on loopback as long as one through the world.

    python -m benchmarks.relay PORT UPSTREAM_PORT MILLISECONDS MEGABITS

What arrives is passed on so many milliseconds later, in both directions, at so many
megabits a second ("inf" for any rate): there is neither loss nor TCP's slow start. A
sender is held back by what its protocol makes it wait for, and by nothing else.
"""

from __future__ import annotations

import asyncio
import sys


class _End(asyncio.Protocol):
    """One end: whatever it is sent comes out of the other end, later."""

    def __init__(self, delay: float, rate: float) -> None:
        self._delay = delay
        self._rate = rate
        #: When all that was passed on will have left.
        self._idle_at = 0.0
        self.other: _End | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.other is not None and self.other.transport is not None
        loop = asyncio.get_running_loop()
        self._idle_at = max(self._idle_at, loop.time()) + len(data) / self._rate
        loop.call_at(self._idle_at + self._delay, self.other.transport.write, data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            loop = asyncio.get_running_loop()
            left_at = max(self._idle_at, loop.time())
            loop.call_at(left_at + self._delay, self.other.transport.close)


class _Front(_End):
    """The end at the client, which connects the other one to the server."""

    def __init__(self, delay: float, rate: float, upstream: int) -> None:
        super().__init__(delay, rate)
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
        self.other = _End(self._delay, self._rate)
        self.other.other = self
        await asyncio.sleep(self._delay)
        await loop.create_connection(lambda: self.other, "127.0.0.1", self._upstream)
        self.transport.resume_reading()


async def main(port: int, upstream: int, delay: float, rate: float) -> None:
    """Relay until interrupted.

    :param delay: seconds, each way.
    :param rate: bytes a second, each way.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Front(delay, rate, upstream), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    milliseconds, megabits = map(float, sys.argv[3:5])
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), milliseconds / 1000, megabits * 125_000))
