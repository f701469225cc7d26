"""The limit that h2 sets: a loop, TLS and h2 that answer inline, with no threads and no policy.

    python -m benchmarks.bare_h2 PORT CERT KEY

Not a server: no flow control beyond crediting what arrives, no limits, no log.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Callable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, WindowUpdated

_FIELDS = [
    (b":status", b"200"),
    (b"server", b"bare"),
    (b"content-type", b"text/plain"),
]
_HELLO = b"Hello, world!"
_MEGABYTE = bytes(1_048_576)


class BareProtocol(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.h2.initiate_connection()
        self.pending: dict[int, memoryview] = {}
        self.bodies: dict[int, bytes] = {}
        transport.write(self.h2.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            if isinstance(event, RequestReceived):
                large = (b":path", b"/1mb") in event.headers
                self.bodies[event.stream_id] = _MEGABYTE if large else _HELLO
            elif isinstance(event, DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                body = self.bodies.pop(event.stream_id)
                length = (b"content-length", b"%d" % len(body))
                self.h2.send_headers(event.stream_id, [*_FIELDS, length])
                self.pending[event.stream_id] = memoryview(body)
                self.send(event.stream_id)
            elif isinstance(event, WindowUpdated):
                for stream_id in [event.stream_id] if event.stream_id else list(self.pending):
                    self.send(stream_id)
        self.transport.write(self.h2.data_to_send())

    def send(self, stream_id: int) -> None:
        body = self.pending.pop(stream_id, None)
        while body:
            size = min(
                self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size
            )
            if not size:
                self.pending[stream_id] = body
                return
            part, body = body[:size], body[size:]
            self.h2.send_data(stream_id, bytes(part), end_stream=not body)


async def serve(
    protocol: Callable[[], asyncio.BaseProtocol], port: int, cert: str, key: str
) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


def main() -> None:
    """Serve as the command line says, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        run = asyncio.run
    else:
        run = uvloop.run
    run(serve(BareProtocol, int(sys.argv[1]), sys.argv[2], sys.argv[3]))


if __name__ == "__main__":
    main()
