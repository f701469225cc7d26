"""The tests' own servers, certificates, application and rule about skips."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.apps import HELLO, repeated
from tests.support.certs import ADDRESSES, DNS_NAME, Certs, make_certs, make_with_openssl
from tests.support.proc import processes
from tests.support.server import ROOT, BootError, Server, parse_address, wait_until

GTHREAD: dict[str, Any] = {"worker_class": "gthread", "threads": 4}


# -- certificates -------------------------------------------------------------


@pytest.mark.parametrize("make", [make_certs, make_with_openssl])
def test_both_ends_trust_the_certificates(make: Callable[[Path], Certs], tmp_path: Path) -> None:
    certs = make(tmp_path)
    accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accepting.load_cert_chain(certs.cert, certs.key)
    accepting.load_verify_locations(certs.ca)
    accepting.verify_mode = ssl.CERT_REQUIRED
    for name in (DNS_NAME, *ADDRESSES):
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = certs.client_context(client_cert=True).wrap_bio(
            to_client, to_server, server_hostname=name
        )
        server = accepting.wrap_bio(to_server, to_client, server_side=True)
        for end in (client, server, client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        assert server.getpeercert()


# -- the server ---------------------------------------------------------------


def test_a_server_and_all_of_it_ends(certs: Certs, tls: bool) -> None:
    with Server(tls=tls, certs=certs, workers=2, **GTHREAD) as server:
        workers = server.worker_pids()
        assert len(workers) == 2
        assert set(workers) == server.booted_pids()
        for pid in workers:
            assert server.rss(pid) > 1 << 20
            assert server.thread_count(pid) >= 1
            assert server.fd_count(pid) > 3
        master = server.master_pid
        with contextlib.closing(connection(server)) as http1:
            http1.request("GET", "/pid")
            assert int(http1.getresponse().read()) in workers
        server.wait_access_log(r'"GET /pid HTTP/1.1" 200')
    assert server.stop() == 0
    assert not server.killed
    assert not {each.pid for each in processes()}.intersection({master, *workers})
    assert "Shutting down: Master" in server.log()


def test_configuration_environment_and_sockets(serve: Serve, tmp_path: Path) -> None:
    conf = """
        import os
        def post_worker_init(worker):
            worker.log.info("hook of %s", os.environ["WHO"])
    """
    server = serve(
        conf=textwrap.dedent(conf),
        env={"WHO": "the test"},
        bind=["unix:", "127.0.0.1:0"],
        **GTHREAD,
    )
    server.wait_log("hook of the test")
    path, tcp = server.addresses
    assert isinstance(path, str)
    assert tcp == (server.host, server.port)
    for address in server.addresses:
        with server.connect(address) as raw:
            raw.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
            assert raw.makefile("rb").read().endswith(HELLO)


def test_workers_are_known_after_a_reload(serve: Serve) -> None:
    server = serve(**GTHREAD)
    before = server.worker_pid
    server.signal(signal.SIGHUP)
    wait_until(lambda: server.booted_pids() - {before}, what="a new worker")
    wait_until(lambda: before not in server.worker_pids(), what="the end of the old worker")
    assert server.worker_pid in server.booted_pids()


def test_a_failure_to_boot_shows_the_log(certs: Certs) -> None:
    with pytest.raises(BootError, match="No module named 'no_such_module'"):
        Server("no_such_module:app", certs=certs, **GTHREAD).start()
    with pytest.raises(BootError, match="oops"):
        Server(conf="raise RuntimeError('oops')", **GTHREAD).start()


def test_a_server_that_ignores_term_is_killed() -> None:
    conf = """
        import signal
        def when_ready(server):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    """
    with Server(conf=textwrap.dedent(conf), graceful_timeout=0, **GTHREAD) as server:
        group = {server.master_pid, *server.worker_pids()}
        assert server.stop(margin=0.2) == -signal.SIGKILL
    assert server.killed
    wait_until(lambda: not group & {each.pid for each in processes()}, what="their end")


def test_a_server_ends_with_the_tests_even_when_they_are_killed() -> None:
    script = """
        import os, signal
        from tests.support.server import Server
        server = Server(worker_class="gthread").start()
        print(server.master_pid, *server.worker_pids(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        capture_output=True,
        timeout=60,
    )
    assert run.returncode == -signal.SIGKILL
    group = {int(pid) for pid in run.stdout.split()}
    assert len(group) == 2
    wait_until(lambda: not group & {each.pid for each in processes()}, what="their end")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("http://127.0.0.1:80", ("127.0.0.1", 80)),
        ("https://127.0.0.1:443", ("127.0.0.1", 443)),
        ("http://[::1]:80", ("::1", 80)),
        ("https://::1:443", ("::1", 443)),
        ("unix:/run/a b.sock", "/run/a b.sock"),
    ],
)
def test_addresses_as_gunicorn_logs_them(text: str, address: object) -> None:
    assert parse_address(text) == address


# -- the application ----------------------------------------------------------


def test_the_paths_of_the_application(serve: Serve) -> None:
    server = serve(**GTHREAD)

    def get(path: str, body: bytes | None = None) -> tuple[int, bytes]:
        with contextlib.closing(connection(server)) as http1:
            http1.request("GET" if body is None else "POST", path, body)
            response = http1.getresponse()
            try:
                return response.status, response.read()
            except http.client.IncompleteRead as error:
                return response.status, error.partial

    assert get("/hello") == (200, HELLO)
    assert json.loads(get("/environ?a=b")[1])["QUERY_STRING"] == "a=b"
    assert get("/echo", b"body") == (200, b"body")
    assert json.loads(get("/read?size=3", b"1234567")[1]) == {
        "count": 7,
        "reads": 3,
        "sha256": hashlib.sha256(b"1234567").hexdigest(),
    }
    assert get("/sleep?s=0") == (200, b"slept")
    assert get("/stream?n=2&size=3") == (200, b"aaabbb")
    assert get("/write?n=2&size=3") == (200, b"aaabbb")
    for path in ("/large", "/file"):
        for length in (0, 1):
            expected = b"".join(repeated(100_000))
            assert get(f"{path}?n=100000&cl={length}") == (200, expected)
    assert get("/status?code=418")[0] == 418
    assert get("/status?code=204") == (204, b"")
    assert get("/headers?x-a=b") == (200, b"headers")
    assert get("/raise")[0] == 500
    assert get("/raise-mid") == (200, b"first piece")
    assert get("/nowhere")[0] == 404
    assert get("/pid")[1].decode() == str(server.worker_pid)
    assert "MainThread" in json.loads(get("/threads")[1])
    assert int(get("/calls")[1]) + 1 == int(get("/calls")[1])


def connection(server: Server) -> http.client.HTTPConnection:
    if not server.tls:
        return http.client.HTTPConnection(server.host, server.port, timeout=10)
    assert server.certs is not None
    context = server.certs.client_context(["http/1.1"])
    return http.client.HTTPSConnection(server.host, server.port, timeout=10, context=context)


# -- the rule about skips -----------------------------------------------------


@pytest.mark.parametrize("no_skip", [False, True])
@pytest.mark.parametrize("skip", ["require_tool('no-such-tool')", "importorskip('no_such_module')"])
@pytest.mark.parametrize("where", ["module", "test"])
def test_a_missing_tool_skips_unless_that_is_forbidden(
    no_skip: bool, skip: str, where: str, tmp_path: Path
) -> None:
    body = f"    {skip}" if where == "test" else "    pass"
    top = skip if where == "module" else ""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(
        "from pytest import importorskip\nfrom tests.conftest import require_tool\n"
        f"{top}\ndef test_it():\n{body}\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "GUNICORN_TESTS_NO_SKIP": str(int(no_skip))},
        capture_output=True,
        text=True,
        timeout=60,
    )
    failed = "1 error" if where == "module" else "1 failed"
    assert (failed if no_skip else "1 skipped") in run.stdout
    assert ("(GUNICORN_TESTS_NO_SKIP is set)" in run.stdout) == no_skip
