"""Gunicorn's own settings do under this worker what Gunicorn's documentation says."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import signal
import time
from pathlib import Path

import pytest

from gunicorn_h2.settings import SETTINGS
from tests.conftest import Serve
from tests.support.apps import HELLO
from tests.support.frames import NothingArrived, RawClient, ServerClosed
from tests.support.http1 import Http1Client
from tests.support.server import Server, wait_until
from tests.support.wire import ErrorCode, Setting

APP = '''
import json, os, threading, time

IMPORTED_IN = os.getpid()
lock = threading.Lock()
inside = most = 0

def app(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](environ, start_response)

def reply(start_response, value):
    body = json.dumps(value).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def overlap(environ, start_response):
    """How many were in here at once, at most."""
    global inside, most
    with lock:
        inside += 1
        most = max(most, inside)
    time.sleep(0.2)
    with lock:
        inside -= 1
    return reply(start_response, most)

def multithread(environ, start_response):
    return reply(start_response, environ["wsgi.multithread"])

def busy(environ, start_response):
    """Never gives the interpreter up by itself."""
    end = time.monotonic() + float(environ["QUERY_STRING"])
    while time.monotonic() < end:
        pass
    return reply(start_response, os.getpid())

def process(environ, start_response):
    return reply(start_response, {
        "pid": os.getpid(), "imported_in": IMPORTED_IN, "directory": os.getcwd(),
        "variable": os.environ.get("TESTS_VARIABLE"), "uid": os.getuid(), "gid": os.getgid(),
    })
'''


@pytest.fixture(scope="module")
def app_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("settings_app")
    (directory / "settings_app.py").write_text(APP)
    return directory


@pytest.fixture
def app_args(app_directory: Path) -> list[str]:
    return ["--pythonpath", str(app_directory)]


def get(server: Server, path: str) -> object:
    """Return what our application says, over a connection of its own."""
    with RawClient(server).greet() as client:
        return json.loads(client.request(path=path).body)


# -- threads -------------------------------------------------------------------------


def most_at_once(server: Server, count: int) -> object:
    with RawClient(server).greet() as client:
        with client.one_write():
            for number in range(count):
                client.headers(2 * number + 1, path="/overlap")
        answers = client.responses(range(1, 2 * count, 2))
        return max(json.loads(answer.body) for answer in answers.values())


def test_eight_threads_by_default(serve: Serve, app_args: list[str]) -> None:
    server = serve("settings_app:app", args=app_args)
    assert most_at_once(server, 20) == 8
    assert get(server, "/multithread") is True


@pytest.mark.parametrize("source", ["command line", "GUNICORN_CMD_ARGS", "configuration file"])
def test_one_thread_if_asked_for(serve: Serve, app_args: list[str], source: str) -> None:
    server = {
        "command line": lambda: serve("settings_app:app", args=app_args, threads=1),
        "GUNICORN_CMD_ARGS": lambda: serve(
            "settings_app:app", args=app_args, env={"GUNICORN_CMD_ARGS": "--threads=1"}
        ),
        "configuration file": lambda: serve("settings_app:app", args=app_args, conf="threads = 1"),
    }[source]()
    assert most_at_once(server, 5) == 1
    assert get(server, "/multithread") is False


# -- connections and time --------------------------------------------------------------


def test_worker_connections_is_a_hard_cap(serve: Serve) -> None:
    server = serve(args=["--worker-connections", "3"])
    clients = [RawClient(server).greet() for _ in range(3)]
    try:
        with RawClient(server, timeout=1) as waiting:
            with pytest.raises(NothingArrived):
                waiting.greet()
            for client in clients:
                assert client.request(path="/hello").body == HELLO
            clients.pop().close()
            # Its preface was sent already.
            waiting.settings(ack=True)
            assert waiting.request(path="/hello", timeout=10).body == HELLO
    finally:
        for client in clients:
            client.close()


def test_an_idle_http_1_connection_is_closed_after_keepalive(serve: Serve) -> None:
    server = serve(args=["--keep-alive", "1"])
    with Http1Client(server) as client:
        assert client.get().header("connection") == "keep-alive"
        assert client.read_to_end() == b""


def test_no_keepalive(serve: Serve) -> None:
    server = serve(args=["--keep-alive", "0"])
    with Http1Client(server) as client:
        assert client.get().header("connection") == "close"
        assert client.read_to_end() == b""


def test_an_idle_or_busy_worker_outlives_its_timeout(serve: Serve, app_args: list[str]) -> None:
    server = serve("settings_app:app", args=[*app_args, "--timeout", "2"])
    before = server.worker_pid
    time.sleep(4)  # idle
    with RawClient(server).greet() as client:
        for stream_id in (1, 3):
            client.headers(stream_id, path="/busy?4")
        answers = client.responses([1, 3], timeout=30)
    assert [json.loads(answer.body) for answer in answers.values()] == [before] * 2
    assert "WORKER TIMEOUT" not in server.log()


def test_a_worker_without_a_heartbeat_is_replaced(serve: Serve, app_args: list[str]) -> None:
    server = serve("settings_app:app", args=[*app_args, "--timeout", "1"])
    before = server.worker_pid
    os.kill(before, signal.SIGSTOP)
    server.wait_log("WORKER TIMEOUT", timeout=20)
    wait_until(lambda: len(server.booted_pids()) == 2, 20, "another worker")
    process = get(server, "/process")
    assert isinstance(process, dict)
    assert process["pid"] != before


def test_timeout_0_is_none(serve: Serve) -> None:
    server = serve(args=["--timeout", "0"])
    with RawClient(server).greet() as client:
        assert client.request(path="/hello").body == HELLO


# -- limits -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def limited(module_serve: Serve) -> Server:
    args = ["--limit-request-line", "100", "--limit-request-fields", "10"]
    return module_serve(args=[*args, "--limit-request-field_size", "100"])


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("/hello?" + "x" * 200, 0, 414),
        ("/hello", 20, 431),
        ("/hello", -200, 431),
    ],
    ids=["line", "fields", "field_size"],
)
def test_limits_hold_for_one_stream_only(
    limited: Server, path: str, fields: int, status: int
) -> None:
    extra = [(f"x-{n}", "1") for n in range(fields)] or [("x-a", "x" * -fields)]
    with Http1Client(limited) as http1:
        expected = http1.get(path, *(f"{name}: {value}" for name, value in extra)).status
        assert expected in (400, status), "an older Gunicorn has no 414"
    with RawClient(limited).greet() as client:
        with client.one_write():
            client.headers(1, path="/sleep?s=0.3")
            client.headers(3, path=path, extra=extra)
            client.headers(5, path="/hello")
        answers = client.responses([1, 3, 5])
        assert [answers[each].status for each in (1, 3, 5)] == [200, expected, 200]
        assert client.request(path="/hello").body == HELLO


# -- SETTINGS ---------------------------------------------------------------------------------


def test_the_http2_settings_are_announced(serve: Serve) -> None:
    server = serve(
        conf="http2_max_concurrent_streams = 7\nhttp2_initial_window_size = 100000\n"
        "http2_max_frame_size = 20000\nhttp2_max_header_list_size = 5000\n"
    )
    with RawClient(server).greet() as client:
        assert client.peer_settings == {
            Setting.MAX_CONCURRENT_STREAMS: 7,
            Setting.INITIAL_WINDOW_SIZE: 100_000,
            Setting.MAX_FRAME_SIZE: 20_000,
            Setting.MAX_HEADER_LIST_SIZE: 5_000,
        }
        assert client.request("POST", "/echo", body=b"x" * 300_000).body == b"x" * 300_000
        with client.one_write():
            for number in range(8):
                client.headers(3 + 2 * number, path="/sleep?s=0.3")
        answers = client.responses(range(3, 19, 2))
        assert answers[17].reset_code == ErrorCode.REFUSED_STREAM
        assert [answers[each].status for each in range(3, 17, 2)] == [200] * 7


def test_every_setting_at_its_default_in_the_configuration_file(serve: Serve) -> None:
    conf = "".join(f"{name} = {row.default!r}\n" for name, row in SETTINGS.items())
    server = serve(conf=conf)
    with RawClient(server).greet() as client, Http1Client(server) as http1:
        assert client.peer_settings[Setting.MAX_CONCURRENT_STREAMS] == 100
        assert client.request(path="/hello").body == HELLO
        assert http1.get().body == HELLO


# -- how the process is set up --------------------------------------------------------------


@pytest.mark.parametrize("preload", [False, True])
def test_preload_app(serve: Serve, app_args: list[str], preload: bool) -> None:
    args = [*app_args, "--preload"] if preload else app_args
    server = serve("settings_app:app", args=args)
    process = get(server, "/process")
    assert isinstance(process, dict)
    assert process["imported_in"] == (server.master_pid if preload else process["pid"])


def test_chdir_and_raw_env(serve: Serve, app_args: list[str], tmp_path: Path) -> None:
    args = [*app_args, "--chdir", str(tmp_path), "--env", "TESTS_VARIABLE=set"]
    server = serve("settings_app:app", args=args, env={"PYTHONPATH": os.getcwd()})
    process = get(server, "/process")
    assert isinstance(process, dict)
    assert (process["directory"], process["variable"]) == (str(tmp_path.resolve()), "set")


def test_worker_tmp_dir(serve: Serve, tmp_path: Path) -> None:
    server = serve(args=["--worker-tmp-dir", str(tmp_path)])
    links = Path(f"/proc/{server.worker_pid}/fd").iterdir()
    assert any(os.readlink(link).startswith(f"{tmp_path}/wgunicorn") for link in links)


def test_error_log_in_a_file(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    server = serve(
        args=["--error-logfile", str(log), "--log-level", "debug"],
        # Where the test's server looks for the address.
        conf="import sys\ndef when_ready(server):\n"
        "    listeners = ','.join(str(each) for each in server.LISTENERS)\n"
        "    print(f'Listening at: {listeners} (1)', file=sys.stderr, flush=True)",
    )
    with RawClient(server).greet() as client:
        assert client.request(path="/raise").status == 500
        # USR1: reopen.
        log.rename(tmp_path / "moved.log")
        server.signal(signal.SIGUSR1)
        wait_until(log.exists, what="the new log")

        def logged() -> bool:
            assert client.request(path="/raise").status == 500
            return "ApplicationError" in log.read_text()

        wait_until(logged, what="an error in the new log")
    assert "ApplicationError: before start_response" in (tmp_path / "moved.log").read_text()


def test_reload(serve: Serve, tmp_path: Path) -> None:
    module = tmp_path / "reloaded_app.py"

    def write(text: str) -> None:
        module.write_text(
            "def app(environ, start_response):\n"
            "    start_response('200 OK', [])\n"
            f"    return [{text.encode()!r}]\n"
        )

    def body() -> bytes:
        with contextlib.suppress(ServerClosed), RawClient(server).greet() as client:
            return client.request().body
        return b""

    write("before")
    server = serve("reloaded_app:app", args=["--reload", "--pythonpath", str(tmp_path)])
    with RawClient(server).greet() as client:
        assert client.request().body == b"before"
        # The poller compares times of modification.
        write("afterwards")
        os.utime(module, (time.time() + 10,) * 2)
        client.want_goaway()
    wait_until(lambda: body() == b"afterwards", 20, "the new code")
    assert "Traceback" not in server.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_user_and_group(serve: Serve, app_directory: Path, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    group = grp.getgrgid(nobody.pw_gid).gr_name
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("")
    args = ["-c", str(conf), "--preload", "--user", "nobody", "--group", group]
    server = serve("settings_app:app", args=[*args, "--pythonpath", str(app_directory)])
    process = get(server, "/process")
    assert isinstance(process, dict)
    assert (process["uid"], process["gid"]) == (nobody.pw_uid, nobody.pw_gid)
