"""A transfer of any size costs little memory, and a peer that goes away frees its thread.

The peer takes, or the application reads, about 1 MiB a second of a gigabyte. That
goes on for a few seconds; ``GUNICORN_TESTS_LONG=1`` makes it 20.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from tests.conftest import Serve
from tests.support import LONG
from tests.support.apps import BLOCK, HELLO
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.server import Server, wait_until
from tests.support.tcp import abort
from tests.support.wire import Setting

SECONDS = 20.0 if LONG else 3.0
GIGABYTE = 1 << 30
#: 16 pieces of 64 KiB a second.
PACE = 1 / 16
#: What a worker may hold above what it held after a short transfer of the same kind.
GROWTH = 4 << 20
MAX_WINDOW = 2**31 - 1

Client = RawClient | Http1Client
Transfer = Callable[[Server, float], Client]


def download_http2(server: Server, seconds: float) -> Client:
    """All windows are open: what holds the server back is TCP alone."""
    client = RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW})
    client.window_update(0, MAX_WINDOW - 65_535)
    client.headers(1, path=f"/stream?n={GIGABYTE >> 16}&size={1 << 16}")
    read_slowly(client, seconds)
    return client


def download_http1(server: Server, seconds: float) -> Client:
    client = Http1Client(server)
    client.send(request(f"/stream?n={GIGABYTE >> 16}&size={1 << 16}"))
    read_slowly(client, seconds)
    return client


def read_slowly(client: Client, seconds: float) -> None:
    end = time.monotonic() + seconds
    client.sock.settimeout(10)
    while time.monotonic() < end:
        assert client.sock.recv(1 << 16)
        time.sleep(PACE)


def upload_http2(server: Server, seconds: float) -> Client:
    client = RawClient(server).greet()
    client.headers(1, method="POST", path=f"/read?delay={PACE}", end_stream=False)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.upload(1, BLOCK, end_stream=False)
    return client


def upload_http1(server: Server, seconds: float) -> Client:
    client = Http1Client(server)
    client.send(request(f"/read?delay={PACE}", f"Content-Length: {GIGABYTE}", method="POST"))
    end = time.monotonic() + seconds
    client.sock.settimeout(0.1)
    while time.monotonic() < end:
        try:
            client.send(BLOCK[:4096])
        except TimeoutError:
            continue
    return client


@pytest.mark.parametrize(
    "transfer",
    [download_http2, download_http1, upload_http2, upload_http1],
    ids=lambda transfer: transfer.__name__,
)
def test_a_slow_gigabyte(serve: Serve, tls: bool, transfer: Transfer) -> None:
    server = serve(tls=tls, threads=1)
    abort(transfer(server, 1.0))
    wait_for_the_thread(server)
    before = server.rss()
    done = threading.Event()
    seen = [before]

    def watch() -> None:
        while not done.wait(0.05):
            seen.append(server.rss())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        client = transfer(server, SECONDS)
    finally:
        done.set()
        watcher.join()
    assert max(seen) - before <= GROWTH
    abort(client)
    wait_for_the_thread(server)
    wait_until(lambda: server.rss() - before <= GROWTH, what="the memory to be given back")
    assert "[ERROR]" not in server.log()
    assert "[WARNING]" not in server.log()


def wait_for_the_thread(server: Server) -> None:
    """See the only thread of the pool answer a request, soon.

    What had arrived over HTTP/1.1 before a reset, several megabytes in the kernel, is
    read to the end first.
    """
    with RawClient(server, timeout=20).greet() as client:
        assert client.request(path="/hello").body == HELLO


def test_a_reset_stream_frees_its_thread(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls, threads=1)
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW}) as client:
        client.window_update(0, MAX_WINDOW - 65_535)
        client.headers(1, path=f"/stream?n={GIGABYTE >> 16}&size={1 << 16}")
        time.sleep(1)  # until nothing more fits into the buffers on the way
        client.rst(1)
        wait_for_the_thread(server)
        # What was under way comes still, then the connection goes on.
        assert client.request(path="/hello", stream_id=3).body == HELLO
