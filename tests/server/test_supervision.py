"""The examples for supervisord and systemd hold what they promise, run from the very files."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import require_tool
from tests.support.proc import processes
from tests.support.server import ROOT, wait_until
from tests.support.supervisor import TIMEOUT, Site, Supervisord


@contextmanager
def made_site() -> Iterator[Site]:
    # A short path: there will be a Unix socket in it.
    with tempfile.TemporaryDirectory(prefix="gunicorn-h2-") as directory:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        yield Site(Path(directory), port)


@pytest.fixture
def site() -> Iterator[Site]:
    with made_site() as site:
        yield site


def is_running(pid: int) -> bool:
    return any(each.pid == pid for each in processes())


def setting(example: str, name: str) -> int:
    """Return the number that an example gives a setting."""
    found = re.search(rf"^{name} ?= ?(\d+)$", (ROOT / "examples" / example).read_text(), re.M)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("example", "name"),
    [("supervisord.conf", "stopwaitsecs"), ("gunicorn-h2.service", "TimeoutStopSec")],
)
def test_nobody_is_killed_within_graceful_timeout(example: str, name: str) -> None:
    assert setting(example, name) > setting("gunicorn.conf.py", "graceful_timeout")


# -- supervisord ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def supervisord() -> Iterator[Supervisord]:
    pytest.importorskip("supervisor")
    with made_site() as site:
        supervisord = Supervisord(site)
        try:
            supervisord.wait_running()
            yield supervisord
        finally:
            supervisord.close()


def test_stop_finishes_what_runs_and_start_serves(supervisord: Supervisord) -> None:
    site = supervisord.site
    with ThreadPoolExecutor() as threads:
        slow = threads.submit(site.get, "/stream?n=4&delay=0.5&size=5")
        wait_until(lambda: threads_of(site.worker()) >= 3, what="the request on a thread")
        assert supervisord.control("stop", "app") == "app: stopped\n"
        assert slow.result() == b"aaaaabbbbbcccccddddd"
    assert not site.is_up()
    assert supervisord.control("start", "app") == "app: started\n"
    supervisord.wait_running()
    assert site.get("/hello") == b"Hello, world!"


def test_restart_is_a_new_master(supervisord: Supervisord) -> None:
    before = supervisord.master()
    assert supervisord.control("restart", "app") == "app: stopped\napp: started\n"
    assert supervisord.master() not in (0, before)
    assert supervisord.site.get("/hello") == b"Hello, world!"


def test_hup_replaces_the_workers_and_loses_nothing(supervisord: Supervisord) -> None:
    site = supervisord.site
    master, worker = supervisord.master(), site.worker()
    assert supervisord.control("signal", "HUP", "app") == "app: signalled\n"
    # Any request that is lost on the way is an exception here.
    wait_until(lambda: site.worker() != worker, what="the new worker")
    wait_until(lambda: not is_running(worker), TIMEOUT, "the end of the old one")
    assert supervisord.master() == master


def test_a_killed_worker_is_replaced_by_the_master(supervisord: Supervisord) -> None:
    site = supervisord.site
    master, worker = supervisord.master(), site.worker()
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not is_running(worker), what="the end of the worker")
    assert site.worker() != worker
    assert supervisord.master() == master


def test_a_killed_master_is_replaced_by_supervisord(supervisord: Supervisord) -> None:
    site = supervisord.site
    master, worker = supervisord.master(), site.worker()
    os.kill(master, signal.SIGKILL)
    wait_until(lambda: supervisord.master() not in (0, master), TIMEOUT, "the next master")
    wait_until(lambda: not is_running(worker), TIMEOUT, "the end of the orphan")
    supervisord.wait_running()
    assert site.get("/hello") == b"Hello, world!"


def threads_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


# -- systemd -------------------------------------------------------------------------------

#: Does what systemd does before it runs a service: the socket becomes descriptor 3.
ACTIVATE = """
import os, sys
descriptor, *command = sys.argv[1:]
os.dup2(int(descriptor), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(command[0], command)
"""


@contextmanager
def running(
    command: list[str], site: Site, output: Path, descriptors: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command that ends on TERM, with the status 0."""
    with open(output, "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=site.directory,
            env=site.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
        )
    try:
        yield process
        process.terminate()
        assert process.wait(TIMEOUT) == 0, output.read_text()
    finally:
        for each in processes():
            if each.group == process.pid:
                os.kill(each.pid, signal.SIGKILL)
        process.wait()


def command_of(site: Site) -> list[str]:
    """Return the command of the service."""
    (line,) = re.findall(r"^ExecStart=(.*)$", site.adapt("gunicorn-h2.service"), re.M)
    return shlex.split(line)


def test_the_units_are_valid(site: Site, tmp_path: Path) -> None:
    tool = require_tool("systemd-analyze")
    units = [tmp_path / name for name in ("gunicorn-h2.service", "gunicorn-h2.socket")]
    for unit in units:
        unit.write_text(site.adapt(unit.name))
    run = subprocess.run([tool, "verify", *units], capture_output=True, text=True, timeout=TIMEOUT)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_first_connections_start_the_service(site: Site, tmp_path: Path) -> None:
    tool = require_tool("systemd-socket-activate")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifications:
        path = str(site.directory / "notify")
        notifications.bind(path)
        notifications.settimeout(TIMEOUT)
        output = tmp_path / "output"
        with running(
            [tool, f"--listen=127.0.0.1:{site.port}"]
            + [f"--setenv={name}" for name in ("PYTHONPATH", "PATH")]
            + [f"--setenv=NOTIFY_SOCKET={path}", *command_of(site)],
            site,
            output,
        ):
            wait_until(lambda: "Listening on" in output.read_text(), what="the socket")
            assert "Starting gunicorn" not in output.read_text()
            with ThreadPoolExecutor(10) as threads:
                answers = list(threads.map(site.get, ["/hello"] * 10))
            assert answers == [b"Hello, world!"] * 10
            assert notifications.recv(1024).startswith(b"READY=1\n")


def test_a_restart_under_a_held_socket_loses_no_connection(site: Site, tmp_path: Path) -> None:
    with socket.socket() as listener, ThreadPoolExecutor(10) as threads:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", site.port))
        listener.listen(100)
        descriptor = listener.fileno()
        command = [sys.executable, "-c", ACTIVATE, str(descriptor), *command_of(site)]
        with running(command, site, tmp_path / "first", [descriptor]):
            first = site.worker()
            slow = threads.submit(site.get, "/sleep?s=1")
        # Nobody is there to take these.
        waiting = [threads.submit(site.worker) for _ in range(9)]
        with running(command, site, tmp_path / "second", [descriptor]):
            answered_by = {each.result() for each in waiting}
            # By the first, or, if it was still in the backlog, by the second.
            assert slow.result() == b"slept"
    assert len(answered_by) == 1
    assert first not in answered_by
