"""What well-behaved clients do in `soak`: each scenario returns how many answers it had.

An answer that is late, cut or wrong raises, and is a failure of the server.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable

from hyperframe.frame import DataFrame

from tests.support.apps import BLOCK, HELLO, piece
from tests.support.frames import RawClient, Response
from tests.support.http1 import Http1Client, Http1Response, chunked, post
from tests.support.http_client import client
from tests.support.server import Server
from tests.support.tcp import reset_on_close
from tests.support.wire import ErrorCode, Setting

#: Seconds: a machine that does other things as well must not look like a failure.
TIMEOUT = 30.0

Scenario = Callable[[Server, random.Random], int]


def connect(server: Server, **settings: int) -> RawClient:
    return RawClient(server, timeout=TIMEOUT).greet(
        {Setting[name.upper()]: value for name, value in settings.items()}
    )


def _must_be(response: Response | Http1Response, body: bytes) -> None:
    assert (response.status, response.body == body) == (200, True), response


def _block(size: int) -> bytes:
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def many_streams(server: Server, chosen: random.Random) -> int:
    """Twenty requests at once on one connection."""
    with connect(server) as peer:
        wanted = {}
        for stream_id in range(1, 41, 2):
            size = chosen.choice([1, 5_000, 100_000])
            path, body = chosen.choice(
                [
                    ("/hello", HELLO),
                    (f"/large?n={size}", _block(size)),
                    (f"/write?n=2&size={size}", piece(size, 0) + piece(size, 1)),
                    ("/sleep?s=0.05", b"slept"),
                ]
            )
            wanted[stream_id] = body
            peer.headers(stream_id, path=path)
        for stream_id, response in peer.responses(wanted).items():
            _must_be(response, wanted[stream_id])
    return len(wanted)


def uploads(server: Server, chosen: random.Random) -> int:
    """Bodies on one connection, one after the other, with padding and without."""
    with connect(server) as peer:
        for stream_id in (1, 3, 5):
            body = chosen.randbytes(chosen.choice([0, 1, 70_000, 300_000]))
            peer.headers(stream_id, method="POST", path="/echo", end_stream=False)
            peer.upload(stream_id, body, pad=chosen.choice([None, 0, 200]))
            _must_be(peer.response(stream_id), body)
    return 3


def download(server: Server, chosen: random.Random) -> int:
    """A megabyte, as a file or from a generator."""
    path = chosen.choice(["/large?n=1048576&cl=1", "/file?n=1048576"])
    with connect(server, initial_window_size=1 << 20) as peer:
        _must_be(peer.request(path=path), _block(1 << 20))
    return 1


def slow_reader(server: Server, chosen: random.Random) -> int:
    """A peer with small windows that takes its time, and gets other answers meanwhile."""
    body = bytearray()
    with connect(server, initial_window_size=8_000) as peer:
        peer.headers(1, path="/large?n=100000")
        while len(body) < 100_000:
            frame = peer.read_frame()
            if isinstance(frame, DataFrame):
                body += frame.data
                time.sleep(0.02)
                for stream_id in (0, 1):
                    peer.window_update(stream_id, max(1, len(frame.data)))
        assert bytes(body) == _block(100_000)
        _must_be(peer.request(path="/hello", stream_id=3), HELLO)
    return 2


def cancels(server: Server, chosen: random.Random) -> int:
    """A browser that changes its mind: some are cancelled, the others are answered."""
    with connect(server) as peer:
        ids = list(range(1, 21, 2))
        cancelled = set(chosen.sample(ids, 5))
        for stream_id in ids:
            if stream_id in cancelled:
                peer.headers(stream_id, path="/stream?n=50&size=100&delay=0.01")
            else:
                peer.headers(stream_id, path="/hello")
        for stream_id in cancelled:
            peer.rst(stream_id, ErrorCode.CANCEL)
        rest = set(ids) - cancelled
        for response in peer.responses(rest).values():
            _must_be(response, HELLO)
    return len(rest)


def disconnects(server: Server, chosen: random.Random) -> int:
    """A client that is gone in the middle of it all; the next one is answered."""
    with connect(server) as peer:
        peer.headers(1, path="/large?n=1000000")
        peer.headers(3, method="POST", path="/read", end_stream=False)
        peer.data(3, bytes(chosen.randint(1, 16_000)))
        time.sleep(chosen.random() / 10)
        if chosen.random() < 0.5:
            reset_on_close(peer.sock)
    with connect(server) as peer:
        _must_be(peer.request(path="/hello"), HELLO)
    return 1


def http1(server: Server, chosen: random.Random) -> int:
    """HTTP/1.1 on a connection that is kept alive: answers with and without length, bodies."""
    body = chosen.randbytes(chosen.choice([0, 10, 100_000]))
    with Http1Client(server, timeout=TIMEOUT) as peer:
        _must_be(peer.get("/hello"), HELLO)
        _must_be(peer.get("/large?n=200000"), _block(200_000))
        peer.send(post("/echo", body))
        _must_be(peer.response(), body)
        peer.send(chunked("/echo", b"first", b"second"))
        _must_be(peer.response(), b"firstsecond")
        digest = hashlib.sha256(body).hexdigest()
        peer.send(post("/read", body))
        assert digest.encode() in peer.response().body
    return 5


def ordinary_client(server: Server, chosen: random.Random) -> int:
    """httpx, as anybody would use it."""
    assert server.certs is not None
    with client(server.certs, server.url, http2=chosen.random() < 0.7) as peer:
        assert peer.get("/hello").content == HELLO
        body = chosen.randbytes(50_000)
        assert peer.post("/echo", content=body).content == body
        assert peer.get("/status?code=404").status_code == 404
    return 3


SCENARIOS: list[Scenario] = [
    many_streams,
    uploads,
    download,
    slow_reader,
    cancels,
    disconnects,
    http1,
    ordinary_client,
]
