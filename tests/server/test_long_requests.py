"""Streams that stay open for long leave threads to short requests (`h2_max_threads`)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from tests.conftest import Serve
from tests.support.frames import RawClient
from tests.support.server import ROOT, Server, wait_until

STREAMS = 200
CONNECTIONS = 10
THREADS = 16

EVENTS = "examples.events:app"


def wait_for_welcomes(client: RawClient, ids: Iterable[int]) -> None:
    silent = set(ids)
    while silent:
        frame = client.read_frame()
        if isinstance(frame, DataFrame):
            assert frame.data == b": welcome\n\n"
            silent.remove(frame.stream_id)


@contextlib.contextmanager
def open_streams(server: Server, count: int) -> Iterator[list[tuple[RawClient, list[int]]]]:
    """That many event streams over a few connections, each open and welcomed."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(RawClient(server).greet())
            ids = list(range(1, 2 * count // CONNECTIONS, 2))
            with client.one_write():
                for stream_id in ids:
                    client.headers(stream_id, path="/events")
            opened.append((client, ids))
        for client, ids in opened:
            wait_for_welcomes(client, ids)
        yield opened


@pytest.fixture
def server(serve: Serve, tls: bool) -> Server:
    return serve(
        EVENTS,
        tls=tls,
        threads=THREADS,
        env={"GUNICORN_H2_MAX_THREADS": "300"},
    )


def test_two_hundred_event_streams_leave_room_for_short_requests(server: Server) -> None:
    with open_streams(server, STREAMS) as opened, RawClient(server).greet() as client:
        assert server.thread_count() > STREAMS
        for stream_id in (1, 3, 5):
            answer = client.request("POST", "/say", body=b"hello", stream_id=stream_id)
            assert answer.status == 204
        # The streams are alive, every one.
        for subscriber, ids in opened:
            heard = b""
            while heard.count(b"data: hello\n\n") < 3 * len(ids):
                heard += subscriber.want(DataFrame).data
    # Clients that have gone are noticed at the next event; their threads end with them.
    with RawClient(server).greet() as client:
        assert client.request("POST", "/say", body=b"anybody?").status == 204
        wait_until(lambda: server.thread_count() <= THREADS + 8, what="the pool to shrink")
        assert client.request("POST", "/say", body=b"nobody", stream_id=3).status == 204


def test_without_it_streams_hold_every_thread(serve: Serve) -> None:
    server = serve(EVENTS, threads=THREADS, graceful_timeout=1)
    with RawClient(server).greet() as subscriber, RawClient(server).greet() as client:
        ids = range(1, 2 * THREADS, 2)
        for stream_id in ids:
            subscriber.headers(stream_id, path="/events")
        wait_for_welcomes(subscriber, ids)
        client.headers(1, method="POST", path="/say")
        client.want_idle(HeadersFrame)


def test_an_application_with_one_thread_is_told_that_the_pool_grows(serve: Serve) -> None:
    server = serve(threads=1, env={"GUNICORN_H2_MAX_THREADS": "2"})
    with RawClient(server).greet() as client:
        body = client.request(path="/environ").body
    assert re.search(rb'"wsgi.multithread": (true|"True")', body), body


def test_the_example_says_how_it_is_started() -> None:
    text = Path(ROOT / "examples" / "events.py").read_text(encoding="utf-8")
    assert "GUNICORN_H2_MAX_THREADS=500 gunicorn -k gunicorn_h2.H2Worker events:app" in text
