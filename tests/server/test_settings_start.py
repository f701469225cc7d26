"""Settings of a real Gunicorn: what stops its start, and what its workers run with."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.frames import RawClient
from tests.support.proc import processes
from tests.support.server import BOOT_TIMEOUT, ROOT, Server, wait_until
from tests.support.wire import Setting

SUBCLASSES = """
from gunicorn_h2 import H2Worker

class Wrong(H2Worker):
    h2_idle_timeout = -3

class Misspelt(H2Worker):
    h2_idle_timout = 30

class Tuned(H2Worker):
    h2_max_resets = 7
    http2_max_concurrent_streams = 9
"""
WRONG = "h2_idle_timeout = -3"
ALLOWED = "must be a number of seconds from 0 to 86400"


class Gunicorn:
    """``gunicorn`` in a directory of the test, where its default file is looked for."""

    def __init__(self, directory: Path, env: Mapping[str, str], args: tuple[str, ...]) -> None:
        command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *args]
        if "-k" not in args:
            command += ["-k", "gunicorn_h2.H2Worker"]
        if gunicorn_version() >= (25, 1):
            command.append("--no-control-socket")
        self._log = directory / "stderr"
        with open(self._log, "wb") as stderr:
            self.process = subprocess.Popen(
                [*command, "tests.support.apps:app"],
                cwd=directory,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
            )

    def group(self) -> list[int]:
        return [each.pid for each in processes() if each.group == self.process.pid]

    def log(self) -> str:
        return self._log.read_text()

    def port(self) -> int:
        wait_until(lambda: "Listening at: " in self.log(), BOOT_TIMEOUT, "the listener")
        found = re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", self.log())
        assert found is not None
        return int(found[1])

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port()}{path}", timeout=10) as got:
            return json.load(got)

    def wait_worker(self, other_than: int = 0) -> int:
        """Wait until only a worker that is not ``other_than`` answers; its pid."""

        def replaced() -> bool:
            workers = {pid for pid in self.group() if pid != self.process.pid}
            return len(workers) == 1 and other_than not in workers

        wait_until(replaced, BOOT_TIMEOUT, "the new worker")
        return int(self.get("/pid"))


def environment(added: Mapping[str, str]) -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GUNICORN_")}
    return {**kept, "PYTHONPATH": str(ROOT), **added}


@contextmanager
def gunicorn(
    directory: Path, *args: str, env: Mapping[str, str] | None = None
) -> Iterator[Gunicorn]:
    started = Gunicorn(directory, env or {}, args)
    try:
        yield started
    finally:
        started.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            started.process.wait(15)
        for pid in started.group():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        started.process.wait()


def assert_start_is_refused(started: Gunicorn, line: str) -> None:
    """One line, a failing status, and nothing left that listens or runs."""
    assert started.process.wait(BOOT_TIMEOUT) == 1
    log = started.log()
    assert log.count("Error") == 1 and f"\nError: {line}\n" in log
    assert "Traceback" not in log
    assert "Booting worker" not in log
    assert started.group() == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", started.port()), 10)


# -- starts that are refused --------------------------------------------------


@pytest.mark.matrix
def test_wrong_value_in_the_default_file(tmp_path: Path) -> None:
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text(WRONG)
    with gunicorn(tmp_path) as started:
        assert_start_is_refused(started, f"{WRONG} (from {conf}): {ALLOWED}")


@pytest.mark.parametrize("given", ["settings.py", "./settings.py", "file:settings.py"])
def test_wrong_value_in_a_file_given_by_name(tmp_path: Path, given: str) -> None:
    (tmp_path / "settings.py").write_text(WRONG)
    with gunicorn(tmp_path, "-c", given) as started:
        line = f"{WRONG} (from {tmp_path / 'settings.py'}): {ALLOWED}"
        assert started.process.wait(BOOT_TIMEOUT) == 1
        assert line in started.log().replace("/./", "/")


def test_wrong_value_in_a_module(tmp_path: Path) -> None:
    (tmp_path / "tuning.py").write_text(WRONG)
    with gunicorn(tmp_path, "-c", "python:tuning") as started:
        assert_start_is_refused(started, f"{WRONG} (from python:tuning): {ALLOWED}")


@pytest.mark.matrix
def test_wrong_value_in_the_environment(tmp_path: Path) -> None:
    variable = "GUNICORN_H2_IDLE_TIMEOUT"
    with gunicorn(tmp_path, env={variable: "soon"}) as started:
        line = f"h2_idle_timeout = 'soon' (from {variable}): {ALLOWED}"
        assert_start_is_refused(started, line)


def test_wrong_value_in_gunicorns_raw_env(tmp_path: Path) -> None:
    variable = "GUNICORN_H2_IDLE_TIMEOUT"
    with gunicorn(tmp_path, "--env", f"{variable}=-3") as started:
        assert_start_is_refused(started, f"{WRONG} (from {variable}): {ALLOWED}")


@pytest.mark.matrix
def test_wrong_value_in_the_worker_class(tmp_path: Path) -> None:
    (tmp_path / "subclasses.py").write_text(SUBCLASSES)
    with gunicorn(tmp_path, "-k", "subclasses.Wrong") as started:
        assert_start_is_refused(started, f"{WRONG} (from class Wrong): {ALLOWED}")


@pytest.mark.matrix
def test_misspelt_names(tmp_path: Path) -> None:
    (tmp_path / "subclasses.py").write_text(SUBCLASSES)
    said = "no such setting, the nearest is h2_idle_timeout"
    with gunicorn(tmp_path, "-k", "subclasses.Misspelt") as started:
        assert_start_is_refused(started, f"h2_idle_timout (from class Misspelt): {said}")
    with gunicorn(tmp_path, env={"GUNICORN_H2_IDLE_TIMOUT": "30"}) as started:
        line = f"h2_idle_timout (from GUNICORN_H2_IDLE_TIMOUT): {said}"
        assert_start_is_refused(started, line)
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("h2_idle_timout = 30")
    with gunicorn(tmp_path) as started:
        assert_start_is_refused(started, f"h2_idle_timout (from {conf}): {said}")


def test_no_threads_at_all(tmp_path: Path) -> None:
    with gunicorn(tmp_path, "--threads", "0") as started:
        line = "threads = 0 (from the command line): must be an integer from 1 to 10000"
        assert_start_is_refused(started, line)


# -- what the workers run with ------------------------------------------------


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("options", "several"),
    [
        ({}, True),
        ({"conf": "threads = 1"}, False),
        ({"args": ["--threads", "1"]}, False),
        ({"args": ["--thread=1"]}, False),
        ({"env": {"GUNICORN_CMD_ARGS": "--threads 1"}}, False),
        ({"conf": "threads = 1", "args": ["--threads", "2"]}, True),
    ],
)
def test_one_thread_only_where_it_was_asked_for(
    serve: Serve, options: dict[str, Any], several: bool
) -> None:
    server = serve(**options)
    with urllib.request.urlopen(server.url + "/environ", timeout=10) as got:
        assert json.load(got)["wsgi.multithread"] is several


def announced(server: Server) -> dict[int, int]:
    with RawClient(server) as client:
        client.greet()
        return dict(client.peer_settings)


@pytest.mark.matrix
def test_gunicorns_http2_settings_are_what_a_peer_is_told(serve: Serve) -> None:
    told = announced(
        serve(
            conf="http2_max_concurrent_streams = 9\nhttp2_initial_window_size = 70_000\n"
            "http2_max_frame_size = 20_000\nhttp2_max_header_list_size = 30_000"
        )
    )
    assert told[Setting.MAX_CONCURRENT_STREAMS] == 9
    assert told[Setting.INITIAL_WINDOW_SIZE] == 70_000
    assert told[Setting.MAX_FRAME_SIZE] == 20_000
    assert told[Setting.MAX_HEADER_LIST_SIZE] == 30_000


def test_class_attributes_of_a_subclass_are_used(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "subclasses.py").write_text(SUBCLASSES)
    server = serve(
        worker_class="subclasses.Tuned", env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    )
    assert announced(server)[Setting.MAX_CONCURRENT_STREAMS] == 9


# -- reload and respawn -------------------------------------------------------


def test_changed_file_is_read_on_reload(tmp_path: Path) -> None:
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("threads = 1")
    with gunicorn(tmp_path) as started:
        worker = started.wait_worker()
        assert started.get("/environ")["wsgi.multithread"] is False
        # Of another length, or Python's bytecode cache could take it for the one before.
        conf.write_text("threads = 2  # more")
        started.process.send_signal(signal.SIGHUP)
        started.wait_worker(other_than=worker)
        assert started.get("/environ")["wsgi.multithread"] is True


def test_removed_file_holds_for_respawned_workers_until_a_reload(tmp_path: Path) -> None:
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("threads = 1")
    with gunicorn(tmp_path) as started:
        first = started.wait_worker()
        conf.unlink()
        os.kill(first, signal.SIGTERM)
        second = started.wait_worker(other_than=first)
        assert started.get("/environ")["wsgi.multithread"] is False
        started.process.send_signal(signal.SIGHUP)
        started.wait_worker(other_than=second)
        assert started.get("/environ")["wsgi.multithread"] is True


def test_wrong_value_on_reload_is_told_and_ends_the_server(tmp_path: Path) -> None:
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("h2_idle_timeout = 3")
    with gunicorn(tmp_path) as started:
        started.wait_worker()
        conf.write_text(WRONG)
        started.process.send_signal(signal.SIGHUP)
        assert started.process.wait(BOOT_TIMEOUT) != 0
        assert f"{WRONG} (from {conf}): {ALLOWED}" in started.log()
        wait_until(lambda: started.group() == [], what="the workers to end")
