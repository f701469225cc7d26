"""The demonstration application and the example configuration, over real HTTP/2."""

from __future__ import annotations

import base64
import os
import random
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gunicorn_h2 import demo, devcert
from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.server import Server


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve("gunicorn_h2.demo:app", tls=True, threads=4)


@pytest.fixture(scope="module")
def client(server: Server, certs: Certs) -> Iterator[httpx.Client]:
    with http2_client(server, certs.ca) as client:
        yield client


def http2_client(server: Server, trusted: Path) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(trusted))
    return httpx.Client(
        http1=False, http2=True, base_url=server.url, verify=context, trust_env=False, timeout=30
    )


HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


# --- / ------------------------------------------------------------------------


@pytest.mark.matrix
def test_the_front_page_names_the_protocol_and_the_stream(client: httpx.Client) -> None:
    response = client.get("/", headers=HTML)
    assert response.http_version == "HTTP/2"
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "<dt>Protocol</dt><dd>HTTP/2" in response.text
    stream = response.extensions["stream_id"]
    assert f"<dt>Stream</dt><dd>{stream}</dd>" in response.text
    assert "<dt>Scheme</dt><dd>https</dd>" in response.text
    assert "<dt>TLS</dt><dd>TLSv1.3, TLS_" in response.text
    assert "<dt>ALPN</dt><dd>h2</dd>" in response.text


def test_over_cleartext_http1_there_is_no_stream_and_no_tls(serve: Serve) -> None:
    page = httpx.get(serve("gunicorn_h2.demo:app").url, trust_env=False).text
    facts = page.partition("Its environ")[0]
    assert "HTTP/1.1" in facts
    assert "Stream" not in facts
    assert "TLS" not in facts


def test_the_front_page_shows_the_environ(client: httpx.Client) -> None:
    page = client.get("/?a=1", headers={**HTML, "X-Of-Mine": "seen"}).text
    assert "<dt>HTTP_X_OF_MINE</dt><dd>seen</dd>" in page
    assert "<dt>QUERY_STRING</dt><dd>a=1</dd>" in page
    assert "<dt>wsgi.multithread</dt><dd>True</dd>" in page


def test_what_the_request_says_is_escaped(client: httpx.Client) -> None:
    page = client.get("/", headers={**HTML, "X-Evil": "<script>alert('&')</script>"}).text
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in page


def test_the_front_page_needs_nothing_from_elsewhere(client: httpx.Client) -> None:
    response = client.get("/", headers=HTML)
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "src=" not in response.text
    assert "url(" not in response.text


def test_objects_in_the_environ_are_shown_without_their_addresses(client: httpx.Client) -> None:
    page = client.get("/").text
    assert "wsgi.errors" in page
    assert " at 0x" not in page


def test_a_long_value_is_cut(client: httpx.Client) -> None:
    page = client.get("/", headers={"X-Long": "a" * 5000}).text
    assert "a" * 2000 + "..." in page
    assert "a" * 2001 not in page


def test_curl_gets_plain_text(client: httpx.Client) -> None:
    response = client.get("/", headers={"Accept": "*/*"})
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["vary"] == "Accept"
    assert "<html" not in response.text
    assert response.text.startswith("gunicorn-h2\n")


def test_control_characters_do_not_reach_a_terminal(client: httpx.Client) -> None:
    # Percent-decoded into PATH_INFO they would; a header may hold C1 controls too.
    page = client.get("/", headers=[(b"x-terminal", b"a\x9b31mb")]).text
    assert "\x9b" not in page
    assert r"a\x9b31mb" in page


def test_head_has_the_headers_of_get_and_no_body(client: httpx.Client) -> None:
    head = client.head("/", headers=HTML)
    assert head.status_code == 200
    assert int(head.headers["content-length"]) > 0
    assert head.content == b""


def test_the_front_page_cannot_be_written(client: httpx.Client) -> None:
    response = client.post("/", content=b"x")
    assert response.status_code == 405
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/nothing", "/echo/", "/favicon.ico"])
def test_everything_else_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


# --- /echo --------------------------------------------------------------------


@pytest.mark.matrix
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
def test_echo_answers_any_method(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/echo?q=%C3%A4&q=2").json()
    assert answer["method"] == method
    assert answer["path"] == "/echo"
    assert answer["query"] == "q=%C3%A4&q=2"
    assert answer["protocol"].startswith("HTTP/2")
    assert (answer["body"], answer["body_is_base64"], answer["body_length"]) == ("", False, 0)


def test_echo_lists_the_headers(client: httpx.Client) -> None:
    answer = client.post("/echo", content="ä", headers={"X-One": "1", "Content-Type": "a/b"}).json()
    assert ["X-One", "1"] in answer["headers"]
    assert ["Content-Type", "a/b"] in answer["headers"]
    assert ["Content-Length", "2"] in answer["headers"]
    assert (answer["body"], answer["body_is_base64"]) == ("ä", False)


@pytest.mark.matrix
def test_echo_reads_a_body_of_many_frames(client: httpx.Client) -> None:
    body = random.Random(1).randbytes(1_000_001)
    answer = client.post("/echo", content=body).json()
    assert answer["body_is_base64"] is True
    assert base64.b64decode(answer["body"]) == body
    assert answer["body_length"] == len(body)


def test_echo_reads_a_body_of_unknown_length(client: httpx.Client) -> None:
    answer = client.post("/echo", content=(b"%06d," % number for number in range(5_000))).json()
    assert answer["body"] == "".join(f"{number:06d}," for number in range(5_000))
    assert "Content-Length" not in dict(answer["headers"])


def test_echo_has_the_largest_body(client: httpx.Client) -> None:
    answer = client.post("/echo", content=b"x" * demo.MAX_BODY).json()
    assert answer["body_length"] == demo.MAX_BODY


def test_echo_refuses_an_announced_body_without_reading_it(server: Server) -> None:
    announced = [("content-length", str(demo.MAX_BODY + 1))]
    with RawClient(server).greet() as raw:
        raw.headers(1, method="POST", path="/echo", extra=announced, end_stream=False)
        response = raw.response(1)
    assert response.status == 413
    assert response.body == b"The limit is 16777216 bytes.\n"


def test_echo_refuses_an_unannounced_body_that_is_too_large(client: httpx.Client) -> None:
    pieces = (b"x" * 65_536 for _ in range(demo.MAX_BODY // 65_536 + 1))
    assert client.post("/echo", content=pieces).status_code == 413
    assert client.get("/echo").status_code == 200


def test_echo_answers_head_without_a_body(client: httpx.Client) -> None:
    head = client.head("/echo")
    assert (head.status_code, head.content) == (200, b"")


# --- examples/gunicorn.conf.py ------------------------------------------------


class ExampleServer(Server):
    """``gunicorn -c examples/gunicorn.conf.py`` on a free port, with one worker.

    One, because Gunicorn loses a TERM that meets a worker still booting, and
    only of a single worker is it known that it has booted: it has answered.
    """

    def _command(self, directory: Path) -> list[str]:
        command = [sys.executable, "-m", "gunicorn", *self.args]
        command += ["--bind", "127.0.0.1:0", "--workers", "1"]
        return [*command, "--no-control-socket"] if gunicorn_version() >= (25, 1) else command


@pytest.mark.matrix
def test_the_example_serves_the_demo_with_a_development_certificate(tmp_path: Path) -> None:
    example = ExampleServer(
        tls=True,
        certs=Certs(*[tmp_path] * 5),  # the example brings its own
        args=["-c", "examples/gunicorn.conf.py"],
        env={devcert.DIRECTORY_VARIABLE: str(tmp_path), "TLS_CERTFILE": ""},
    )
    with example, http2_client(example, tmp_path / "localhost.pem") as client:
        for host in ("localhost", "127.0.0.1"):
            response = client.get(f"https://{host}:{example.port}/", headers=HTML)
            assert response.http_version == "HTTP/2"
            assert "<h1>gunicorn-h2</h1>" in response.text
    assert "WARNING" not in example.log()
    assert "ERROR" not in example.log()


def test_the_example_takes_a_certificate_from_the_environment(certs: Certs, tmp_path: Path) -> None:
    example = ExampleServer(
        tls=True,
        certs=certs,
        args=["-c", "examples/gunicorn.conf.py"],
        env={
            devcert.DIRECTORY_VARIABLE: str(tmp_path),
            "TLS_CERTFILE": str(certs.cert),
            "TLS_KEYFILE": str(certs.key),
        },
    )
    with example, http2_client(example, certs.ca) as client:
        assert client.get("/").status_code == 200
    assert os.listdir(tmp_path) == []
