"""What hostile and broken clients do in `soak`. They may fail as they like, and learn nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tests.support import wire
from tests.support.frames import NothingArrived, RawClient, ServerClosed
from tests.support.http1 import Http1Client
from tests.support.server import Server
from tests.support.tcp import reset_on_close
from tests.support.wire import FrameType, Setting

from .good_traffic import connect

#: How it looks to a client that the server has ended the connection, or is silent.
ENDS = (OSError, EOFError, ServerClosed, NothingArrived)

_BAD_FIELDS = [
    ("X-Upper", "a"),
    ("connection", "close"),
    ("transfer-encoding", "chunked"),
    ("content-length", "+5"),
    ("x", "a\r\nb"),
    ("x", " a"),
    ("", "a"),
    (":path", "/twice"),
    (":unknown", "a"),
]
_BAD_HEADS = [
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x00" * 5_000,
    b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nbroken line\r\n\r\n",
]


def frame_floods(server: Server, chosen: random.Random) -> None:
    """Far more of PING, SETTINGS, empty DATA, ... than any budget allows, with nothing read."""
    frame = chosen.choice(
        [
            wire.ping_frame(),
            wire.settings_frame({Setting.HEADER_TABLE_SIZE: 0}),
            wire.data_frame(1),
            wire.window_update_frame(0, 1),
            wire.priority_frame(5, (0, 1, False)),
            wire.frame(0x42, 0, 0, b"unknown"),
            wire.headers_frames(3, b"\x82", end_headers=False)
            + wire.frame(FrameType.CONTINUATION, 0, 3, b"") * 20,
        ]
    )
    with connect(server) as peer:
        peer.headers(1, method="POST", path="/read", end_stream=False)
        for _ in range(20):
            peer.write_bytes(frame * 200)
        peer.want_closed(timeout=2)


def rapid_resets(server: Server, chosen: random.Random) -> None:
    """CVE-2023-44487: open a stream, cancel it, and so on."""
    with connect(server) as peer:
        for stream_id in range(1, 1_001, 2):
            with peer.one_write():
                peer.headers(stream_id, path="/hello")
                peer.rst(stream_id)
        peer.want_closed(timeout=2)


def malformed_requests(server: Server, chosen: random.Random) -> None:
    """Header lists that are wrong, and blocks that nobody can decode."""
    with connect(server) as peer:
        for stream_id in range(1, 41, 2):
            peer.headers(stream_id, extra=[chosen.choice(_BAD_FIELDS)])
        peer.headers(41, block=chosen.randbytes(20))
        peer.want_closed(timeout=1)


def half_handshakes(server: Server, chosen: random.Random) -> None:
    """Half a preface, half a ClientHello, or nothing, and then away."""
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + chosen.randbytes(40)
    sent = chosen.choice([b"", hello, wire.PREFACE[:10], wire.PREFACE])
    with server.connect() as sock:
        sock.sendall(sent)
        time.sleep(chosen.random())
        if chosen.random() < 0.5:
            reset_on_close(sock)


def random_bytes(server: Server, chosen: random.Random) -> None:
    """Noise: on the bare socket, or once HTTP/2 is up."""
    noise = chosen.randbytes(chosen.randint(1, 5_000))
    if chosen.random() < 0.5:
        with server.connect(timeout=1) as sock:
            sock.sendall(noise)
            sock.recv(1 << 16)
    else:
        with connect(server) as peer:
            peer.write_bytes(noise)
            peer.want_closed(timeout=1)


def damaged_frames(server: Server, chosen: random.Random) -> None:
    """Requests, with single bytes changed on their way."""
    with connect(server) as peer:
        sent = bytearray()
        for stream_id in range(1, 21, 2):
            block = peer.encode(peer.request_fields("POST", "/read"))
            sent += wire.headers_frames(stream_id, block, end_stream=False)
            sent += wire.data_frame(stream_id, bytes(100), end_stream=True)
        for _ in range(chosen.randint(1, 5)):
            sent[chosen.randrange(len(sent))] = chosen.randrange(256)
        peer.write_bytes(bytes(sent))
        peer.want_closed(timeout=1)


def reads_nothing(server: Server, chosen: random.Random) -> None:
    """Asks for much on many streams with no window open, and goes away."""
    with connect(server, initial_window_size=0) as peer:
        for stream_id in range(1, 61, 2):
            peer.headers(stream_id, path="/large?n=60000")
        time.sleep(chosen.random())
        reset_on_close(peer.sock)


def stalled_upload(server: Server, chosen: random.Random) -> None:
    """Announces a body, sends a little of it, and is silent."""
    with RawClient(server).greet() as peer:
        for stream_id in (1, 3):
            length = ("content-length", "1000000")
            peer.headers(stream_id, method="POST", path="/read", extra=[length], end_stream=False)
            peer.data(stream_id, bytes(1_000))
        time.sleep(chosen.random())


def malformed_http1(server: Server, chosen: random.Random) -> None:
    """Requests of HTTP/1.1 that are none, or two at once."""
    with Http1Client(server, timeout=2) as peer:
        peer.send(chosen.choice(_BAD_HEADS))
        peer.read_to_end()


SCENARIOS: list[Callable[[Server, random.Random], None]] = [
    frame_floods,
    rapid_resets,
    malformed_requests,
    half_handshakes,
    random_bytes,
    damaged_frames,
    reads_nothing,
    stalled_upload,
    malformed_http1,
]
