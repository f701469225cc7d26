"""A client that goes away: the application learns it at once, and so does the access log."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Callable

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame

from tests.conftest import Serve
from tests.support import http_client, require_tool
from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.http_client import WIRES, Wire
from tests.support.server import Server, wait_until
from tests.support.tcp import abort
from tests.support.wire import ErrorCode

APP = "tests.support.extension_apps:app"

GONE = "gunicorn_h2.errors.ClientDisconnected"
#: What an application reports once it has learnt that its client has gone, by path.
REPORTS = {
    "/wait-read": ["waiting", GONE, "disconnected: True"],
    "/wait-write": ["waiting", GONE],
    "/wait-callable": ["waiting", GONE],
    "/wait-poll": ["waiting", "disconnected", f"hints: {GONE}"],
    "/wait-yield": ["waiting", "yields after the client had gone: 1", "closed in time"],
}
#: Longer than anything here takes, but shorter than the server's own timeouts.
AT_ONCE = 10.0


@pytest.fixture(scope="module")
def servers(module_serve: Serve) -> dict[bool, Server]:
    return {tls: module_serve(APP, tls=tls, threads=4) for tls in (False, True)}


@pytest.fixture
def server(servers: dict[bool, Server], tls: bool) -> Server:
    return servers[tls]


@pytest.fixture
def request_id() -> str:
    return uuid.uuid4().hex


def events(server: Server, request_id: str) -> list[str]:
    with RawClient(server).greet() as client:
        told: list[str] = json.loads(client.request(path=f"/events?id={request_id}").body)
    return told


def wait_for_begin(server: Server, request_id: str) -> None:
    wait_until(lambda: events(server, request_id), what="the application to begin")


def wait_for_report(server: Server, path: str, request_id: str) -> None:
    """See the application report what it should, no more and no less."""
    wanted = REPORTS[path]
    wait_until(
        lambda: len(events(server, request_id)) >= len(wanted), AT_ONCE, f"the report of {path}"
    )
    told = events(server, request_id)
    if path == "/wait-yield":
        # The client may have gone between the last look and the yield.
        assert told[1] in (wanted[1], "yields after the client had gone: 0")
        told[1] = wanted[1]
    assert told == wanted


def reset(client: RawClient) -> None:
    client.rst(1, ErrorCode.CANCEL)


def close(client: RawClient | Http1Client) -> None:
    client.close()


@pytest.mark.parametrize("leave", [reset, close, abort], ids=lambda way: way.__name__)
@pytest.mark.parametrize("path", list(REPORTS))
def test_application_learns_of_it(
    server: Server, path: str, leave: Callable[[RawClient], None], request_id: str
) -> None:
    with RawClient(server).greet() as client:
        body = path == "/wait-read"
        client.headers(1, method="POST", path=f"{path}?id={request_id}", end_stream=not body)
        if body:
            client.data(1, b"half a body")
        wait_for_begin(server, request_id)
        leave(client)
        wait_for_report(server, path, request_id)


def test_generator_that_has_sent_something_is_closed(server: Server, request_id: str) -> None:
    path = f"/wait-yield?part=.&id={request_id}"
    with RawClient(server).greet() as client:
        client.headers(1, path=path)
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1)
        client.rst(1, ErrorCode.CANCEL)
        wait_for_report(server, "/wait-yield", request_id)


def test_generator_that_has_sent_something_is_closed_over_http1(
    server: Server, request_id: str
) -> None:
    with Http1Client(server) as client:
        client.send(request(f"/wait-yield?part=.&id={request_id}"))
        assert client.sock.recv(1)
        client.close()
        assert wait_until_closed(server, request_id)[-1] == "closed in time"


# Where TLS is not spoken, the end of the client's bytes may be all it means: it may still read.
@pytest.mark.parametrize(
    ("tls", "leave"),
    [(False, abort), (True, close), (True, abort)],
    ids=["cleartext-abort", "tls-close", "tls-abort"],
)
@pytest.mark.parametrize("path", list(REPORTS))
def test_application_learns_of_it_over_http1(
    servers: dict[bool, Server],
    path: str,
    tls: bool,
    leave: Callable[[Http1Client], None],
    request_id: str,
) -> None:
    server = servers[tls]
    with Http1Client(server) as client:
        url = f"{path}?id={request_id}"
        if path == "/wait-read":
            client.send(request(url, "Content-Length: 99", method="POST") + b"half a body")
        else:
            client.send(request(url))
        wait_for_begin(server, request_id)
        leave(client)
        wait_for_report(server, path, request_id)


def test_half_a_body_is_an_error_over_cleartext_http1(
    servers: dict[bool, Server], request_id: str
) -> None:
    server = servers[False]
    with Http1Client(server) as client:
        url = f"/wait-read?id={request_id}"
        client.send(request(url, "Content-Length: 99", method="POST") + b"half a body")
        wait_for_begin(server, request_id)
        client.half_close()
        wait_until(lambda: len(events(server, request_id)) > 1, AT_ONCE, "the read to end")
    assert events(server, request_id)[1] == GONE


def test_siblings_go_on(server: Server, request_id: str) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/wait-yield?id={request_id}")
        client.headers(3, method="POST", path="/echo", end_stream=False)
        wait_for_begin(server, request_id)
        client.rst(1, ErrorCode.CANCEL)
        wait_for_report(server, "/wait-yield", request_id)
        client.data(3, b"body", end_stream=True)
        assert client.response(3).body == b"body"


def test_a_request_that_waits_for_a_thread_is_not_run(serve: Serve, request_id: str) -> None:
    server = serve(APP, threads=1)
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.headers(3, path=f"/wait-poll?id={request_id}")
        client.rst(3, ErrorCode.CANCEL)
        client.want_idle()
        client.data(1, b"body", end_stream=True)
        assert client.response(1).body == b"body"
        assert json.loads(client.request(path=f"/events?id={request_id}").body) == []
    server.wait_access_log(rf'"GET /wait-poll\?id={request_id} HTTP/2.0" 499 ')


def test_access_log_says_499_where_there_was_no_status(server: Server, request_id: str) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/wait-poll?id={request_id}")
        wait_for_begin(server, request_id)
        client.rst(1, ErrorCode.CANCEL)
        server.wait_access_log(rf'"GET /wait-poll\?id={request_id} HTTP/2.0" 499 ')


def test_access_log_says_499_over_http1(server: Server, request_id: str) -> None:
    with Http1Client(server) as client:
        client.send(request(f"/wait-poll?id={request_id}"))
        wait_for_begin(server, request_id)
        abort(client)
        server.wait_access_log(rf'"GET /wait-poll\?id={request_id} HTTP/1.1" 499 ')


def test_access_log_keeps_the_status_that_was_sent(server: Server, request_id: str) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/wait-yield?part=.&id={request_id}")
        client.want(HeadersFrame, 1)
        client.rst(1, ErrorCode.CANCEL)
        server.wait_access_log(rf'"GET /wait-yield\?part=.&id={request_id} HTTP/2.0" 200 ')


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_httpx_gives_up(
    servers: dict[bool, Server], certs: Certs, wire: Wire, request_id: str
) -> None:
    server = servers[wire.tls]
    url = f"/wait-yield?part=.&id={request_id}"
    # Closed as a whole: httpx 0.28 does not reset a stream of which it wants no more.
    with (
        http_client.client(certs, server.url, wire.http2) as client,
        client.stream("GET", url) as response,
    ):
        assert response.http_version == wire.protocol
        assert next(response.iter_bytes()).startswith(b".")
    assert wait_until_closed(server, request_id)[-1] == "closed in time"


@pytest.mark.parametrize("option", ["--http2", "--http2-prior-knowledge", "--http1.1"])
def test_curl_times_out(
    servers: dict[bool, Server], certs: Certs, option: str, request_id: str
) -> None:
    server = servers[option != "--http2-prior-knowledge"]
    command = [require_tool("curl"), "-s", option, "--cacert", str(certs.ca), "--max-time", "1"]
    done = subprocess.run([*command, f"{server.url}/wait-poll?id={request_id}"], timeout=60)
    assert done.returncode == 28
    wait_for_report(server, "/wait-poll", request_id)


def wait_until_closed(server: Server, request_id: str) -> list[str]:
    wait_until(lambda: len(events(server, request_id)) >= 3, AT_ONCE, "the generator's close")
    return events(server, request_id)


def test_nothing_of_it_is_an_error(serve: Serve, request_id: str) -> None:
    server = serve(APP, threads=4)
    for path in REPORTS:
        over_h2, over_h1 = f"{request_id}{path[1:]}-2", f"{request_id}{path[1:]}-1"
        with RawClient(server).greet() as client:
            client.headers(1, method="POST", path=f"{path}?id={over_h2}", end_stream=False)
            wait_for_begin(server, over_h2)
            client.rst(1, ErrorCode.CANCEL)
            client.want_idle(GoAwayFrame)
        with Http1Client(server) as http1:
            http1.send(request(f"{path}?id={over_h1}", "Content-Length: 9", method="POST"))
            wait_for_begin(server, over_h1)
            abort(http1)
    ends = 2 * len(REPORTS)
    wait_until(lambda: len(re.findall(r"POST /wait-", server.access_log())) == ends, what="ends")
    server.stop()
    for unwanted in ("Traceback", "[ERROR]", "[WARNING]"):
        assert unwanted not in server.log()


def test_example(serve: Serve) -> None:
    server = serve("disconnects:app", args=["--chdir", "examples"])
    with RawClient(server).greet() as client:
        client.headers(1, path="/report")
        client.headers(3, path="/events")
        client.want(HeadersFrame, 3)
        client.want(DataFrame, 3, data=b"data: 0\n\n")
        client.rst(1, ErrorCode.CANCEL)
        client.rst(3, ErrorCode.CANCEL)
        server.wait_log(r"^report: given up after \d+ steps$")
        server.wait_log(r"^events: closed after \d+ turns$")
