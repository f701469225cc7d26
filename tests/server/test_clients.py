"""What clients in daily use make of the worker: curl, nghttp, h2load, httpx, Chromium.

They are other people's implementations of HTTP/2, each with its own idea of windows,
priorities and the order of frames. Each does the same small set of exchanges.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import require_tool
from tests.support.apps import HELLO, repeated
from tests.support.certs import Certs
from tests.support.server import Server

#: Seconds after which a client is taken to hang.
PATIENCE = 60

LARGE = 8 * 1024 * 1024
UPLOAD = random.Random(1).randbytes(LARGE)

#: For curl's --write-out, in JSON.
REPORT = '{"version": "%{http_version}", "status": %{http_code}}'


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LARGE_SHA256 = sha256(b"".join(repeated(LARGE)))


def run(command: Sequence[str | Path]) -> str:
    """The client's output; it must end well, and by itself."""
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, (command, done.returncode, done.stderr[-2000:])
    return done.stdout.decode()


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clients") / "upload.bin"
    path.write_bytes(UPLOAD)
    return path


@pytest.fixture(scope="module")
def secure(module_serve: Serve) -> Server:
    return module_serve(tls=True, threads=4)


@pytest.fixture(scope="module")
def cleartext(module_serve: Serve) -> Server:
    return module_serve(threads=4)


@dataclass(frozen=True)
class Curl:
    """curl with the options that choose its protocol, and the directory it writes to."""

    options: tuple[str, ...]
    version: str
    directory: Path

    def __call__(self, url: str, *options: str | Path) -> tuple[int, bytes]:
        """Status and body of one request."""
        body = self.directory / "body"
        command: list[str | Path] = [require_tool("curl"), "--silent", "--show-error", url]
        command += ["--output", body, "--write-out", REPORT, *self.options, *options]
        report = json.loads(run(command))
        assert report["version"] == self.version
        # curl makes no file of an empty body.
        received = body.read_bytes() if body.exists() else b""
        body.unlink(missing_ok=True)
        return report["status"], received


@dataclass(frozen=True)
class Way:
    """One way to use curl: its options, the protocol that must come of it, the transport."""

    name: str
    option: str
    version: str
    tls: bool


CURL_WAYS = [
    Way("tls-http2", "--http2", "2", tls=True),
    Way("tls-http1.1", "--http1.1", "1.1", tls=True),
    Way("prior-knowledge", "--http2-prior-knowledge", "2", tls=False),
    Way("cleartext-http1.1", "--http1.1", "1.1", tls=False),
    # curl sends "Upgrade: h2c", which RFC 9113 has removed: it stays HTTP/1.1.
    Way("upgrade-h2c", "--http2", "1.1", tls=False),
]


@pytest.fixture(params=CURL_WAYS, ids=lambda way: way.name)
def curl(request: pytest.FixtureRequest, certs: Certs, tmp_path: Path) -> Curl:
    way: Way = request.param
    return Curl((way.option, "--cacert", str(certs.ca)), way.version, tmp_path)


@pytest.fixture
def url(request: pytest.FixtureRequest, curl: Curl) -> str:
    way: Way = request.node.callspec.params["curl"]
    server: Server = request.getfixturevalue("secure" if way.tls else "cleartext")
    return server.url


def test_curl_get(curl: Curl, url: str) -> None:
    assert curl(f"{url}/hello") == (200, HELLO)


def test_curl_head(curl: Curl, url: str) -> None:
    status, fields = curl(f"{url}/hello", "--head")
    assert status == 200
    assert b"content-length: 13" in fields.lower()
    assert HELLO not in fields


def test_curl_post(curl: Curl, url: str) -> None:
    assert curl(f"{url}/echo", "--data-binary", "a=1&b=2") == (200, b"a=1&b=2")


def test_curl_no_content(curl: Curl, url: str) -> None:
    assert curl(f"{url}/status?code=204") == (204, b"")


def test_curl_large_download(curl: Curl, url: str) -> None:
    for announced in (0, 1):
        status, body = curl(f"{url}/large?n={LARGE}&cl={announced}")
        assert (status, len(body), sha256(body)) == (200, LARGE, LARGE_SHA256)


def test_curl_large_upload(curl: Curl, url: str, upload: Path) -> None:
    # Over HTTP/1.1 curl asks with "Expect: 100-continue" first.
    status, body = curl(f"{url}/read", "--data-binary", f"@{upload}")
    answer = json.loads(body)
    assert (status, answer["count"], answer["sha256"]) == (200, LARGE, sha256(UPLOAD))


def test_curl_upload_of_unknown_length(curl: Curl, url: str, upload: Path) -> None:
    chunked = ("--upload-file", upload, "--header", "Transfer-Encoding: chunked")
    status, body = curl(f"{url}/read", "--request", "POST", *chunked)
    answer = json.loads(body)
    assert (status, answer["count"], answer["sha256"]) == (200, LARGE, sha256(UPLOAD))


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
def test_curl_several_at_once(secure: Server, certs: Certs, option: str) -> None:
    # Not with prior knowledge: curl 7.88 breaks the connections it uses again (curl #10634).
    command = [require_tool("curl"), "--silent", "--parallel", option]
    command += ["--cacert", str(certs.ca)]
    command += ["--write-out", "%{http_code} %{size_download}\n"]
    for size in (1, 20_000, 70_000):
        command += ["--output", "/dev/null", f"{secure.url}/stream?n=3&size={size}"]
    assert sorted(run(command).splitlines()) == ["200 210000", "200 3", "200 60000"]


def test_curl_on_every_kind_of_address(serve: Serve, tmp_path: Path) -> None:
    server = serve(bind=["unix:", "127.0.0.1:0", "[::1]:0"], threads=2)
    curl = Curl(("--http2-prior-knowledge",), "2", tmp_path)
    plain = Curl(("--http1.1",), "1.1", tmp_path)
    assert len(server.addresses) == 3
    for address in server.addresses:
        if isinstance(address, str):
            url, options = "http://localhost", ["--unix-socket", address]
        else:
            host, port = address
            url, options = f"http://{f'[{host}]' if ':' in host else host}:{port}", []
        for client in (curl, plain):
            assert client(f"{url}/hello", *options) == (200, HELLO)
            assert client(f"{url}/echo", "--data-binary", "body", *options) == (200, b"body")
            status, body = client(f"{url}/large?n={LARGE}", *options)
            assert (status, sha256(body)) == (200, LARGE_SHA256)


def test_curl_tls_over_ipv6(serve: Serve, certs: Certs, tmp_path: Path) -> None:
    server = serve(tls=True, bind="[::1]:0")
    curl = Curl(("--http2", "--cacert", str(certs.ca)), "2", tmp_path)
    assert curl(f"{server.url}/hello") == (200, HELLO)


@pytest.mark.parametrize("http2", [True, False], ids=["http2", "http1.1"])
def test_httpx_chooses_by_alpn(secure: Server, certs: Certs, http2: bool) -> None:
    httpx = pytest.importorskip("httpx")
    context = certs.client_context(())
    with httpx.Client(base_url=secure.url, http2=http2, verify=context, timeout=PATIENCE) as client:
        hello = client.get("/hello")
        assert hello.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert hello.content == HELLO
        head = client.head("/hello")
        assert (head.content, head.headers["content-length"]) == (b"", "13")
        assert client.post("/echo", content=b"body").content == b"body"
        assert client.get("/status?code=204").status_code == 204
        assert sha256(client.get(f"/large?n={LARGE}").content) == LARGE_SHA256
        assert client.post("/read", content=UPLOAD).json()["sha256"] == sha256(UPLOAD)


@pytest.fixture(params=["secure", "cleartext"])
def server(request: pytest.FixtureRequest) -> Server:
    """Both transports, for clients that speak HTTP/2 over either without being told."""
    server: Server = request.getfixturevalue(request.param)
    return server


#: A line of nghttp's statistics: id, end, start, time taken, status, size and path.
STATISTIC = re.compile(r"^ +\d+ +\S+ +\S+ +\S+ +(\d{3}) +(\S+) (\S+)$", re.MULTILINE)


def test_nghttp_several_uris_at_once(server: Server) -> None:
    paths = ["/hello", "/status?code=404", "/stream?n=40&size=20000", f"/large?n={LARGE}", "/pid"]
    uris = [server.url + path for path in paths]
    output = run([require_tool("nghttp"), "--null-out", "--stat", "--timeout=30", *uris])
    assert {path: int(status) for status, _, path in STATISTIC.findall(output)} == {
        path: 404 if "404" in path else 200 for path in paths
    }
    sizes = {path: size for _, size, path in STATISTIC.findall(output)}
    assert (sizes["/hello"], sizes[f"/large?n={LARGE}"]) == ("13", "8M")


@pytest.mark.parametrize("bits", [10, 16, 30])
def test_nghttp_windows_of_any_size(server: Server, bits: int) -> None:
    windows = [f"--window-bits={bits}", f"--connection-window-bits={max(bits, 16)}"]
    uri = f"{server.url}/large?n={1024 * 1024}"
    output = run([require_tool("nghttp"), "--null-out", "--stat", *windows, "--multiply=3", uri])
    assert [(status, size) for status, size, _ in STATISTIC.findall(output)] == [("200", "1M")] * 3


def test_nghttp_upload_with_trailers(server: Server, upload: Path) -> None:
    trailer = ("--trailer=x-sum: 1", f"--data={upload}")
    output = run([require_tool("nghttp"), *trailer, f"{server.url}/read"])
    answer = json.loads(output)
    assert (answer["count"], answer["sha256"]) == (LARGE, sha256(UPLOAD))


@pytest.mark.parametrize(("clients", "streams"), [(10, 10), (100, 1)])
@pytest.mark.parametrize("path", ["/hello", "/stream?n=3&size=500"])
def test_h2load_every_request_succeeds(
    server: Server, clients: int, streams: int, path: str
) -> None:
    load = ["-n", "2000", "-c", str(clients), "-m", str(streams)]
    output = run([require_tool("h2load"), *load, server.url + path])
    assert "Application protocol: h2" in output
    counts = {
        name: int(number)
        for line in re.findall(r"^(?:requests|status codes): (.*)$", output, re.MULTILINE)
        for number, name in re.findall(r"(\d+) (\w+)", line)
    }
    assert counts == {
        **{"total": 2000, "started": 2000, "done": 2000, "succeeded": 2000},
        **{"failed": 0, "errored": 0, "timeout": 0},
        **{"2xx": 2000, "3xx": 0, "4xx": 0, "5xx": 0},
    }, output


CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--ignore-certificate-errors",
]


def test_chromium_loads_a_page_over_http2(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("flask")
    chromium = require_tool("chromium")
    server = serve("tests.support.flask_app:app", tls=True, threads=4)
    page = run(
        [
            *(chromium, *CHROMIUM_OPTIONS, f"--user-data-dir={tmp_path / 'profile'}"),
            *("--dump-dom", f"{server.url}/page/20"),
        ]
    )
    found = re.search(r'<pre id="report">(.+?)</pre>', page)
    assert found is not None, page
    report = json.loads(found[1])
    assert sorted(report["parts"]) == list(range(20))
    assert report["page"] == ["h2"]
    assert report["resources"] == ["h2"] * 20
