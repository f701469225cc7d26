"""An HTTP/1.1 client with keep-alive, for the load; it repeats nothing.

RFC 9112 section 9.3.1 would allow it to repeat a GET whose connection was closed;
a server or a proxy that drains rightly gives it no reason to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl

from .load import Lost, Request, Tally, pid_of


class Client:
    """Fetches over one connection at a time, one request after the other."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, tally: Tally) -> None:
        self._port = port
        self._tls = tls
        self._tally = tally
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        #: The worker at the other end, once it has answered.
        self._pid = 0

    async def fetch(self, request: Request) -> tuple[int, bytes]:
        """Make one request: see `load.Fetch`."""
        if self._streams is None or self._streams[0].at_eof():
            await self.close()
            self._streams = await asyncio.open_connection(
                "127.0.0.1",
                self._port,
                ssl=self._tls,
                server_hostname="localhost" if self._tls is not None else None,
            )
        try:
            return await self._exchange(request, *self._streams)
        except BaseException as error:
            # It may be cancelled: nothing to be waited for.
            self._streams[1].transport.abort()
            self._streams = None
            if isinstance(error, (OSError, asyncio.IncompleteReadError)):
                raise Lost(f"{type(error).__name__}: {error}", self._pid) from None
            raise

    async def _exchange(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[int, bytes]:
        lines = [f"{request.method} {request.path} HTTP/1.1", "Host: localhost"]
        if request.post:
            lines.append(f"Content-Length: {len(request.body)}")
        writer.write("\r\n".join([*lines, "", ""]).encode() + request.body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        status = int(head.split(b" ", 2)[1])
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        self._pid = pid_of(request, status, body)
        if b"connection: close" in head:
            self._tally.drained += 1
            await self.close()
        return status, body

    async def close(self) -> None:
        """Close what is open."""
        if self._streams is not None:
            (_, writer), self._streams = self._streams, None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
