"""Requests overlap: on one connection, across connections, and whoever is slow is alone.

Times are compared within one run, never with a clock.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperframe.frame import DataFrame

from tests.conftest import Serve
from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.server import Server
from tests.support.wire import ErrorCode, Setting

MAX_WINDOW = 2**31 - 1

#: Priorities by stream, in the request and as frames -> the streams of the DATA that came.
OrderOfData = Callable[[dict[int, str], dict[int, str]], list[int]]

APP = '''
import os, threading, time

started = []
lock = threading.Lock()

def app(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](environ, start_response)

def reply(start_response, body):
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def wait(environ, start_response):
    """Until the test opens the gate."""
    for _ in range(3000):
        if os.path.exists(os.environ["TESTS_GATE"]):
            return reply(start_response, b"waited")
        time.sleep(0.01)

def note(environ, start_response):
    with lock:
        started.append(environ["QUERY_STRING"])
        return reply(start_response, ",".join(started).encode())
'''


class Gated:
    """Our application, whose /wait waits for us."""

    def __init__(self, directory: Path) -> None:
        (directory / "concurrency_app.py").write_text(APP)
        self._gate = directory / "gate"
        self.options: dict[str, Any] = {
            "app": "concurrency_app:app",
            "args": ["--pythonpath", str(directory)],
            "env": {"TESTS_GATE": str(self._gate)},
        }

    def open(self) -> None:
        self._gate.touch()


@pytest.fixture
def gated(tmp_path: Path) -> Gated:
    return Gated(tmp_path)


@contextlib.contextmanager
def connected(server: Server, settings: dict[Setting, int] | None = None) -> Iterator[RawClient]:
    with RawClient(server, timeout=30).greet(settings or {}) as client:
        yield client


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


# -- on one connection ---------------------------------------------------------------


def test_eight_requests_take_the_time_of_one(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls, threads=8)
    with connected(server) as client:
        one = seconds(lambda: client.request(path="/sleep?s=0.5"))

        def eight() -> None:
            with client.one_write():
                ids = range(3, 19, 2)
                for stream_id in ids:
                    client.headers(stream_id, path="/sleep?s=0.5")
            answers = client.responses(ids)
            assert [answer.body for answer in answers.values()] == [b"slept"] * 8

        assert seconds(eight) < 2 * one


def test_a_quick_request_overtakes_a_slow_one(serve: Serve, gated: Gated, tls: bool) -> None:
    server = serve(**gated.options, tls=tls)
    with connected(server) as client:
        client.headers(1, path="/wait")
        assert client.request(path="/note?quick", stream_id=3).body == b"quick"
        gated.open()
        assert client.response(1).body == b"waited"


def test_the_body_of_one_does_not_hold_up_others(serve: Serve) -> None:
    """An application that reads nothing fills its own window, not the connection's."""
    server = serve(threads=4)
    with connected(server) as client:
        client.headers(1, method="POST", path="/sleep?s=3", end_stream=False)
        client.upload(1, b"x" * 65_535, end_stream=False)
        answer = client.request("POST", "/echo", body=b"y" * 300_000, stream_id=3)
        assert answer.body == b"y" * 300_000
        assert client.response(1).body == b"slept"


def test_a_stream_without_a_window_blocks_nobody(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls, threads=2)
    with connected(server, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        client.headers(1, path="/large?n=1000000")
        client.headers(3, path="/hello")
        client.window_update(3, 1000)
        assert client.response(3, auto_window=False).body == HELLO
        client.window_update(1, 2_000_000)
        client.window_update(0, 2_000_000)
        assert len(client.response(1).body) == 1_000_000


@pytest.fixture
def order_of_data(serve: Serve) -> OrderOfData:
    """Have three responses wait for their windows, open them all at once, see whose DATA comes."""

    def run(extra: dict[int, str], updates: dict[int, str]) -> list[int]:
        server = serve()
        ids = (1, 3, 5)
        with connected(server, {Setting.INITIAL_WINDOW_SIZE: 0}) as client:
            client.window_update(0, 1 << 20)
            with client.one_write():
                for stream_id in ids:
                    priority = [("priority", extra[stream_id])] if stream_id in extra else []
                    # Less than the mark at which the application would wait.
                    client.headers(stream_id, path="/large?n=60000", extra=priority)
                for stream_id, value in updates.items():
                    client.priority_update(stream_id, value)
            server.wait_access_log(r"(?s)(/large.*){3}")
            client.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
            order = []
            ended = 0
            while ended < len(ids):
                frame = client.read_frame()
                if isinstance(frame, DataFrame):
                    order.append(frame.stream_id)
                    ended += "END_STREAM" in frame.flags
            return order

    return run


def test_responses_share_the_way(order_of_data: OrderOfData) -> None:
    order = order_of_data({}, {})
    assert sorted(order[:3]) == sorted(order[3:6]) == [1, 3, 5]


@pytest.mark.parametrize("how", ["header", "frame"])
def test_the_urgent_response_comes_first(order_of_data: OrderOfData, how: str) -> None:
    urgencies = {1: "u=7", 3: "u=0", 5: "u=3"}
    order = order_of_data(*((urgencies, {}) if how == "header" else ({}, urgencies)))
    assert [stream_id for stream_id, _ in itertools.groupby(order)] == [3, 5, 1]


# -- across connections -----------------------------------------------------------------


def test_a_connection_with_many_requests_waits_for_its_turn(serve: Serve, gated: Gated) -> None:
    server = serve(**gated.options, threads=1)
    with connected(server) as greedy, connected(server) as modest:
        with greedy.one_write():
            greedy.headers(1, path="/wait")
            for stream_id in range(3, 103, 2):
                greedy.headers(stream_id, path="/note?greedy")
        greedy.want_idle()  # they are in the queue
        modest.headers(1, path="/note?modest")
        modest.want_idle()
        gated.open()
        # One that was first in the queue may come before it.
        assert modest.response(1).body in (b"modest", b"greedy,modest")
        greedy.responses(range(1, 103, 2))


def test_requests_of_many_connections_take_turns(serve: Serve, gated: Gated) -> None:
    server = serve(**gated.options, threads=1)
    with connected(server) as first, contextlib.ExitStack() as stack:
        first.headers(1, path="/wait")
        first.want_idle()
        clients = [stack.enter_context(connected(server)) for _ in range(4)]
        for number, client in enumerate(clients):
            with client.one_write():
                for stream_id in range(1, 11, 2):
                    client.headers(stream_id, path=f"/note?{number}")
            client.want_idle()
        gated.open()
        for client in clients:
            client.responses(range(1, 11, 2))
        order = first.request(path="/note?end", stream_id=3).body
        assert order == b",".join([b"0,1,2,3"] * 5) + b",end"


def test_a_slow_reader_holds_up_nobody(serve: Serve, tls: bool) -> None:
    server = serve(tls=tls, threads=2)
    with connected(server, {Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW}) as slow:
        slow.window_update(0, MAX_WINDOW - 65_535)
        slow.headers(1, path="/large?n=50000000")
        with connected(server) as other:
            for _ in range(20):
                assert other.request(path="/hello").body == HELLO
            assert len(other.request(path="/large?n=3000000").body) == 3_000_000
        with Http1Client(server) as http1:
            assert http1.get().body == HELLO


def test_a_slow_application_holds_up_no_frames(serve: Serve) -> None:
    """PING is answered while every thread is busy."""
    server = serve(threads=1)
    with connected(server) as client:
        client.headers(1, path="/sleep?s=2")
        client.headers(3, path="/hello")
        took = seconds(lambda: client.want_idle(timeout=10))
        whole = took + seconds(lambda: client.responses([1, 3]))
        assert took < whole / 2


# -- the queue's bound ---------------------------------------------------------------------


def test_a_full_queue_refuses(serve: Serve, gated: Gated) -> None:
    gated.options["env"]["GUNICORN_H2_MAX_QUEUED_REQUESTS"] = "1"
    server = serve(**gated.options, threads=1)
    # In this order: a worker with a full queue does not accept connections.
    with Http1Client(server) as http1, connected(server) as client:
        client.headers(1, path="/wait")
        client.headers(3, path="/note?queued")
        client.headers(5, path="/note?refused")
        client.want_rst(5, ErrorCode.REFUSED_STREAM)
        http1.send(request("/note?refused"))
        answer = http1.response()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert http1.read_to_end() == b""
        gated.open()
        assert client.response(1).body == b"waited"
        assert client.response(3).body == b"queued"
        # There is room again, and what was refused did not run.
        assert client.request(path="/note?later", stream_id=7).body == b"queued,later"
