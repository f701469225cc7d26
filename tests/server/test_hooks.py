"""Gunicorn's server hooks are called when and with what its documentation says."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hyperframe.frame import HeadersFrame

from tests.conftest import Serve
from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, post, request
from tests.support.server import Server, wait_until

#: Every hook notes its call; a header asks the request hooks to fail.
CONF = """
import json, os

def note(hook, worker=None, **facts):
    facts.update(hook=hook, pid=os.getpid(), worker=getattr(worker, "pid", None))
    with open({path!r}, "a") as file:
        file.write(json.dumps(facts) + "\\n")

def when_ready(server):
    note("when_ready", listeners=len(server.LISTENERS))

def post_worker_init(worker):
    note("post_worker_init", worker, loaded=callable(worker.wsgi))

def wants(req, what):
    return ("X-FAIL", what) in req.headers

def pre_request(worker, req):
    note("pre_request", worker, method=req.method, path=req.path, query=req.query)
    if wants(req, "pre"):
        raise ValueError("pre_request failed")

def post_request(worker, req, environ, resp):
    note("post_request", worker, path=req.path, info=environ.get("PATH_INFO"),
         status=resp and resp.status, sent=resp and resp.sent)
    if wants(req, "post"):
        raise ValueError("post_request failed")

def worker_int(worker):
    note("worker_int", worker)

def worker_abort(worker):
    note("worker_abort", worker)

def worker_exit(server, worker):
    note("worker_exit", worker)

def child_exit(server, worker):
    note("child_exit", worker)

def on_exit(server):
    note("on_exit", master=server.pid)
"""


class Notes:
    """What the hooks have noted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.conf = CONF.format(path=str(path))

    def all(self) -> list[dict[str, object]]:
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text().splitlines()]

    def of(self, *hooks: str) -> list[dict[str, object]]:
        return [each for each in self.all() if each["hook"] in hooks]

    def wait(self, hook: str, count: int = 1) -> list[dict[str, object]]:
        wait_until(lambda: len(self.of(hook)) >= count, what=f"{count} of {hook}")
        found = self.of(hook)
        assert len(found) == count
        return found


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


def facts(note: dict[str, object], *names: str) -> tuple[object, ...]:
    return tuple(note[name] for name in names)


# -- of the processes ------------------------------------------------------------------


def test_hooks_of_a_whole_life(serve: Serve, notes: Notes) -> None:
    server = serve(conf=notes.conf)
    master, worker = server.master_pid, server.worker_pid
    assert facts(notes.wait("when_ready")[0], "pid", "listeners") == (master, 1)
    (booted,) = notes.wait("post_worker_init")
    assert facts(booted, "pid", "worker", "loaded") == (worker, worker, True)
    assert server.stop() == 0
    assert facts(notes.wait("worker_exit")[0], "pid", "worker") == (worker, worker)
    assert facts(notes.wait("on_exit")[0], "pid", "master") == (master, master)
    order = [str(each["hook"]) for each in notes.all()]
    assert order.index("when_ready") < order.index("post_worker_init")
    assert order.index("worker_exit") < order.index("on_exit")
    assert "worker_int" not in order
    assert "worker_abort" not in order


@pytest.mark.parametrize(
    ("signum", "hook"),
    [
        (signal.SIGINT, "worker_int"),
        (signal.SIGQUIT, "worker_int"),
        (signal.SIGABRT, "worker_abort"),
        (signal.SIGTERM, None),
    ],
)
def test_signals_to_a_worker(
    serve: Serve, notes: Notes, signum: signal.Signals, hook: str | None
) -> None:
    server = serve(conf=notes.conf)
    worker = server.worker_pid
    with RawClient(server).greet() as client:
        assert client.request(path="/hello").body == HELLO
        os.kill(worker, signum)
        if hook is not None:
            assert facts(notes.wait(hook)[0], "pid", "worker") == (worker, worker)
        assert facts(notes.wait("worker_exit")[0], "pid", "worker") == (worker, worker)
        assert facts(notes.wait("child_exit")[0], "pid", "worker") == (server.master_pid, worker)
    notes.wait("post_worker_init", 2)
    with RawClient(server).greet() as client:
        assert client.request(path="/hello").body == HELLO


# -- of the requests ----------------------------------------------------------------------

Ask = Callable[[Server, str, bytes | None, list[tuple[str, str]]], int]


def ask_http2(server: Server, path: str, body: bytes | None, fields: list[tuple[str, str]]) -> int:
    with RawClient(server).greet() as client:
        method = "GET" if body is None else "POST"
        return client.request(method, path, body=body, extra=fields).status


def ask_http1(server: Server, path: str, body: bytes | None, fields: list[tuple[str, str]]) -> int:
    lines = [f"{name}: {value}" for name, value in fields]
    with Http1Client(server) as client:
        client.send(request(path, *lines) if body is None else post(path, body, *lines))
        return client.response().status


WAYS = pytest.mark.parametrize(
    ("worker_class", "ask"),
    [
        ("gunicorn_h2.H2Worker", ask_http2),
        ("gunicorn_h2.H2Worker", ask_http1),
        ("gthread", ask_http1),
    ],
    ids=["http2", "http1", "gthread"],
)


@WAYS
def test_hooks_of_a_request(serve: Serve, notes: Notes, worker_class: str, ask: Ask) -> None:
    server = serve(conf=notes.conf, worker_class=worker_class)
    worker = server.worker_pid
    requests = [("/hello?a=b", None, 200), ("/echo", b"body", 200), ("/status?code=404", None, 404)]
    for number, (path, body, status) in enumerate(requests, 1):
        assert ask(server, path, body, []) == status
        notes.wait("post_request", number)
    assert [
        facts(each, "pid", "worker", "method", "path", "query") for each in notes.of("pre_request")
    ] == [
        (worker, worker, "GET", "/hello", "a=b"),
        (worker, worker, "POST", "/echo", ""),
        (worker, worker, "GET", "/status", "code=404"),
    ]
    assert [
        facts(each, "pid", "worker", "path", "info", "status", "sent")
        for each in notes.of("post_request")
    ] == [
        (worker, worker, "/hello", "/hello", "200 OK", 13),
        (worker, worker, "/echo", "/echo", "200 OK", 4),
        (worker, worker, "/status", "/status", "404 Not Found", 13),
    ]
    order = [each["hook"] for each in notes.of("pre_request", "post_request")]
    assert order == ["pre_request", "post_request"] * 3


@WAYS
def test_a_failing_application(serve: Serve, notes: Notes, worker_class: str, ask: Ask) -> None:
    server = serve(conf=notes.conf, worker_class=worker_class)
    assert ask(server, "/raise", None, []) == 500
    (note,) = notes.wait("post_request")
    assert facts(note, "path", "info", "status", "sent") == ("/raise", "/raise", None, 0)


@WAYS
def test_a_failing_pre_request(serve: Serve, notes: Notes, worker_class: str, ask: Ask) -> None:
    server = serve(conf=notes.conf, worker_class=worker_class)
    assert ask(server, "/hello", None, [("x-fail", "pre")]) == 500
    server.wait_log("ValueError: pre_request failed")
    # There is neither environ nor response then.
    (note,) = notes.wait("post_request")
    assert facts(note, "path", "info", "status") == ("/hello", None, None)
    assert ask(server, "/hello", None, []) == 200


@WAYS
def test_a_failing_post_request(serve: Serve, notes: Notes, worker_class: str, ask: Ask) -> None:
    server = serve(conf=notes.conf, worker_class=worker_class)
    assert ask(server, "/hello", None, [("x-fail", "post")]) == 200
    server.wait_log("Exception in post_request hook")
    server.wait_log("ValueError: post_request failed")
    assert ask(server, "/hello", None, []) == 200


def test_siblings_of_a_failing_hook(serve: Serve, notes: Notes) -> None:
    server = serve(conf=notes.conf)
    with RawClient(server).greet() as client:
        with client.one_write():
            for stream_id, what in ((1, "none"), (3, "pre"), (5, "post"), (7, "none")):
                client.headers(stream_id, path="/hello", extra=[("x-fail", what)])
        answers = client.responses([1, 3, 5, 7])
        assert [answers[each].status for each in (1, 3, 5, 7)] == [200, 500, 200, 200]
    notes.wait("post_request", 4)


def test_post_request_after_a_cancelled_request(serve: Serve, notes: Notes) -> None:
    server = serve(conf=notes.conf, threads=1)
    with RawClient(server).greet() as client:
        client.headers(1, path="/stream?n=100&delay=0.05")
        client.want(HeadersFrame, 1)
        client.rst(1)
        assert client.request(path="/hello", stream_id=3).body == HELLO
    first, second = notes.wait("post_request", 2)
    assert facts(first, "path", "status") == ("/stream", "200 OK")
    assert facts(second, "path", "status") == ("/hello", "200 OK")


@pytest.mark.parametrize("parameters", ["worker, req", "worker, req, environ"])
def test_the_shorter_forms_of_post_request(serve: Serve, tmp_path: Path, parameters: str) -> None:
    called = tmp_path / "called"
    conf = f"def post_request({parameters}):\n    open({str(called)!r}, 'w').write(req.path)\n"
    server = serve(conf=conf)
    assert ask_http2(server, "/hello", None, []) == 200
    wait_until(lambda: called.exists() and called.read_text() == "/hello", what="the hook")
    assert not re.search(r"Traceback|ERROR", server.log())
