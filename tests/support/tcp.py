"""How a client leaves below its protocol: by a reset of the TCP connection."""

from __future__ import annotations

import socket
import struct

from .frames import RawClient
from .http1 import Http1Client


def reset_on_close(sock: socket.socket) -> None:
    """Have the kernel send a RST at the end, as for a process that dies with unread data."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def abort(client: RawClient | Http1Client) -> None:
    """Reset the client's connection."""
    reset_on_close(client.sock)
    client.close()
