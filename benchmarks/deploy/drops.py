"""Peers that vanish while workers drain: no worker may stay for them, and nothing may be left.

Connections of HTTP/2 and HTTP/1.1 are opened, get as far as chance has it, and are
dropped, half of them by a reset of TCP, while HUP replaces the workers again and again.
"""

from __future__ import annotations

import random
import signal
import socket
import struct
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import hpack

from tests.support import wire
from tests.support.http1 import post
from tests.support.server import Server, wait_until

from .app import body_of, path_of

#: Connections that are dropped, and how many there are at a time.
CONNECTIONS = 10_000
_AT_A_TIME = 50
#: A connection waits for so many seconds at most, three times in its life.
_PAUSE = 0.1
#: Seconds between the end of one reload and the next.
_INTERVAL = 0.2
#: What a worker may take beyond graceful_timeout to end.
MARGIN = 2.0
_POLL = 0.05
#: With this as SO_LINGER, close() resets the connection.
_RESET = struct.pack("ii", 1, 0)


@dataclass
class Findings:
    """What is to be seen from outside."""

    dropped: int = 0
    #: Connections that the server ended before chance did, by the error.
    errors: Counter[str] = field(default_factory=Counter)
    #: Seconds that each replaced worker took to end, once its successors had booted.
    ends: list[float] = field(default_factory=list)
    #: What the last workers have more than before the first peer came.
    descriptors: int = 0
    threads: int = 0


def drop_many(server: Server) -> Findings:
    """Drop `CONNECTIONS` while the server is reloaded, and look at what is left."""
    findings = Findings()
    before = max(server.fd_count(pid) for pid in server.worker_pids())
    over = threading.Event()
    reloads = threading.Thread(target=_reload, args=(server, over, findings))
    reloads.start()
    try:
        with ThreadPoolExecutor(_AT_A_TIME) as pool:
            for number in range(CONNECTIONS):
                pool.submit(_drop, server, number, findings)
    finally:
        over.set()
        reloads.join()
    # The last workers have had their share of such peers as well.
    workers = server.worker_pids()

    def left() -> int:
        return max(server.fd_count(pid) for pid in workers) - before

    try:
        wait_until(lambda: left() <= 0, timeout=30)
    finally:
        findings.descriptors = max(0, left())
        # One is the loop, the rest is the pool.
        threads = max(server.thread_count(pid) for pid in workers)
        findings.threads = max(0, threads - 1 - (server.threads or 1))
    return findings


def _reload(server: Server, over: threading.Event, findings: Findings) -> None:
    """Send HUP again and again, and see how long the old workers stay."""
    while not over.wait(_INTERVAL):
        old = set(server.worker_pids())
        expected = len(server.booted_pids()) + server.workers
        server.signal(signal.SIGHUP)
        while len(server.booted_pids()) < expected:
            time.sleep(_POLL)
        # Gunicorn sends TERM to the old ones about now.
        started = time.monotonic()
        while old:
            gone = old - set(server.worker_pids())
            findings.ends += [time.monotonic() - started] * len(gone)
            old -= gone
            time.sleep(_POLL)


def _drop(server: Server, number: int, findings: Findings) -> None:
    """Open a connection, send a part of the bytes in two pieces, and drop it."""
    chance = random.Random(number)
    http2 = chance.random() < 0.5
    data = _http2(number) if http2 else post(path_of(number), body_of(number))
    cut = chance.choice([len(data), chance.randrange(len(data) + 1)])
    middle = chance.randrange(cut + 1)
    sock = server.connect()
    try:
        if chance.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        time.sleep(chance.random() ** 3 * _PAUSE)
        for piece in (data[:middle], data[middle:cut]):
            sock.sendall(piece)
            time.sleep(chance.random() * _PAUSE)
    except OSError as error:
        findings.errors[type(error).__name__] += 1
    finally:
        sock.close()
        findings.dropped += 1


def _http2(number: int) -> bytes:
    """All that a client sends that makes three requests, one of them with a body."""
    encoder = hpack.Encoder()
    parts = [wire.PREFACE, wire.settings_frame()]
    for stream_id, method in ((1, "GET"), (3, "POST"), (5, "GET")):
        fields = [(":method", method), (":scheme", "http"), (":authority", "localhost")]
        block = encoder.encode([*fields, (":path", path_of(number))])
        parts.append(wire.headers_frames(stream_id, block, end_stream=method == "GET"))
    parts.append(wire.data_frame(3, body_of(number), end_stream=True))
    return b"".join(parts)
