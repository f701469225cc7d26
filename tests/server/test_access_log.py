"""The access log says of a stream what gthread's says of the same request over HTTP/1.1."""

from __future__ import annotations

import itertools
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hyperframe.frame import HeadersFrame

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.server import Server, wait_until
from tests.support.tcp import reset_on_close
from tests.support.wire import Setting

ATOMS = ["h", "l", "u", "t", "r", "m", "U", "q", "H", "s", "b", "B", "f", "a", "T", "D", "M", "L"]
ATOMS += ["p", "{x-asked}i", "{host}i", "{none}i", "{content-type}o", "{x-said}o", "{none}o"]
ATOMS += ["{path_info}e", "{raw_uri}e", "{server_protocol}e", "{wsgi.url_scheme}e", "{none}e"]

#: One JSON object a line; no value of ours holds what JSON would have to escape.
FORMAT = "{" + ", ".join(f'"{atom}": "%({atom})s"' for atom in ATOMS) + "}"
CONF = f"access_log_format = {FORMAT!r}\n"

#: These tell of the protocol, of the time and of the process.
PROTOCOL = {"r", "H", "{server_protocol}e"}
TIME = {"t", "T", "D", "M", "L"}
DIFFERENT = PROTOCOL | TIME | {"p"}

Field = tuple[str, str]

REQUESTS: dict[str, tuple[str, str, list[Field], bytes | None]] = {
    "plain": ("GET", "/hello", [], None),
    "everything": (
        "GET",
        "/headers?x-said=so&content-type=text/x",
        [
            ("x-asked", "much"),
            ("referer", "http://localhost/before"),
            ("user-agent", "tests/1.0"),
            ("authorization", "Basic dXNlcjpwYXNzd29yZA=="),
        ],
        None,
    ),
    "escapes": ("GET", "/status?code=404&x=%22%20y", [("referer", "a\\b")], None),
    "a path": ("GET", "/n%6Fthing%2Fhere", [], None),
    "head": ("HEAD", "/hello", [], None),
    "post": ("POST", "/echo", [("content-type", "text/y")], b"posted"),
    "204": ("GET", "/status?code=204", [], None),
    "304": ("GET", "/status?code=304", [], None),
    "no length": ("GET", "/stream?n=3", [], None),
    "large": ("GET", "/large?n=1000000", [], None),
    "file": ("GET", "/file?n=300000&cl=1", [], None),
    "write": ("GET", "/write", [], None),
    "error": ("GET", "/raise", [], None),
    "error after start": ("GET", "/raise-after", [], None),
    "bad header": ("GET", "/headers?a=b%0D%0Ac:d", [], None),
}


@pytest.fixture(scope="module")
def servers(module_serve: Serve) -> tuple[Server, Server]:
    return module_serve(conf=CONF), module_serve(conf=CONF, worker_class="gthread", threads=4)


def ask_http2(server: Server, method: str, path: str, fields: list[Field], body: Any) -> None:
    with RawClient(server).greet() as client:
        client.request(method, path, body=body, extra=fields)


def ask_http1(server: Server, method: str, path: str, fields: list[Field], body: Any) -> None:
    lines = [f"{name}: {value}" for name, value in fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    with Http1Client(server) as client:
        client.send(request(path, *lines, method=method) + (body or b""))
        client.response(method)


def lines(server: Server) -> list[str]:
    return server.access_log().splitlines()


def atoms(line: str) -> dict[str, str]:
    # Gunicorn escapes quotes; a backslash of ours is one.
    return dict(json.loads(line.replace("\\", "\\\\").replace('\\\\"', '\\"')))


def logged(server: Server, ask: Any, name: str) -> dict[str, str]:
    """Make a request and return the one line that it leaves."""
    before = len(lines(server))
    ask(server, *REQUESTS[name])
    wait_until(lambda: len(lines(server)) > before, what="a line in the access log")
    (line,) = lines(server)[before:]
    return atoms(line)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("ask", [ask_http2, ask_http1], ids=["http2", "http1"])
def test_every_atom(servers: tuple[Server, Server], ask: Any, name: str) -> None:
    ours, gthread = servers
    mine, theirs = logged(ours, ask, name), logged(gthread, ask_http1, name)
    same = set(ATOMS) - DIFFERENT
    if name == "file":
        # gthread does not count what sendfile() sends.
        assert (mine["b"], mine["B"]) == ("300000", "300000")
        same -= {"b", "B"}
    if gunicorn_version() < (27,) and name in ("head", "bad header"):
        # Older ones count what HEAD does not send, and blame the client for the header.
        assert (mine["s"], mine["B"]) == ("200" if name == "head" else "500", "0")
        same -= {"s", "b", "B"}
    assert {atom: mine[atom] for atom in same} == {atom: theirs[atom] for atom in same}
    method, path, _, _ = REQUESTS[name]
    protocol = "HTTP/2.0" if ask is ask_http2 else "HTTP/1.1"
    assert mine["H"] == mine["{server_protocol}e"] == protocol
    assert mine["r"] == f"{method} {path} {protocol}".replace('"', '\\"')
    assert theirs["r"].removesuffix("HTTP/1.1") == mine["r"].removesuffix(protocol)
    assert re.fullmatch(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", mine["t"])
    assert mine["p"] == f"<{ours.worker_pid}>"


def test_durations(serve: Serve) -> None:
    server = serve(conf=CONF)
    ask_http2(server, "GET", "/sleep?s=1.2", [], None)
    server.wait_access_log("/sleep")
    line = atoms(lines(server)[0])
    assert int(line["T"]) >= 1
    assert int(line["M"]) >= 1200
    assert int(line["D"]) >= 1_200_000
    assert float(line["L"]) >= 1.2
    assert int(line["D"]) // 1000 == int(line["M"])


def test_the_default_format(serve: Serve) -> None:
    server = serve()
    ask_http2(server, "GET", "/hello?a=b", [("user-agent", "x"), ("referer", "y")], None)
    line = server.wait_access_log(r'^127\.0\.0\.1 - - \[.+\] "(.*)" (\d+) (\d+) "(.*)" "(.*)"$')
    assert line.groups() == ("GET /hello?a=b HTTP/2.0", "200", "13", "y", "x")


def test_one_line_for_every_stream(serve: Serve) -> None:
    server = serve()
    with RawClient(server).greet() as client:
        ids = range(1, 61, 2)
        with client.one_write():
            for stream_id in ids:
                client.headers(stream_id, path=f"/hello?{stream_id}")
        client.responses(ids)
    wait_until(lambda: len(lines(server)) >= 30, what="the lines")
    assert sorted(re.findall(r"/hello\?(\d+)", server.access_log()), key=int) == [
        str(each) for each in ids
    ]


def statuses(server: Server) -> dict[str, str]:
    found = re.findall(r'"GET (\S+) [^"]*" (\d+)', server.access_log())
    assert len(dict(found)) == len(found), "a request has two lines"
    return dict(found)


def test_cancelled_requests(serve: Serve) -> None:
    server = serve(threads=1)
    with RawClient(server).greet({Setting.INITIAL_WINDOW_SIZE: 0}) as client:
        client.headers(1, path="/sleep?s=0.5")
        client.headers(3, path="/hello?waiting")
        client.headers(5, path="/large?n=1000000")
        client.want_idle()
        client.rst(1)  # it runs
        client.rst(3)  # it waits for the thread
        client.want(HeadersFrame, 5)
        client.rst(5)  # its response has begun
        client.headers(7, path="/hello?last")
        client.want(HeadersFrame, 7)
    wait_until(lambda: len(statuses(server)) == 4, what="four lines")
    assert statuses(server) == {
        "/sleep?s=0.5": "499",
        "/hello?waiting": "499",
        "/large?n=1000000": "200",
        "/hello?last": "200",
    }
    assert "[ERROR]" not in server.log()


def test_a_client_that_vanishes(serve: Serve) -> None:
    server = serve()
    with (
        RawClient(server).greet() as observer,
        RawClient(server).greet() as client,
        Http1Client(server) as http1,
    ):
        client.headers(1, path="/sleep?s=0.6")
        http1.send(request("/sleep?s=0.7"))
        # What the application has not got has no line.
        polls = itertools.count(1)

        def both_sleep() -> bool:
            poll = next(polls)
            return int(observer.request(path=f"/calls?{poll}").body) == 2 + poll

        wait_until(both_sleep, what="two calls before those that count them")
        for sock in (client.sock, http1.sock):
            # A reset: the end of our bytes alone would leave the answer welcome.
            reset_on_close(sock)
    wait_until(lambda: {"/sleep?s=0.6", "/sleep?s=0.7"} <= statuses(server).keys())
    assert {path: statuses(server)[path] for path in ("/sleep?s=0.6", "/sleep?s=0.7")} == {
        "/sleep?s=0.6": "499",
        "/sleep?s=0.7": "499",
    }
    assert not re.search(r"\[(ERROR|WARNING)\]", server.log())


def test_refused_by_gunicorns_rules(serve: Serve) -> None:
    """What is refused before the application runs has a line where gthread has one."""
    server = serve(args=["--limit-request-fields", "5"])
    with RawClient(server).greet() as client:
        assert client.request(path="/hello", extra=[("a-b", "1")] * 9).status == 431
    server.wait_log("Invalid request from ip=127.0.0.1")
    assert lines(server) == []


# -- where it goes ----------------------------------------------------------------------------


LOGGER = """
from gunicorn.glogging import Logger

class OwnLogger(Logger):
    def access(self, resp, req, environ, request_time):
        self.info("OWN %s %s %s %s %s", resp.status, resp.sent, req.path,
                  environ["SERVER_PROTOCOL"], request_time.total_seconds() >= 0)
"""


def test_a_logger_class_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "own_logger.py").write_text(LOGGER)
    server = serve(
        args=["--logger-class", "own_logger.OwnLogger"], env={"PYTHONPATH": str(tmp_path)}
    )
    ask_http2(server, "GET", "/hello", [], None)
    server.wait_log(r"OWN 200 OK 13 /hello HTTP/2\.0 True")
    assert lines(server) == []


def test_no_line_when_it_is_off(serve: Serve) -> None:
    # The tests' server turns it on by command line, which wins over all but this.
    conf = "def on_starting(server):\n    server.cfg.set('accesslog', None)\n"
    server = serve(conf=conf + "    server.log.setup(server.cfg)\n")
    ask_http2(server, "GET", "/hello", [], None)
    ask_http1(server, "GET", "/hello", [], None)
    assert (server.access_log(), server.stdout()) == ("", "")
    assert "/hello" not in server.log()


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        yield sock


def received(sock: socket.socket, pattern: str) -> str:
    """Return the first datagram that holds the pattern."""
    while True:
        text = sock.recv(65_536).decode()
        if re.search(pattern, text):
            return text


@pytest.mark.parametrize("redirected", [True, False])
def test_syslog(serve: Serve, datagrams: socket.socket, redirected: bool) -> None:
    to = f"udp://127.0.0.1:{datagrams.getsockname()[1]}"
    args = ["--log-syslog", "--log-syslog-to", to, "--log-syslog-prefix", "tests"]
    server = serve(args=args if redirected else [*args, "--disable-redirect-access-to-syslog"])
    ask_http2(server, "GET", "/hello", [], None)
    ask_http2(server, "GET", "/raise", [], None)
    pattern = r"GET /hello HTTP/2" if redirected else r"Error handling request .*/raise"
    text = received(datagrams, pattern + "|GET /hello")
    assert re.search(pattern, text)
    assert ("gunicorn.tests.access" if redirected else "gunicorn.tests.error") in text


def test_statsd(serve: Serve, datagrams: socket.socket) -> None:
    server = serve(args=["--statsd-host", f"127.0.0.1:{datagrams.getsockname()[1]}"], threads=1)
    with RawClient(server).greet() as client:
        client.headers(1, path="/sleep?s=0.3")
        client.want_idle()
        client.rst(1)
        assert client.request(path="/hello", stream_id=3).status == 200
    assert received(datagrams, r"request\.status\.499:1\|c")
    assert received(datagrams, r"request\.status\.200:1\|c")
    assert "Traceback" not in server.log()
