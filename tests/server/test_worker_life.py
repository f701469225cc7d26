"""How a worker ends and is replaced: graceful_timeout, max_requests; two workers under load."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hyperframe.frame import GoAwayFrame

from tests.conftest import Serve
from tests.support import require_tool
from tests.support.frames import RawClient, ServerClosed
from tests.support.http1 import Http1Client, request
from tests.support.server import Server, wait_until

# -- graceful_timeout --------------------------------------------------------------------


def test_what_runs_is_finished_within_graceful_timeout(serve: Serve) -> None:
    server = serve(graceful_timeout=20, args=["--keep-alive", "60"])
    with (
        Http1Client(server) as http1,
        RawClient(server).greet() as http2,
        Http1Client(server) as idle,
    ):
        assert idle.get().status == 200
        # Longer than what a stopping worker waits for a further request.
        http1.send(request("/sleep?s=3"))
        http2.headers(1, path="/sleep?s=3")
        wait_until(lambda: server.thread_count() >= 3, what="both requests on threads")
        server.signal(signal.SIGTERM)
        assert http2.response(1).body == b"slept"
        assert http1.response().body == b"slept"
        started = time.monotonic()
        assert server.wait_exit() == 0
        assert time.monotonic() - started < 10, "nothing was left to be waited for"
    assert "graceful_timeout is over" not in server.log()


def test_what_runs_longer_is_cut_off(serve: Serve) -> None:
    server = serve(graceful_timeout=1)
    with Http1Client(server) as http1, RawClient(server).greet() as http2:
        http1.send(request("/sleep?s=60"))
        http2.headers(1, path="/sleep?s=60")
        wait_until(lambda: server.thread_count() >= 3, what="both requests on threads")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert http1.read_to_end() == b""
        http2.want_closed()
        assert server.wait_exit() == 0
        assert time.monotonic() - started < 30


# -- max_requests -------------------------------------------------------------------------


def polite_client(server: Server, count: int, pids: set[bytes]) -> None:
    """Make requests on one connection after the other, as the server's GOAWAYs ask for."""
    client = None
    for _ in range(count):
        if client is not None and going_away(client):
            client.close()
            client = None
        if client is None:
            client = RawClient(server).greet()
        answer = client.request(path="/pid")
        assert (answer.status, answer.reset_code) == (200, None)
        pids.add(answer.body)
    if client is not None:
        client.close()


def going_away(client: RawClient) -> bool:
    try:
        client.want_idle(GoAwayFrame)
    except (AssertionError, ServerClosed):
        return True
    return False


@pytest.mark.parametrize("workers", [1, 2])
def test_max_requests_restarts_without_a_failed_request(serve: Serve, workers: int) -> None:
    server = serve(workers=workers, args=["--max-requests", "30", "--max-requests-jitter", "10"])
    pids: set[bytes] = set()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            polite_client(server, 50, pids)
        except BaseException as error:
            failures.append(error)

    clients = [threading.Thread(target=run) for _ in range(4)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    assert not failures
    assert len(pids) > workers
    assert server.log().count("Autorestarting worker") >= len(pids) - workers


def test_max_requests_over_http_1(serve: Serve) -> None:
    server = serve(args=["--max-requests", "5"])
    pids = set()
    for _ in range(12):
        with Http1Client(server) as client:
            answer = client.get("/pid")
            assert answer.status == 200
            pids.add(answer.body)
    assert len(pids) >= 2


# -- two workers --------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_load_on_two_workers(serve: Serve, tls: bool, protocol: str) -> None:
    server = serve(workers=2, tls=tls)
    command = [require_tool("h2load"), "-n", "3000", "-c", "10", "-m", "10"]
    if protocol == "http/1.1":
        command.append("--h1")
    load = subprocess.run(
        [*command, f"{server.url}/hello"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert re.search(r"3000 succeeded, 0 failed, 0 errored, 0 timeout", load.stdout), load.stdout
    assert "ERROR" not in server.log()


# -- reload -------------------------------------------------------------------------------


def test_a_change_of_the_code_drains_the_worker(serve: Serve, tmp_path: Path) -> None:
    module = tmp_path / "reloaded_app.py"
    code = "import time\ndef app(e, s):\n time.sleep(2)\n s('200 OK', [])\n return [b'%s']\n"
    module.write_text(code % "old")
    server = serve("reloaded_app:app", args=["--pythonpath", str(tmp_path), "--reload"])
    old = server.worker_pid
    with RawClient(server).greet() as client:
        client.headers(1, path="/")
        wait_until(lambda: server.thread_count() >= 3, what="the request on a thread")
        module.write_text(code % "renewed")
        client.want_goaway()
        assert client.response(1).body == b"old"
    wait_until(lambda: old not in server.worker_pids(), 20, "the worker's end")
    with RawClient(server).greet() as client:
        assert client.request(path="/").body == b"renewed"
