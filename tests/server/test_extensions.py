"""Early hints, `Expect: 100-continue`, trailers both ways: what clients see of them."""

from __future__ import annotations

import json
import re
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from tests.conftest import Serve
from tests.support import http_client, require_tool
from tests.support.certs import Certs
from tests.support.extension_apps import HINTS
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, chunked, post, request
from tests.support.http_client import WIRES, Wire
from tests.support.server import Server

APP = "tests.support.extension_apps:app"

#: Seconds after which a client is taken to hang.
PATIENCE = 60

SENT_HINTS = [[(name.lower(), value) for name, value in each] for each in HINTS]
SENT_TRAILERS = [("x-sum", "4"), ("x-again", "1"), ("x-again", "2")]
TRAILER_LINES = "".join(f"{name}: {value}\r\n" for name, value in SENT_TRAILERS).encode()

#: Names that a connection or a message's framing needs for itself.
HOP_BY_HOP = ["Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Upgrade"]
FRAMING = ["Content-Length", "TE", "Trailer"]


@pytest.fixture(scope="module")
def servers(module_serve: Serve) -> dict[bool, Server]:
    return {tls: module_serve(APP, tls=tls, threads=4) for tls in (False, True)}


@pytest.fixture
def server(servers: dict[bool, Server], tls: bool) -> Server:
    return servers[tls]


def run(command: Sequence[str | Path]) -> tuple[str, str]:
    """Output and error output of a client, which must end well and by itself."""
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, (command, done.returncode, done.stderr[-2000:])
    return done.stdout.decode(), done.stderr.decode()


def text(fields: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode(), value.decode()) for name, value in fields]


def query(*fields: tuple[str, str]) -> str:
    return urlencode(fields, encoding="latin-1")


def lines(head: bytes) -> list[tuple[str, str]]:
    """The fields of an HTTP/1.1 head."""
    _, *rest = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(": ") for line in rest if line)
    return [(name, value) for name, _, value in pairs]


# -- early hints ----------------------------------------------------------------


def test_hints_come_before_the_response(server: Server) -> None:
    with RawClient(server).greet() as client:
        response = client.request(path="/hints")
    assert [text(each) for each in response.interim] == [
        [(":status", "103"), *fields] for fields in SENT_HINTS
    ]
    assert (response.status, response.body) == (200, b"page")


def test_hints_come_before_the_response_over_http1(server: Server) -> None:
    with Http1Client(server) as client:
        for _ in range(2):
            response = client.get("/hints")
            heads = [head.split(b"\r\n", 1)[0] for head in response.interim]
            assert heads == [b"HTTP/1.1 103 Early Hints"] * 2
            assert [lines(head) for head in response.interim] == SENT_HINTS
            assert (response.status, response.body) == (200, b"page")


def test_hints_arrive_while_the_application_works(server: Server) -> None:
    # It goes on only when it has the body, which is sent upon the hint.
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/hints-then-echo", end_stream=False)
        hint = client.want(HeadersFrame, 1, end_stream=False)
        assert text(client.fields(hint)) == [(":status", "103"), *SENT_HINTS[0]]
        client.data(1, b"body", end_stream=True)
        response = client.response(1)
        assert (response.status, response.body) == (200, b"body")
    with Http1Client(server) as http1:
        http1.send(request("/hints-then-echo", "Content-Length: 4", method="POST"))
        assert http1.interim().startswith(b"HTTP/1.1 103 ")
        http1.send(b"body")
        assert http1.response().body == b"body"


def test_http_1_0_gets_no_hints(server: Server) -> None:
    with Http1Client(server) as client:
        client.send(b"GET /hints HTTP/1.0\r\nHost: localhost\r\n\r\n")
        received = client.read_to_end()
    assert re.match(rb"HTTP/1\.[01] 200 OK\r\n", received)
    assert b" 103 " not in received
    assert received.endswith(b"\r\n\r\npage")


def test_no_hints_once_the_response_has_begun(server: Server) -> None:
    with RawClient(server).greet() as client:
        response = client.request(path="/hints-late")
    assert (response.interim, response.body) == ([], b"part" * 3)
    with Http1Client(server) as http1:
        late = http1.get("/hints-late")
    assert (late.interim, late.body) == ([], b"part" * 3)


@pytest.mark.parametrize("name", [*HOP_BY_HOP, *FRAMING])
def test_hints_refuse_what_belongs_to_the_connection(server: Server, name: str) -> None:
    path = "/hints?" + query(("Link", "</a>"), (name, "x"))
    refusal = f"ValueError: the field {name} cannot be sent here".encode()
    with RawClient(server).greet() as client:
        response = client.request(path=path)
    assert (response.interim, response.body) == ([], refusal)
    with Http1Client(server) as http1:
        answer = http1.get(path)
    assert (answer.interim, answer.body) == ([], refusal)


@pytest.mark.parametrize(
    ("field", "refusal"),
    [
        (("link", "a\r\nset-cookie: b"), b"ValueError: not a field value, in link"),
        (("link", "a\nb"), b"ValueError: not a field value, in link"),
        (("link", "a\x00b"), b"ValueError: not a field value, in link"),
        (("", "a"), b"ValueError: not a field name: ''"),
        ((":status", "200"), b"ValueError: not a field name: ':status'"),
        (("a b", "c"), b"ValueError: not a field name: 'a b'"),
        (("a\r\nb", "c"), b"ValueError: not a field name: 'a\\r\\nb'"),
    ],
)
def test_nothing_is_smuggled_into_hints_or_trailers(
    server: Server, field: tuple[str, str], refusal: bytes
) -> None:
    with RawClient(server).greet() as client:
        hints = client.request(path="/hints?" + query(field))
        assert (hints.interim, hints.body) == ([], refusal)
        trailers = client.request(path="/trailers?" + query(field))
        assert (trailers.body, trailers.trailers) == (refusal, [])
    with Http1Client(server) as http1:
        assert http1.get("/hints?" + query(field)).body == refusal
        answer = http1.get("/trailers?" + query(field), "TE: trailers")
        assert (answer.body, answer.trailers) == (refusal, b"")


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_httpx_passes_over_hints(servers: dict[bool, Server], certs: Certs, wire: Wire) -> None:
    with http_client.client(certs, servers[wire.tls].url, wire.http2) as client:
        for _ in range(2):
            response = client.get("/hints")
            assert response.http_version == wire.protocol
            assert (response.status_code, response.text) == (200, "page")


@pytest.mark.parametrize("option", ["--http2", "--http2-prior-knowledge", "--http1.1"])
def test_curl_shows_hints(servers: dict[bool, Server], certs: Certs, option: str) -> None:
    server = servers[option == "--http2"]
    command = [require_tool("curl"), "-sv", option, "--cacert", str(certs.ca)]
    body, log = run([*command, f"{server.url}/hints"])
    protocol = "HTTP/1.1" if option == "--http1.1" else "HTTP/2"
    assert len(re.findall(rf"^< {re.escape(protocol)} 103", log, re.MULTILINE)) == 2
    assert "< link: </a.css>; rel=preload" in log
    assert log.index("103") < log.index(f"< {protocol} 200")
    assert body == "page"


def test_nghttp_shows_hints(server: Server) -> None:
    output, _ = run([require_tool("nghttp"), "-v", "--no-verify-peer", f"{server.url}/hints"])
    statuses = re.findall(r"\) :status: (\d+)", _uncoloured(output))
    assert statuses == ["103", "103", "200"]


# -- 100-continue ---------------------------------------------------------------


def test_100_is_sent_when_the_application_reads(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(
            1, method="POST", path="/echo", extra=[("expect", "100-continue")], end_stream=False
        )
        interim = client.want(HeadersFrame, 1, end_stream=False)
        assert text(client.fields(interim)) == [(":status", "100")]
        client.data(1, b"body", end_stream=True)
        response = client.response(1)
        assert (response.interim, response.status, response.body) == ([], 200, b"body")


def test_100_is_sent_when_the_application_reads_over_http1(server: Server) -> None:
    with Http1Client(server) as client:
        for _ in range(2):
            client.send(
                request("/echo", "Content-Length: 4", "Expect: 100-continue", method="POST")
            )
            assert client.interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"body")
            response = client.response()
            assert (response.status, response.body) == (200, b"body")


def test_no_100_where_the_application_does_not_read(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(
            1, method="POST", path="/ignore", extra=[("expect", "100-continue")], end_stream=False
        )
        response = client.response(1)
        assert (response.interim, response.status, response.body) == ([], 413, b"no, thanks")
        # The connection is as good as new.
        assert client.request(path="/hints").body == b"page"
    with Http1Client(server) as http1:
        http1.send(request("/ignore", "Content-Length: 4", "Expect: 100-continue", method="POST"))
        # A client that sends nothing more must not be kept waiting.
        received = http1.read_to_end()
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b" 100 " not in received
    assert received.endswith(b"\r\n\r\nno, thanks")


def test_100_still_comes_after_hints(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(
            1,
            method="POST",
            path="/hints-then-echo",
            extra=[("expect", "100-continue")],
            end_stream=False,
        )
        statuses = [dict(client.fields(client.want(HeadersFrame, 1)))[b":status"] for _ in "ab"]
        assert statuses == [b"103", b"100"]
        client.data(1, b"body", end_stream=True)
        assert client.response(1).body == b"body"
    with Http1Client(server) as http1:
        head = ("Content-Length: 4", "Expect: 100-continue")
        http1.send(request("/hints-then-echo", *head, method="POST"))
        assert http1.interim().startswith(b"HTTP/1.1 103 ")
        assert http1.interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
        http1.send(b"body")
        assert http1.response().body == b"body"


def test_no_100_for_a_body_that_is_there(server: Server) -> None:
    expect = [("expect", "100-continue")]
    with RawClient(server).greet() as client:
        with client.one_write():
            client.headers(1, method="POST", path="/echo", extra=expect, end_stream=False)
            client.data(1, b"body", end_stream=True)
        response = client.response(1)
        assert (response.interim, response.body) == ([], b"body")
    with Http1Client(server) as http1:
        http1.send(post("/echo", b"body", "Expect: 100-continue"))
        answer = http1.response()
        assert (answer.interim, answer.body) == ([], b"body")


def test_curl_waits_for_the_100(server: Server, certs: Certs) -> None:
    command = [require_tool("curl"), "-sv", "--http1.1", "--cacert", str(certs.ca)]
    # Longer than any answer could take, if the 100 did not come.
    command += ["--expect100-timeout", str(PATIENCE), "-H", "Expect: 100-continue", "-d", "body"]
    body, log = run([*command, f"{server.url}/echo"])
    assert ("< HTTP/1.1 100 Continue" in log, body) == (True, "body")
    body, log = run([*command, f"{server.url}/ignore"])
    assert ("< HTTP/1.1 100 Continue" in log, body) == (False, "no, thanks")


# -- trailers of the response ---------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "generator", "callable", "sized", "empty"])
def test_trailers_end_the_stream(server: Server, kind: str) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/trailers-of?kind={kind}")
        head = client.want(HeadersFrame, 1, end_stream=False)
        assert dict(client.fields(head))[b":status"] == b"200"
        body = b""
        while len(body) < (0 if kind == "empty" else 4):
            body += client.want(DataFrame, 1, end_stream=False).data
        trailers = client.want(HeadersFrame, 1, end_stream=True)
        assert text(client.fields(trailers)) == SENT_TRAILERS
        assert body == (b"" if kind == "empty" else b"body")
        client.want_idle()


@pytest.mark.parametrize("kind", ["list", "generator", "callable", "empty"])
def test_trailers_follow_the_last_chunk_for_who_wants_them(server: Server, kind: str) -> None:
    body = b"" if kind == "empty" else b"body"
    with Http1Client(server) as client:
        for accepted in ("TE: trailers", "TE: gzip;q=0.5 , Trailers"):
            response = client.get(f"/trailers-of?kind={kind}", accepted, "Connection: TE")
            assert (response.status, response.body) == (200, body)
            assert response.trailers == TRAILER_LINES
        # The connection goes on, and nothing is left over for those who do not.
        response = client.get(f"/trailers-of?kind={kind}")
        assert (response.status, response.body, response.trailers) == (200, body, b"")


def test_no_trailers_without_chunks(server: Server) -> None:
    with Http1Client(server) as client:
        sized = client.get("/trailers-of?kind=sized", "TE: trailers")
        assert (sized.header("content-length"), sized.body) == ("4", b"body")
        bare = client.get("/trailers-of?kind=no-content", "TE: trailers")
        assert bare.status == 204
        client.send(request("/trailers-of?kind=list", "TE: trailers", method="HEAD"))
        assert client.response("HEAD").status == 200
        assert client.get("/hints").body == b"page"
        client.send(b"GET /trailers-of?kind=list HTTP/1.0\r\nTE: trailers\r\n\r\n")
        received = client.read_to_end()
    assert b"x-sum" not in received.lower()
    assert received.endswith(b"\r\n\r\nbody")


@pytest.mark.parametrize(("method", "kind"), [("HEAD", "list"), ("GET", "no-content")])
def test_no_trailers_where_there_is_no_content(server: Server, method: str, kind: str) -> None:
    with RawClient(server).greet() as client:
        response = client.request(method, f"/trailers-of?kind={kind}")
    assert (response.body, response.trailers, response.reset_code) == (b"", [], None)


def test_no_trailers_after_half_a_response(server: Server) -> None:
    with RawClient(server).greet() as client:
        response = client.request(path="/trailers-of?kind=failing")
    assert (response.body, response.trailers) == (b"bo", [])
    assert response.reset_code is not None
    with Http1Client(server) as http1:
        http1.send(request("/trailers-of?kind=failing", "TE: trailers"))
        assert http1.read_to_end().endswith(b"\r\n\r\n2\r\nbo\r\n")


@pytest.mark.parametrize(
    "name",
    [
        *(*HOP_BY_HOP, *FRAMING, "Host", "Content-Type", "Content-Encoding", "Content-Range"),
        *("Authorization", "Set-Cookie", "Cache-Control"),
    ],
)
def test_trailers_refuse_what_comes_before_a_body(server: Server, name: str) -> None:
    path = "/trailers?" + query(("x-sum", "1"), (name, "x"))
    refusal = f"ValueError: the field {name} cannot be sent here".encode()
    with RawClient(server).greet() as client:
        response = client.request(path=path)
    assert (response.body, response.trailers) == (refusal, [])
    with Http1Client(server) as http1:
        answer = http1.get(path, "TE: trailers")
    assert (answer.body, answer.trailers) == (refusal, b"")


def test_large_trailers(server: Server) -> None:
    # Larger than a frame: the block goes on in CONTINUATION, and END_STREAM is on HEADERS.
    fields = [(f"x-{number}", "v" * 500) for number in range(8)]
    with RawClient(server).greet() as client:
        for _ in range(2):
            response = client.request(path="/trailers?" + query(*fields[:7]))
            assert text(response.trailers) == fields[:7]


def test_trailers_need_no_window(server: Server) -> None:
    with RawClient(server).greet({4: 4}) as client:
        client.headers(1, path="/trailers-of?kind=generator")
        response = client.response(1, auto_window=False)
    assert (response.body, text(response.trailers)) == (b"body", SENT_TRAILERS)


def test_trailers_wait_for_the_body(server: Server) -> None:
    with RawClient(server).greet({4: 3}) as client:
        client.headers(1, path="/trailers-of?kind=sized")
        client.want(HeadersFrame, 1, end_stream=False)
        client.want(DataFrame, 1, data=b"bod", end_stream=False)
        client.want_idle()
        client.window_update(1, 1)
        client.want(DataFrame, 1, data=b"y", end_stream=False)
        assert text(client.fields(client.want(HeadersFrame, 1, end_stream=True))) == SENT_TRAILERS


@pytest.mark.parametrize("option", ["--http2", "--http2-prior-knowledge", "--http1.1"])
def test_curl_shows_trailers(
    servers: dict[bool, Server], certs: Certs, tmp_path: Path, option: str
) -> None:
    server = servers[option == "--http2"]
    head = tmp_path / "head"
    command = [require_tool("curl"), "-s", option, "--cacert", str(certs.ca), "-D", head]
    body, _ = run([*command, "-H", "TE: trailers", f"{server.url}/trailers-of?kind=generator"])
    assert body == "body"
    before, after = re.split(r"\r?\n\r?\n", head.read_text(), maxsplit=1)
    assert re.match(r"HTTP/\S+ 200", before)
    assert re.findall(r"^(\S+): (.*)$", after, re.MULTILINE) == SENT_TRAILERS


def test_nghttp_shows_trailers(server: Server) -> None:
    url = f"{server.url}/trailers-of?kind=generator"
    output, _ = run([require_tool("nghttp"), "-v", "--no-verify-peer", url])
    last = _uncoloured(output).split("recv (stream_id=13) x-sum: 4")[1]
    assert re.search(
        r"recv HEADERS frame <length=\d+, flags=0x05, stream_id=13>\s+; END_STREAM \| END_HEADERS",
        last,
    )


def _uncoloured(output: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", output)


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_httpx_passes_over_trailers(servers: dict[bool, Server], certs: Certs, wire: Wire) -> None:
    with http_client.client(certs, servers[wire.tls].url, wire.http2) as client:
        for kind in ("list", "generator", "sized"):
            response: httpx.Response = client.get(
                f"/trailers-of?kind={kind}", headers={"TE": "trailers"}
            )
            assert (response.http_version, response.text) == (wire.protocol, "body")


# -- trailers of the request ----------------------------------------------------


def test_request_trailers(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/request-trailers", end_stream=False)
        client.data(1, b"body")
        client.headers(1, [("x-sum", "4"), ("x-again", "1"), ("x-again", "2")])
        answer = json.loads(client.response(1).body)
    assert answer == {"trailers": [list(each) for each in SENT_TRAILERS], "body": "body"}


def test_request_trailers_over_http1(server: Server) -> None:
    trailers = b"X-Sum: 4\r\nx-again: 1\r\nx-again: 2\r\n"
    with Http1Client(server) as client:
        client.send(chunked("/request-trailers", b"bo", b"dy", trailers=trailers))
        answer = json.loads(client.response().body)
        assert answer == {"trailers": [list(each) for each in SENT_TRAILERS], "body": "body"}
        client.send(chunked("/request-trailers", b"next"))
        assert json.loads(client.response().body) == {"trailers": [], "body": "next"}


def test_request_trailers_are_none_without_any(server: Server) -> None:
    expected = {"trailers": [], "body": ""}
    with RawClient(server).greet() as client:
        assert json.loads(client.request(path="/request-trailers").body) == expected
    with Http1Client(server) as http1:
        assert json.loads(http1.get("/request-trailers").body) == expected


def test_request_trailers_leave_out_what_comes_before_a_body(server: Server) -> None:
    fields = [("host", "x"), ("content-length", "9"), ("authorization", "x"), ("x-sum", "4")]
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/request-trailers", end_stream=False)
        client.headers(1, fields)
        assert json.loads(client.response(1).body)["trailers"] == [["x-sum", "4"]]


def test_nghttp_sends_trailers(server: Server, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(b"body")
    command = [require_tool("nghttp"), "--no-verify-peer", "--trailer=x-sum: 4"]
    output, _ = run([*command, f"--data={upload}", f"{server.url}/request-trailers"])
    assert json.loads(output) == {"trailers": [["x-sum", "4"]], "body": "body"}


# -- the example and the README ----------------------------------------------


def test_example(serve: Serve) -> None:
    server = serve("early_hints:app", args=["--chdir", "examples"])
    with RawClient(server).greet() as client:
        response = client.request()
        assert [text(each) for each in response.interim] == [
            [(":status", "103"), ("link", "</style.css>; rel=preload; as=style")]
        ]
        assert b"/style.css" in response.body
        assert client.request(path="/style.css").header("content-type") == "text/css"


def test_readme_application(serve: Serve, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.rst").read_text()
    code = re.search(
        r"\.\. code-block:: python\n\n( +import hashlib\n.*?)\n\n::\n", readme, re.DOTALL
    )
    assert code is not None
    (tmp_path / "checksum.py").write_text(textwrap.dedent(code[1]))
    server = serve("checksum:app", args=["--chdir", str(tmp_path)])
    with RawClient(server).greet() as client:
        assert text(client.request("POST", body=b"hello").trailers)[1] == ("x-matches", "yes")
        client.headers(3, method="POST", end_stream=False)
        client.data(3, b"hello")
        client.want(HeadersFrame, 3)
        # Answered before the request has ended.
        client.want(DataFrame, 3, data=b"HELLO")
        client.headers(3, [("x-sha256", "0")])
        assert text(client.response(3).headers)[1] == ("x-matches", "no")
