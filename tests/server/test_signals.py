"""Signals to a worker and to its master do what Gunicorn documents, whatever threads are at.

Which hooks a signal to an idle worker calls is in test_hooks.py.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client
from tests.support.proc import processes
from tests.support.server import ROOT, Server, parse_address, wait_until
from tests.support.wire import ErrorCode

#: Seconds of grace that nothing here should take: whoever waits for them is seen to.
LONG_GRACE = 60

QUICK = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGQUIT])

#: The hooks note their calls in the error log.
HOOKS = """
def worker_int(worker):
    worker.log.info("worker_int called")

def worker_abort(worker):
    worker.log.info("worker_abort called")

def worker_exit(server, worker):
    worker.log.info("worker_exit called")

def on_exit(server):
    server.log.info("on_exit called")
"""

#: Signal handlers run on the main thread, which is the loop's: this one never gives it back.
STUCK_LOOP = """
import signal, time

def post_worker_init(worker):
    signal.signal(signal.SIGUSR2, lambda signum, frame: time.sleep(1000))
"""

#: For servers whose master does not log where they listen, or logs it elsewhere.
ANNOUNCE = """
def when_ready(server):
    import sys

    (host, port), = server.cfg.address
    print(f"Listening at: http://{host}:{port} ({server.pid})", file=sys.stderr, flush=True)
"""

#: The loop logs this within a callback of the connection that reaches max_requests.
INT_IN_A_CALLBACK = """
import os, signal

def post_worker_init(worker):
    worker.log.error_log.addFilter(interrupt)

def interrupt(record):
    if "Autorestarting" in record.getMessage():
        os.kill(os.getpid(), signal.SIGINT)
    return True
"""


def is_running(pid: int) -> bool:
    return any(each.pid == pid for each in processes())


def wait_gone(pid: int, timeout: float = 20) -> None:
    wait_until(lambda: not is_running(pid), timeout, f"the end of process {pid}")


def assert_serves(server: Server) -> None:
    with RawClient(server).greet() as client:
        assert client.request(path="/hello").body == HELLO


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def assert_can_be_bound(port: int) -> None:
    """As the next server would bind it."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen()


def start_stuck_requests(client: RawClient, server: Server) -> None:
    """Have one thread sleep for ever, and another wait for a body that does not come."""
    client.headers(1, path="/sleep?s=1000")
    client.headers(3, method="POST", path="/echo", end_stream=False)
    wait_until(lambda: server.thread_count() >= 3, what="both requests on threads")


# -- INT, QUIT, ABRT ---------------------------------------------------------------------


@QUICK
def test_a_worker_quits_though_its_threads_are_stuck(serve: Serve, signum: signal.Signals) -> None:
    server = serve(conf=HOOKS, graceful_timeout=LONG_GRACE)
    worker = server.worker_pid
    with RawClient(server).greet() as client:
        start_stuck_requests(client, server)
        os.kill(worker, signum)
        wait_gone(worker)
    wait_until(lambda: len(server.booted_pids()) == 2, what="the next worker")
    assert_serves(server)
    log = server.log()
    assert log.index("worker_int called") < log.index("worker_exit called")
    assert "Traceback" not in log
    assert "exited with code" not in log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_quits_in_whatever_callback_the_signal_comes(
    serve: Serve, tls: bool, loop: str
) -> None:
    pytest.importorskip(loop)
    server = serve(
        tls=tls,
        conf=HOOKS + INT_IN_A_CALLBACK,
        env={"GUNICORN_H2_LOOP": loop},
        args=["--max-requests", "1"],
        graceful_timeout=LONG_GRACE,
    )
    worker = server.worker_pid
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=1000")
        wait_gone(worker)
    wait_until(lambda: len(server.booted_pids()) == 2, what="the next worker")
    assert "worker_int called" in server.log()
    assert "Traceback" not in server.log()


@QUICK
def test_a_master_quits_though_threads_are_stuck(serve: Serve, signum: signal.Signals) -> None:
    server = serve(conf=HOOKS, graceful_timeout=LONG_GRACE)
    with RawClient(server).greet() as client:
        start_stuck_requests(client, server)
        server.signal(signum)
        assert server.wait_exit() == 0
    log = server.log()
    calls = ["worker_int called", "worker_exit called", "on_exit called"]
    assert sorted(calls, key=log.index) == calls
    assert "Traceback" not in log


def test_a_master_that_drains_can_be_made_to_quit(serve: Serve) -> None:
    server = serve(conf=HOOKS, graceful_timeout=LONG_GRACE)
    with RawClient(server).greet() as client:
        start_stuck_requests(client, server)
        server.signal(signal.SIGTERM)
        client.want_goaway()
        server.signal(signal.SIGINT)
        assert server.wait_exit() == 0
    assert "worker_int called" in server.log()


def test_a_worker_with_a_stuck_loop_is_aborted(serve: Serve) -> None:
    server = serve(conf=HOOKS + STUCK_LOOP, args=["--timeout", "2"])
    worker = server.worker_pid
    os.kill(worker, signal.SIGUSR2)
    server.wait_log(rf"WORKER TIMEOUT \(pid:{worker}\)")
    server.wait_log("worker_abort called")
    server.wait_log("worker_exit called")
    wait_until(lambda: len(server.booted_pids()) == 2, what="the next worker")
    assert_serves(server)


# -- the master is gone --------------------------------------------------------------------


def test_an_idle_worker_ends_with_its_master(serve: Serve) -> None:
    server = serve(graceful_timeout=LONG_GRACE)
    worker = server.worker_pid
    server.signal(signal.SIGKILL)
    wait_gone(worker)


def test_an_orphan_leaves_the_port_at_once_and_is_gone_soon(serve: Serve) -> None:
    """Whoever started the master starts another, which must not have to wait for the old one."""
    server = serve(graceful_timeout=LONG_GRACE, threads=2)
    worker, port = server.worker_pid, server.port
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=600")
        wait_until(lambda: server.thread_count() >= 2, what="the request on a thread")
        server.signal(signal.SIGKILL)
        client.want_goaway()
        assert_can_be_bound(port)
        client.want_rst(1, ErrorCode.INTERNAL_ERROR)
        client.want_closed()
    wait_gone(worker)
    assert "GET /sleep has run for" in server.log()


def test_a_draining_worker_ends_without_its_master(serve: Serve) -> None:
    server = serve(graceful_timeout=LONG_GRACE)
    worker = server.worker_pid
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=600")
        wait_until(lambda: server.thread_count() >= 2, what="the request on a thread")
        os.kill(worker, signal.SIGTERM)
        client.want_goaway()
        server.signal(signal.SIGKILL)
        client.want_rst(1, ErrorCode.INTERNAL_ERROR)
        wait_gone(worker)


# -- USR1 ------------------------------------------------------------------------------------


def test_usr1_reopens_the_logs(serve: Serve, tmp_path: Path) -> None:
    access, errors = tmp_path / "access.log", tmp_path / "error.log"
    server = serve(
        bind=f"127.0.0.1:{free_port()}",
        conf=ANNOUNCE,
        args=["--access-logfile", str(access), "--error-logfile", str(errors)],
    )
    with Http1Client(server) as client:
        assert client.get("/hello?before").status == 200
        wait_until(lambda: "/hello?before" in access.read_text(), what="the access log")
        rotated = [path.rename(path.with_suffix(".1")) for path in (access, errors)]
        server.signal(signal.SIGUSR1)
        worker = str(server.worker_pid)
        wait_until(lambda: holds(worker, access, errors), what="the new files")
        assert client.get("/raise?after").status == 500
    wait_until(lambda: "/raise?after" in access.read_text(), what="the new access log")
    wait_until(lambda: "ApplicationError" in errors.read_text(), what="the new error log")
    for path in rotated:
        assert "after" not in path.read_text()


def holds(pid: str, *paths: Path) -> bool:
    """Whether a process has these files open."""
    opened = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return all(str(path.resolve()) in opened for path in paths)


# -- TTIN, TTOU, WINCH, USR2 -----------------------------------------------------------------


def test_ttin_adds_a_worker_and_ttou_drains_the_oldest(serve: Serve) -> None:
    server = serve(graceful_timeout=LONG_GRACE)
    oldest = server.worker_pid
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=2")
        wait_until(lambda: server.thread_count(oldest) >= 2, what="the request on a thread")
        server.signal(signal.SIGTTIN)
        wait_until(lambda: len(server.booted_pids()) == 2, what="the second worker")
        server.signal(signal.SIGTTOU)
        client.want_goaway()
        assert client.response(1).body == b"slept"
    wait_until(lambda: oldest not in server.worker_pids(), what="the end of the oldest")
    assert len(server.worker_pids()) == 1
    assert_serves(server)


def test_a_draining_worker_is_given_no_connections(serve: Serve) -> None:
    # With `reuse_port` each worker has a listener of its own, with its own backlog.
    server = serve(
        workers=2,
        graceful_timeout=LONG_GRACE,
        bind=f"127.0.0.1:{free_port()}",
        conf=ANNOUNCE,
        args=["--reuse-port"],
    )
    with RawClient(server).greet() as client:
        worker = int(client.request(path="/pid").body)
        client.headers(3, path="/sleep?s=3")
        wait_until(lambda: server.thread_count(worker) >= 2, what="the request on a thread")
        os.kill(worker, signal.SIGTERM)
        client.want_goaway()
        for _ in range(20):
            with Http1Client(server) as other:
                assert other.get("/hello").status == 200
        assert client.response(3).body == b"slept"


def test_winch_is_ignored_where_nothing_was_daemonised(serve: Serve) -> None:
    server = serve(args=["--log-level", "debug"])
    worker = server.worker_pid
    server.signal(signal.SIGWINCH)
    os.kill(worker, signal.SIGWINCH)
    server.wait_log("SIGWINCH ignored. Not daemonized")
    server.wait_log("worker: SIGWINCH ignored")
    assert_serves(server)
    assert server.worker_pids() == [worker]


class Daemon:
    """A server that has cut itself loose, known by its pidfile and its log."""

    def __init__(self, directory: Path) -> None:
        self._pidfile = directory / "pid"
        self._log = directory / "error.log"
        command = [sys.executable, "-m", "gunicorn", "--daemon", "-k", "gunicorn_h2.H2Worker"]
        command += ["--bind", "127.0.0.1:0", "--graceful-timeout", str(LONG_GRACE)]
        command += ["--pid", str(self._pidfile), "--error-logfile", str(self._log)]
        if gunicorn_version() >= (25, 1):
            command.append("--no-control-socket")
        subprocess.run([*command, "tests.support.apps:app"], cwd=ROOT, check=True)
        wait_until(lambda: self.booted_workers() == 1, what="the daemon")
        self.first_master = self.master()
        self.group = os.getpgid(self.first_master)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def booted_workers(self) -> int:
        return self.log().count("Booting worker")

    def master(self, suffix: str = "") -> int:
        return int(self._pidfile.with_name(f"pid{suffix}").read_text())

    def get(self, path: str) -> bytes:
        listening = self.log().partition("Listening at: ")[2].split()[0]
        host, port = parse_address(listening)
        connection = http.client.HTTPConnection(str(host), int(port), timeout=LONG_GRACE)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        finally:
            connection.close()

    def workers_of(self, master: int) -> list[int]:
        children = [each.pid for each in processes() if each.parent == master]
        return [pid for pid in children if pid not in self.masters()]

    def masters(self) -> set[int]:
        return {int(path.read_text()) for path in self._pidfile.parent.glob("pid*")}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path)
    try:
        yield daemon
    finally:
        for each in processes():
            if each.group == daemon.group:
                os.kill(each.pid, signal.SIGKILL)


def test_a_binary_upgrade_loses_no_request(daemon: Daemon) -> None:
    old = daemon.first_master
    answers: list[bytes] = []
    slow = threading.Thread(target=lambda: answers.append(daemon.get("/sleep?s=2")))
    slow.start()
    os.kill(old, signal.SIGUSR2)
    wait_until(lambda: daemon.booted_workers() == 2, what="the new master's worker")
    new = daemon.master(".2")
    os.kill(old, signal.SIGWINCH)
    wait_until(lambda: "graceful stop of workers" in daemon.log(), what="WINCH")
    pids = {int(daemon.get("/pid")) for _ in range(20)}
    slow.join()
    assert answers == [b"slept"]
    wait_until(lambda: not daemon.workers_of(old), what="the end of the old worker")
    assert pids == set(daemon.workers_of(new))
    os.kill(old, signal.SIGQUIT)
    wait_gone(old)
    wait_until(lambda: daemon.masters() == {new}, what="the promotion")
    assert int(daemon.get("/pid")) in pids
    os.kill(new, signal.SIGTERM)
    wait_gone(new)
    assert "Traceback" not in daemon.log()
