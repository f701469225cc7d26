"""httpbin answers over the worker as it does over Gunicorn's own gthread and HTTP/1.1.

The two servers run side by side, and every request of ``CASES`` goes to both. What
may differ, and why, is listed in ``tests/support/compare.py``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Serve
from tests.support.certs import Certs
from tests.support.server import Server

pytest.importorskip("httpbin")
pytest.importorskip("httpx")

import httpx

from tests.support import http_client
from tests.support.compare import BETWEEN_PROTOCOLS, Answer, difference, fetch, json_of, normalised
from tests.support.http_client import WIRES, Wire, transport
from tests.support.httpbin_cases import CASES, Case

Started = Callable[[str, bool], Server]


@dataclass(frozen=True)
class Peer:
    """A server and one way to talk to it; the connection is kept from case to case."""

    url: str
    transport: httpx.HTTPTransport
    protocol: str

    def answer(self, case: Case) -> Answer:
        return fetch(
            self.transport,
            self.url,
            case.target,
            case.method,
            case.headers,
            case.content,
            self.protocol,
        )


@pytest.fixture(scope="module")
def started(module_serve: Serve) -> Started:
    @functools.cache
    def start(worker_class: str, tls: bool) -> Server:
        return module_serve(
            "httpbin:app",
            worker_class=worker_class,
            tls=tls,
            threads=4,
            # Longer than any pause between two requests of this module.
            args=["--keep-alive", "120"],
            # Some of httpbin's answers show the order of a set: the methods in Allow.
            env={"PYTHONHASHSEED": "0"},
        )

    return start


@pytest.fixture(scope="module", params=WIRES, ids=str)
def peers(
    request: pytest.FixtureRequest, started: Started, certs: Certs
) -> Iterator[tuple[Peer, Peer]]:
    """gthread over HTTP/1.1, and the worker over the protocol under test."""
    wire: Wire = request.param
    reference, tested = started("gthread", wire.tls), started("gunicorn_h2.H2Worker", wire.tls)
    with transport(certs, http2=False) as plain, transport(certs, wire.http2) as spoken:
        yield (
            Peer(reference.url, plain, "HTTP/1.1"),
            Peer(tested.url, spoken, wire.protocol),
        )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_answers_as_gthread_does(peers: tuple[Peer, Peer], case: Case) -> None:
    reference, tested = peers
    rules = case.rules
    if tested.protocol != reference.protocol:
        rules += BETWEEN_PROTOCOLS
    expected, actual = (normalised(peer.answer(case), rules) for peer in peers)
    found = difference(expected, actual)
    assert not found, f"{case}\n{found}"


@pytest.mark.parametrize(
    "case",
    [
        Case("/headers", headers=(("X-Large", "x" * 9000),), note="field beyond 8190 bytes"),
        Case("/headers", headers=tuple((f"X-{n}", "1") for n in range(150)), note="150 fields"),
        Case("/get?" + "x" * 5000, note="request line beyond 4094 bytes"),
    ],
    ids=str,
)
def test_refuses_what_gthread_refuses(peers: tuple[Peer, Peer], case: Case) -> None:
    expected, actual = (peer.answer(case) for peer in peers)
    assert expected.status >= 400
    assert actual.status == expected.status, (expected, actual)


def test_cookie_in_crumbs_is_one_cookie_field(started: Started, certs: Certs) -> None:
    # As browsers send it: RFC 9113, 8.2.3.
    crumbs = (("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"))
    server = started("gunicorn_h2.H2Worker", True)
    with transport(certs, http2=True) as spoken:
        answer = fetch(spoken, server.url, "/cookies", headers=crumbs)
        echoed = fetch(spoken, server.url, "/headers", headers=crumbs)
    assert json_of(answer)["cookies"] == {"a": "1", "b": "2", "c": "3"}
    headers = json_of(echoed)["headers"]
    assert isinstance(headers, dict)
    assert headers["Cookie"] == "a=1; b=2; c=3"


@pytest.fixture
def client(started: Started, certs: Certs) -> Iterator[httpx.Client]:
    server = started("gunicorn_h2.H2Worker", True)
    with http_client.client(certs, server.url, http2=True) as client:
        client.follow_redirects = True
        yield client


@pytest.mark.parametrize("kind", ["redirect", "relative-redirect", "absolute-redirect"])
def test_redirects_are_followed_to_their_end(client: httpx.Client, kind: str) -> None:
    response = client.get(f"/{kind}/4")
    assert (response.status_code, len(response.history)) == (200, 4)
    assert response.json()["url"] == str(client.base_url.join("/get"))


def test_cookies_are_set_sent_and_deleted(client: httpx.Client) -> None:
    # httpbin marks them Secure, and the jar keeps them because this is TLS.
    assert client.get("/cookies/set?one=1&two=2").json()["cookies"] == {"one": "1", "two": "2"}
    assert client.get("/cookies/delete?one=").json()["cookies"] == {"two": "2"}


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512"])
def test_digest_authentication_succeeds(client: httpx.Client, algorithm: str) -> None:
    path = f"/digest-auth/auth/user/secret/{algorithm}"
    right = client.get(path, auth=httpx.DigestAuth("user", "secret"))
    wrong = client.get(path, auth=httpx.DigestAuth("user", "other"))
    assert (right.status_code, wrong.status_code) == (200, 401)
    assert right.json() == {"authenticated": True, "user": "user"}


@pytest.mark.parametrize("coding", ["gzip", "deflate", "brotli"])
def test_content_codings_decode(client: httpx.Client, coding: str) -> None:
    if coding == "brotli":
        pytest.importorskip("brotlicffi")
    flag = {"gzip": "gzipped", "deflate": "deflated", "brotli": "brotli"}[coding]
    assert client.get(f"/{coding}").json()[flag] is True
