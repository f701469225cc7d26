"""One accepted connection: the transport on one side, an HTTP session on the other.

Runs on the loop thread; nothing in here may block or await. It decides which
protocol is spoken (ALPN, or the preface in cleartext) and keeps the transport's
flow control; what the bytes mean is the session's business.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, cast

from .frames import PREFACE
from .http1 import Http1Session
from .http2 import Http2Session
from .peer import Peer
from .server import Server
from .session import Session

#: Of the transport's high-water mark: control frames go out whatever the mark says,
#: but a peer that provokes them and never reads is cut off at this many times it.
_UNREAD_FACTOR = 4
#: How long a draining worker waits for the first bytes of a connection, in seconds.
_SILENT_LINGER = 2.0


class Link(asyncio.Protocol):
    """The loop's end of one connection. Every field is owned by L.

    :param client: the peer's address, as `socket.accept` gave it.
    :param listener_address: `socket.getsockname` of the listener.
    """

    def __init__(self, server: Server, client: Any, listener_address: Any, family: int) -> None:
        self.server = server
        self._address = (client, listener_address, family)
        self._transport: asyncio.Transport
        self._session: Session | None = None
        #: In cleartext: what came before it was clear which protocol is spoken.
        self._first_bytes = b""
        self._paused = False
        self._paused_since = 0.0
        self._reading = True
        self._closing = False
        #: The peer has shut its side down.
        self._peer_done = False
        #: When a closed connection is cut, whatever is still buffered; 0.0 for never.
        self._close_deadline = 0.0
        #: `connection_made` was called, and so `connection_lost` will be.
        self.established = False
        self._connected_at = 0.0
        #: When the connection is drained for its age; 0.0 for never.
        self._drain_at = 0.0
        self.peer: Peer

    # -- asyncio.Protocol -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there, handshake included."""
        self._transport = cast(asyncio.Transport, transport)
        self.established = True
        high = self.server.settings.transport_high_water_mark
        # The transport reports "full" well below the mark that is written to:
        # a buffer filled to just below its limit would never report "empty".
        self._transport.set_write_buffer_limits(high=high // 2, low=high // 4)
        self._connected_at = self.server.now()
        age = self.server.settings.max_connection_age
        if age:
            # Connections that were made together are not to come back together.
            self._drain_at = self._connected_at + age * random.uniform(0.9, 1.1)
        self.peer = _peer(self._transport, *self._address)
        self.server.links.add(self)
        if self.peer.tls_version is not None:
            h2 = self.peer.alpn_protocol == "h2"
            self._session = Http2Session(self) if h2 else Http1Session(self)
            self._session.flush()
            if self.server.draining:
                self._session.drain()

    def data_received(self, data: bytes) -> None:
        """Bytes from the peer."""
        session = self._session
        if session is None:
            self._first_bytes += data
            data = self._first_bytes
            if data.startswith(PREFACE):
                session = Http2Session(self)
            elif PREFACE.startswith(data):
                return
            else:
                session = Http1Session(self)
            self._session = session
            self._first_bytes = b""
            if self.server.draining:
                session.drain()
        session.data_received(data)

    def eof_received(self) -> bool:
        """The peer has shut its side down; the answer can still be sent in cleartext."""
        self._peer_done = True
        if self._session is None or self.peer.tls_version is not None or self._closing:
            return False
        self._session.eof_received()
        return True

    def pause_writing(self) -> None:
        """The transport is full."""
        self._paused = True
        self._paused_since = self.server.now()

    def resume_writing(self) -> None:
        """The transport takes more."""
        self._paused = False
        if self._session is not None:
            self._session.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone; why does not matter to anybody who waits."""
        self._closing = True
        self.server.links.discard(self)
        if self._session is not None:
            self._session.connection_lost()
            # A cycle: the transport's buffers would stay until the garbage is collected.
            self._session = None
        self.server.connection_closed()

    # -- for the session ----------------------------------------------------------------

    def room(self) -> int:
        """Bytes that may be written now."""
        # A transport that was closed, or is lost, may not even be asked (asyncio's TLS).
        if self._paused or self._closing:
            return 0
        mark = self.server.settings.transport_high_water_mark
        return max(0, mark - self._transport.get_write_buffer_size())

    def write(self, data: bytes | bytearray) -> None:
        """Write; a peer that makes us answer without ever reading is cut off."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        limit = _UNREAD_FACTOR * self.server.settings.transport_high_water_mark
        if self._transport.get_write_buffer_size() > limit:
            self.server.log.info("Peer %s does not read: closed", self.peer.log_address)
            self.abort()

    def pause_reading(self) -> None:
        """Take no more bytes from the peer for now. No-op if that is so already."""
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes from the peer again. No-op if that is so already."""
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def close(self) -> None:
        """Write what is buffered, for `h2_write_timeout` at most, then close."""
        self._closing = True
        timeout = self.server.settings.write_timeout
        if timeout:
            self._close_deadline = self.server.now() + timeout
        self._transport.close()

    def close_soon(self, timeout: float) -> None:
        """Write what is buffered, for ``timeout`` seconds at most, then close."""
        self.close()
        self.server.loop.call_later(timeout, self.abort)

    def close_gracefully(self, linger: float) -> None:
        """Close so that the peer can read the answer even if it is still sending.

        Closing a socket that has unread bytes resets the connection, and with it
        what the peer has not read yet.
        """
        if self._closing:
            return
        self._closing = True
        self.resume_reading()
        if (
            not self._peer_done
            and self._transport.can_write_eof()
            and not self._transport.is_closing()
        ):
            try:
                self._transport.write_eof()
            except OSError:
                # asyncio's says so where the peer has reset the connection already.
                self.close()
                return
            self.server.loop.call_later(linger, self.close)
        else:
            self.close()

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        self._closing = True
        self._transport.abort()

    # -- for the server ------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Look after deadlines; called about once a second."""
        settings = self.server.settings
        stalled = self._paused and now - self._paused_since > settings.write_timeout
        if (stalled and settings.write_timeout) or 0 < self._close_deadline < now:
            self.abort()
        elif self._session is not None:
            if 0 < self._drain_at < now:
                self._session.drain()
            self._session.tick(now)
        elif now - self._connected_at > settings.handshake_timeout:
            self.close()

    def drain(self) -> None:
        """Finish what was begun, then close."""
        if self._session is None:
            # Proxies connect when they have a request: it is on its way.
            self.server.loop.call_later(_SILENT_LINGER, self._close_silent)
        else:
            self._session.drain()

    def _close_silent(self) -> None:
        if self._session is None:
            self.close()

    def cut_off(self) -> None:
        """What was begun will not be finished: say so, then close."""
        if self._session is not None:
            self._session.cut_off()
        else:
            self.close()


def _peer(transport: asyncio.Transport, client: Any, server: Any, family: int) -> Peer:
    ssl_object = transport.get_extra_info("ssl_object")
    if ssl_object is None:
        return Peer(client, server, family)
    return Peer(
        client,
        server,
        family,
        tls_version=ssl_object.version(),
        cipher=ssl_object.cipher(),
        alpn_protocol=ssl_object.selected_alpn_protocol(),
        certificate=ssl_object.getpeercert(),
        certificate_der=ssl_object.getpeercert(binary_form=True),
    )
