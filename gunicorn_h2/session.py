"""What a connection's two halves promise each other: the transport's side and the protocol's.

Interfaces only; everything in them runs on the loop thread. `protocol.Link`
is the one `Link`; `http1.Http1Session` and `http2.Http2Session` are the sessions.
"""

from __future__ import annotations

from typing import Protocol

from .peer import Peer
from .server import Server


class Session(Protocol):
    """What an HTTP version has to do with a connection."""

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""

    def eof_received(self) -> None:
        """The peer will send no more."""

    def connection_lost(self) -> None:
        """The connection is gone."""

    def flush(self) -> None:
        """The transport takes more."""

    def tick(self, now: float) -> None:
        """About a second has passed: look after deadlines."""

    def drain(self) -> None:
        """Finish what was begun, take nothing new, then close."""

    def cut_off(self) -> None:
        """Finish nothing: say so to the peer, and log what was running."""


class Link(Protocol):
    """The transport of one connection, as its session sees it."""

    @property
    def server(self) -> Server:
        """The worker's server."""

    @property
    def peer(self) -> Peer:
        """Who is at the other end."""

    def room(self) -> int:
        """Bytes that may be written now."""

    def write(self, data: bytes | bytearray) -> None:
        """Write, whatever the room; a peer that never reads is cut off in the end."""

    def pause_reading(self) -> None:
        """Take no more bytes from the peer for now."""

    def resume_reading(self) -> None:
        """Take bytes from the peer again."""

    def close(self) -> None:
        """Write what is buffered, for `h2_write_timeout` at most, then close."""

    def close_soon(self, timeout: float) -> None:
        """Write what is buffered, for ``timeout`` seconds at most, then close."""

    def close_gracefully(self, linger: float) -> None:
        """Close so that the peer can read the answer even if it is still sending."""

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
