"""A Flask application: uploads, streams in both directions, sessions, files, errors."""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Serve
from tests.support.certs import Certs
from tests.support.server import Server

pytest.importorskip("flask")
pytest.importorskip("httpx")

import httpx

from tests.support import http_client
from tests.support.http_client import WIRES, Wire

MIB = 1024 * 1024
CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture(scope="module", params=WIRES, ids=str)
def wire(request: pytest.FixtureRequest) -> Wire:
    wire: Wire = request.param
    return wire


@pytest.fixture(scope="module")
def server(wire: Wire, module_serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("flask") / "content.bin"
    file.write_bytes(CONTENT)
    return module_serve(
        "tests.support.flask_app:app",
        tls=wire.tls,
        threads=8,
        env={"FLASK_APP_FILE": str(file)},
    )


@pytest.fixture
def client(wire: Wire, server: Server, certs: Certs) -> Iterator[httpx.Client]:
    with http_client.client(certs, server.url, wire.http2) as client:
        yield client


@pytest.fixture
def other_client(wire: Wire, server: Server, certs: Certs) -> Iterator[httpx.Client]:
    """On a connection of its own, to look at the server while a request is under way."""
    with http_client.client(certs, server.url, wire.http2) as client:
        yield client


def test_environ_tells_protocol_and_scheme(client: httpx.Client, wire: Wire) -> None:
    response = client.get("/connection")
    assert response.http_version == wire.protocol
    assert response.json()["protocol"] in {wire.protocol, f"{wire.protocol}.0"}
    assert response.json()["scheme"] == ("https" if wire.tls else "http")


def test_multipart_upload_arrives_whole(client: httpx.Client) -> None:
    content = random.Random(2).randbytes(5 * MIB)
    response = client.post(
        "/upload",
        data={"note": "für später"},
        files={"file": ("größe.bin", content, "application/x-test")},
    )
    assert response.json() == {
        "name": "größe.bin",
        "type": "application/x-test",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "note": "für später",
    }


def test_upload_is_read_while_it_is_sent(client: httpx.Client, other_client: httpx.Client) -> None:
    name = secrets.token_hex(8)
    # The application reads 16 KiB at a time, and a read waits until it has them.
    pieces = [bytes([number]) * 2 * 16 * 1024 for number in range(8)]

    def body() -> Iterator[bytes]:
        for number, piece in enumerate(pieces, 1):
            yield piece
            # The rest is held back until the application has all of this piece.
            progress = other_client.get(f"/progress/{name}/{number * len(piece)}")
            assert progress.json()["reached"]

    response = client.post(f"/upload/pieces/{name}", content=body())
    assert response.json() == {
        "size": sum(map(len, pieces)),
        "sha256": hashlib.sha256(b"".join(pieces)).hexdigest(),
        "length": None,
    }


def test_upload_of_known_length_is_read_in_pieces(client: httpx.Client) -> None:
    content = random.Random(3).randbytes(3 * MIB + 17)
    response = client.post(f"/upload/pieces/{secrets.token_hex(8)}", content=content)
    assert response.json() == {
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "length": len(content),
    }


def test_stream_is_sent_while_it_is_made(client: httpx.Client, other_client: httpx.Client) -> None:
    name = secrets.token_hex(8)
    lines = []
    with client.stream("GET", f"/stream/{name}", params={"lines": 6}) as response:
        assert "content-length" not in response.headers
        for line in response.iter_lines():
            lines.append(line)
            # Only now may the application make the next one.
            assert other_client.post(f"/progress/{name}").status_code == 204
    assert lines == [f"line {number}" for number in range(6)]


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, MIB])
def test_body_without_length_ends(client: httpx.Client, size: int) -> None:
    response = client.get(f"/unmeasured/{size}")
    assert response.content == b"x" * size
    assert "content-length" not in response.headers


def test_session_is_kept_in_cookies(client: httpx.Client) -> None:
    assert client.get("/whoami").status_code == 401
    answer = client.post("/login", data={"user": "Jürgen"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/whoami"
    cookies = answer.headers.get_list("set-cookie")
    assert {cookie.partition("=")[0] for cookie in cookies} == {"session", "theme", "flavour"}
    assert client.get("/whoami").json() == {"user": "Jürgen", "theme": "dark"}
    client.post("/logout")
    assert client.get("/whoami").status_code == 401


def test_redirect_is_followed_with_its_cookies(client: httpx.Client) -> None:
    response = client.post("/login", data={"user": "Eve"}, follow_redirects=True)
    assert response.request.method == "GET"
    assert response.json()["user"] == "Eve"


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/teapot", 418, "short and stout"),
        ("/nowhere", 404, "no such page"),
        ("/crash", 500, "it was logged"),
    ],
)
def test_error_handler_answers(client: httpx.Client, path: str, status: int, error: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert client.get("/connection").status_code == 200


def test_file_is_sent_whole(client: httpx.Client) -> None:
    response = client.get("/file")
    assert response.content == CONTENT
    assert response.headers["content-length"] == str(len(CONTENT))
    assert response.headers["accept-ranges"] == "bytes"
    head = client.head("/file")
    assert (head.content, head.headers["content-length"]) == (b"", str(len(CONTENT)))


@pytest.mark.parametrize(
    ("wanted", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-65535", 0, 65_536),
        ("bytes=1000-201999", 1000, 202_000),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-70000", 230_000, 300_000),
    ],
)
def test_range_of_file(client: httpx.Client, wanted: str, start: int, end: int) -> None:
    response = client.get("/file", headers={"Range": wanted})
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
    assert response.content == CONTENT[start:end]


def test_range_beyond_file_is_refused(client: httpx.Client) -> None:
    assert client.get("/file", headers={"Range": "bytes=300000-"}).status_code == 416


def test_unchanged_file_is_not_sent_again(client: httpx.Client) -> None:
    etag = client.get("/file").headers["etag"]
    response = client.get("/file", headers={"If-None-Match": etag})
    assert (response.status_code, response.content) == (304, b"")


async def sleepers(url: str, certs: Certs, count: int) -> list[dict[str, object]]:
    """What ``/sleep`` answers to so many requests at once on one HTTP/2 connection."""
    limits = httpx.Limits(max_connections=1)
    context = certs.client_context()
    transport = httpx.AsyncHTTPTransport(verify=context, http1=False, http2=True, limits=limits)
    async with httpx.AsyncClient(base_url=url, transport=transport, timeout=30) as client:
        await client.get("/connection")
        requests = (client.get("/sleep/0.5") for _ in range(count))
        return [response.json() for response in await asyncio.gather(*requests)]


@pytest.mark.parametrize("wire", [wire for wire in WIRES if wire.http2], ids=str, indirect=True)
def test_requests_of_one_connection_run_at_once(server: Server, certs: Certs) -> None:
    started = time.monotonic()
    answers = asyncio.run(sleepers(server.url, certs, 8))
    elapsed = time.monotonic() - started
    assert len({answer["peer_port"] for answer in answers}) == 1
    assert elapsed < 8 * 0.5 / 2, f"8 sleeps of 0.5 s took {elapsed:.1f} s"


def test_nothing_but_the_crash_is_logged(server: Server, client: httpx.Client) -> None:
    client.get("/crash")
    server.wait_log("RuntimeError: the view failed")
    assert "Error handling request" not in server.log()
