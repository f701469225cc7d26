"""Requests and connections that have had their time, and workers that have none left.

`h2_request_timeout`, `h2_max_connection_age`, the end of `graceful_timeout`, a full queue.
"""

from __future__ import annotations

import signal
import time
from typing import Any

import pytest
from hyperframe.frame import HeadersFrame, SettingsFrame

from tests.conftest import Serve
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.server import wait_until
from tests.support.wire import PREFACE, ErrorCode, Setting

#: Far longer than any test lasts.
FOREVER = "/sleep?s=600"


def deadline(seconds: str, **env: str) -> dict[str, Any]:
    return {"env": {"GUNICORN_H2_REQUEST_TIMEOUT": seconds, **env}, "graceful_timeout": 1}


# -- h2_request_timeout --------------------------------------------------------------------


def test_a_late_answer_is_a_504(serve: Serve, tls: bool) -> None:
    server = serve(threads=3, tls=tls, **deadline("0.5"))
    with RawClient(server).greet() as client, Http1Client(server) as http1:
        client.headers(1, path="/sleep?s=4")
        http1.send(request("/sleep?s=4&h1"))
        answer = client.response(1)
        assert (answer.status, answer.body, answer.reset_code) == (504, b"", None)
        assert http1.response().status == 504
        assert http1.read_to_end() == b""
        # Nothing else on the connection has noticed.
        assert client.request(path="/hello", stream_id=3).status == 200
        server.wait_log(r"GET /sleep has run for \d\.\d s, longer than h2_request_timeout:")
        # The application is done only now, and is told in the log what became of it.
        server.wait_access_log(r'"GET /sleep\?s=4 HTTP/2.0" 504 ')
        server.wait_access_log(r'"GET /sleep\?s=4&h1 HTTP/1.1" 504 ')
        assert client.request(path="/hello", stream_id=5).status == 200
    assert "Traceback" not in server.log()


def test_a_response_that_goes_on_for_too_long_is_cut_off(serve: Serve) -> None:
    server = serve(threads=3, **deadline("0.5"))
    path = "/stream?n=6000&delay=0.1"
    with RawClient(server).greet() as client, Http1Client(server) as http1:
        client.headers(1, path=path)
        http1.send(request(path))
        answer = client.response(1)
        assert (answer.status, answer.reset_code) == (200, ErrorCode.INTERNAL_ERROR)
        assert answer.body
        text = http1.read_to_end()
        assert text.startswith(b"HTTP/1.1 200") and not text.endswith(b"0\r\n\r\n")
        assert client.request(path="/hello", stream_id=3).status == 200
        server.wait_log(r"GET /stream has run for .*: its response was cut off")
        # Both threads learnt of it when they next wrote.
        server.wait_access_log(r"(?s)/stream.*/stream")


def test_what_the_application_has_not_seen_may_be_retried(serve: Serve) -> None:
    server = serve(threads=1, **deadline("0.5"))
    with RawClient(server).greet() as client, Http1Client(server) as http1:
        client.headers(1, path="/sleep?s=3")
        client.want_idle()
        client.headers(3, path="/hello?refused")
        http1.send(request("/hello?refused"))
        assert client.response(3).reset_code == ErrorCode.REFUSED_STREAM
        answer = http1.response()
        assert (answer.status, answer.header("retry-after")) == (503, "1")
        assert client.response(1).status == 504


def test_a_thread_is_free_only_when_the_application_has_returned(serve: Serve) -> None:
    server = serve(threads=2, **deadline("0.5"))
    with RawClient(server).greet() as client:
        client.headers(1, path=FOREVER)
        assert client.response(1).status == 504
        started = time.monotonic()
        client.headers(3, path="/sleep?s=0.3")
        client.headers(5, path="/sleep?s=0.3")
        assert {answer.status for answer in client.responses([3, 5]).values()} == {200}
        assert time.monotonic() - started >= 0.6, "they ran side by side"


def test_a_response_in_time_that_nobody_reads_is_not_its_concern(serve: Serve) -> None:
    """The application is done; `h2_write_timeout` is for the rest."""
    server = serve(threads=1, **deadline("0.5"))
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        client.headers(1, path="/large?n=60000")
        client.want(HeadersFrame, 1)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() - started > 2.5, what="two ticks to pass")
        client.window_update(1, 60_000)
        assert len(client.response(1).body) == 60_000


def test_a_worker_whose_threads_are_all_stuck_replaces_itself(serve: Serve) -> None:
    server = serve(threads=2, **{**deadline("0.5"), "graceful_timeout": 60})
    old = server.worker_pid
    with RawClient(server).greet() as client:
        client.headers(1, path=FOREVER)
        client.headers(3, path=FOREVER)
        assert {client.response(1).status, client.response(3).status} == {504}
        server.wait_log("Every thread has been busy for longer than h2_request_timeout")
        client.want_goaway(ErrorCode.NO_ERROR)
    wait_until(lambda: old not in server.worker_pids(), 20, "the stuck worker's end")
    with RawClient(server).greet() as client:
        assert client.request(path="/hello").status == 200


def test_one_thread_that_is_not_stuck_keeps_the_worker(serve: Serve) -> None:
    server = serve(threads=2, **deadline("0.5"))
    with RawClient(server).greet() as client:
        client.headers(1, path=FOREVER)
        assert client.response(1).status == 504
        for stream_id in range(3, 9, 2):
            assert client.request(path="/sleep?s=0.4", stream_id=stream_id).status == 200
    assert "replacing" not in server.log()


# -- the end of graceful_timeout ------------------------------------------------------------


def test_what_outlives_graceful_timeout_is_told_and_logged(serve: Serve) -> None:
    server = serve(threads=2, graceful_timeout=2)
    with (
        RawClient(server).greet() as client,
        RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 0}) as reader,
        Http1Client(server) as http1,
    ):
        reader.headers(1, path="/large?n=60000")
        reader.want(HeadersFrame, 1)
        server.wait_access_log("/large")
        client.headers(1, path=FOREVER)
        http1.send(request(FOREVER))
        wait_until(lambda: server.thread_count() >= 3, what="both requests on threads")
        client.headers(3, path="/hello?waits-for-a-thread")
        client.want_idle()
        server.signal(signal.SIGTERM)
        client.want_rst(1, ErrorCode.INTERNAL_ERROR)
        client.want_rst(3, ErrorCode.REFUSED_STREAM)
        client.want_goaway(ErrorCode.NO_ERROR)
        client.want_closed()
        # Complete, but unread: not the application's fault.
        reader.want_rst(1, ErrorCode.CANCEL)
        assert http1.read_to_end() == b""
        assert server.wait_exit() == 0
    log = server.log()
    assert log.count("GET /sleep has run for ") == 2
    assert "cut off: the worker exits" in log
    # The master had no need to kill it.
    assert "SIGKILL" not in log and "/hello" not in log


# -- h2_max_connection_age -------------------------------------------------------------------


def test_an_old_connection_is_drained(serve: Serve, tls: bool) -> None:
    server = serve(
        tls=tls, env={"GUNICORN_H2_MAX_CONNECTION_AGE": "0.5"}, args=["--keep-alive", "60"]
    )
    with RawClient(server).greet() as client, Http1Client(server) as http1:
        client.headers(1, path="/sleep?s=3")
        assert http1.get().header("connection") == "keep-alive"
        goaway = client.want_goaway(ErrorCode.NO_ERROR)
        assert goaway.last_stream_id == 2**31 - 1
        assert client.response(1).body == b"slept"
        client.want_closed()
        assert http1.read_to_end() == b""
    with Http1Client(server) as http1:
        http1.send(request("/sleep?s=3"))
        assert http1.response().header("connection") == "close"
    assert server.log().count("Booting worker") == 1


# -- a full queue ------------------------------------------------------------------------------


def test_a_worker_with_a_full_queue_leaves_new_connections_to_others(serve: Serve) -> None:
    server = serve(threads=1, env={"GUNICORN_H2_MAX_QUEUED_REQUESTS": "2"})
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=3")
        for stream_id in (3, 5, 7):
            client.headers(stream_id, path="/hello")
        client.want_rst(7, ErrorCode.REFUSED_STREAM)
        with RawClient(server) as newcomer:
            newcomer.write_bytes(PREFACE)
            newcomer.settings()
            for _ in range(5):
                client.want_idle(HeadersFrame)
            newcomer.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                newcomer.sock.recv(1)
            client.responses([1, 3, 5], timeout=30)
            newcomer.want(SettingsFrame)
            newcomer.settings(ack=True)
            assert newcomer.request(path="/hello").status == 200
