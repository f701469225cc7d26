"""The facts of a connection, on a real server: those of gthread for the same request.

Each server has a gthread beside it, which is asked the same over HTTP/1.1 in the same
run. What may differ is what a client's port and an HTTP version are about.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support.certs import Certs
from tests.support.either import PROTOCOLS
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client
from tests.support.http1 import request as http1_request
from tests.support.server import Server
from tests.support.wire import PREFACE

APP = "tests.support.facts:app"
Facts = dict[str, Any]

#: Of another connection, or of HTTP/2 only.
VARYING = {"REMOTE_PORT", "SERVER_PORT", "SERVER_PROTOCOL", "gunicorn_h2.stream_id", "HTTP_HOST"}

#: Request fields, the same over both protocols.
FIELDS = [
    ("user-agent", "t/1"),
    ("x-two", "a"),
    ("x-two", "b"),
    ("cookie", "a=1; b=2"),
    ("x_underscore", "dropped"),
    ("x-forwarded-for", "192.0.2.1"),
]


@contextlib.contextmanager
def over_http2(server: Server, context: ssl.SSLContext | None) -> Iterator[Callable[..., bytes]]:
    with RawClient(server, context=context).greet() as client:
        client.authority = "example.com:81"

        def ask(path: str, *fields: tuple[str, str]) -> bytes:
            response = client.request(path=path, extra=fields)
            assert response.status == 200, response.body
            return response.body

        yield ask


@contextlib.contextmanager
def over_http1(server: Server, context: ssl.SSLContext | None) -> Iterator[Callable[..., bytes]]:
    with Http1Client(server, context=context) as client:

        def ask(path: str, *fields: tuple[str, str]) -> bytes:
            lines = [f"{name}: {value}" for name, value in fields]
            head = http1_request(path, *lines).replace(b"Host: localhost", b"Host: example.com:81")
            client.send(head)
            response = client.response()
            assert response.status == 200, response.body
            return response.body

        yield ask


def facts(
    server: Server,
    protocol: str,
    path: str = "/a%20b?c=d",
    fields: list[tuple[str, str]] | None = None,
    client_cert: bool = False,
) -> Facts:
    """What the application says of a request, and of the connection it came on."""
    context = None
    if server.tls:
        assert server.certs is not None
        alpn = ["h2"] if protocol == "h2" else ["http/1.1"]
        context = server.certs.client_context(alpn, client_cert=client_cert)
    connect = over_http2 if protocol == "h2" else over_http1
    with connect(server, context) as ask:
        answer: Facts = json.loads(ask(path, *(FIELDS if fields is None else fields)))
    return answer


def comparable(answer: Facts, *more: str) -> Facts:
    varying = VARYING.union(more)
    # Extensions: of this worker, or of newer Gunicorns only.
    ours = ("gunicorn_h2.", "wsgi.ext.", "gunicorn.http2.")
    return {
        key: value
        for key, value in answer["environ"].items()
        if key not in varying and not key.startswith(ours)
    }


@pytest.fixture
def pair(serve: Serve) -> Callable[..., tuple[Server, Server]]:
    """Our worker and a gthread, started alike."""

    def start(**options: Any) -> tuple[Server, Server]:
        return (
            serve(APP, **options),
            serve(APP, worker_class="gthread", **{"threads": 4, **options}),
        )

    return start


BINDS = ["127.0.0.1:0", "[::1]:0", "unix:"]


@pytest.mark.parametrize("bind", BINDS)
def test_the_facts_of_gthread(
    pair: Callable[..., tuple[Server, Server]], bind: str, tls: bool
) -> None:
    ours, gthread = pair(bind=bind, tls=tls)
    expected = facts(gthread, "h1")
    for protocol in PROTOCOLS:
        actual = facts(ours, protocol)
        assert comparable(actual) == comparable(expected)
        environ = actual["environ"]
        assert environ["SERVER_PROTOCOL"] == PROTOCOLS[protocol]
        assert environ["wsgi.url_scheme"] == ("https" if tls else "http")
        assert environ["HTTP_HOST"] == "example.com:81"
        assert environ["HTTP_X_TWO"] == "a,b"
        if bind == "unix:":
            # Nothing but Host says where the request was meant to go.
            assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("example.com", "81")
            assert environ["REMOTE_ADDR"] == ""
            assert "REMOTE_PORT" not in environ
            assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
        else:
            assert environ["SERVER_PORT"] == str(ours.port)
            assert environ["REMOTE_ADDR"] == ("::1" if "::1" in bind else "127.0.0.1")
            assert 0 < int(environ["REMOTE_PORT"]) < 65536


@pytest.mark.parametrize("bind", BINDS)
def test_the_addresses_of_the_socket(pair: Callable[..., tuple[Server, Server]], bind: str) -> None:
    ours, gthread = pair(bind=bind)
    for protocol in PROTOCOLS:
        answer = facts(ours, protocol)
        asked = answer["socket"]
        expected = facts(gthread, "h1")["socket"]
        assert asked["family"] == expected["family"]
        if bind == "unix:":
            assert asked["getsockname"] == ours.addresses[0]
            assert asked["getpeername"] == expected["getpeername"] == ""
            continue
        # A number of the connection in either, but for the listener's.
        assert asked["getsockname"][:2] == [ours.host, ours.port]
        assert asked["getpeername"][0] == expected["getpeername"][0]
        assert asked["getpeername"][1] == int(answer["environ"]["REMOTE_PORT"])
        assert len(asked["getpeername"]) == len(expected["getpeername"])


def test_forwarding_is_trusted_as_by_gthread(
    pair: Callable[..., tuple[Server, Server]],
) -> None:
    fields = [("x-forwarded-proto", "https"), ("script_name", "/a")]
    for allowed, scheme, script_name in (("127.0.0.1", "https", "/a"), ("192.0.2.1", "http", "")):
        ours, gthread = pair(args=["--forwarded-allow-ips", allowed])
        expected = facts(gthread, "h1", "/a/b", fields)
        for protocol in PROTOCOLS:
            actual = facts(ours, protocol, "/a/b", fields)
            assert comparable(actual) == comparable(expected)
            assert actual["environ"]["wsgi.url_scheme"] == scheme
            assert actual["environ"]["SCRIPT_NAME"] == script_name


def test_script_name_of_the_environment(pair: Callable[..., tuple[Server, Server]]) -> None:
    ours, gthread = pair(env={"SCRIPT_NAME": "/a"})
    expected = facts(gthread, "h1", "/a/b?c")
    for protocol in PROTOCOLS:
        actual = facts(ours, protocol, "/a/b?c")
        assert comparable(actual) == comparable(expected)
        environ = actual["environ"]
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/a", "/b")


# -- TLS -----------------------------------------------------------------------------------


def tls_facts(answer: Facts) -> Facts:
    names = ("getpeercert", "getpeercert(False)", "getpeercert(True)", "cipher", "version")
    return {name: answer["socket"][name] for name in (*names, "getpeercert(binary_form=True)")}


def same_tls(ours: Server, gthread: Server, client_cert: bool) -> Facts:
    expected = tls_facts(facts(gthread, "h1", client_cert=client_cert))
    for protocol in PROTOCOLS:
        answer = facts(ours, protocol, client_cert=client_cert)
        assert tls_facts(answer) == expected
        alpn = "h2" if protocol == "h2" else "http/1.1"
        assert answer["socket"]["selected_alpn_protocol"] == alpn
    return expected


@pytest.mark.parametrize("cert_reqs", [ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED])
def test_the_certificate_of_the_client(
    pair: Callable[..., tuple[Server, Server]], certs: Certs, cert_reqs: ssl.VerifyMode
) -> None:
    args = ["--cert-reqs", str(int(cert_reqs)), "--ca-certs", str(certs.ca)]
    ours, gthread = pair(tls=True, args=args)
    seen = same_tls(ours, gthread, client_cert=True)
    if cert_reqs == ssl.CERT_NONE:
        assert not seen["getpeercert"]
    else:
        names = dict(pair[0] for pair in seen["getpeercert"]["subject"])
        assert names == {"commonName": "gunicorn-h2 test client"}
        assert seen["getpeercert(True)"].split() == certs.client_cert.read_text().split()
    if cert_reqs != ssl.CERT_REQUIRED:
        without = same_tls(ours, gthread, client_cert=False)
        assert not without["getpeercert"]


@pytest.mark.parametrize("alpn", ["h2", "http/1.1"])
def test_without_the_certificate_that_is_required_nothing_is_served(
    serve: Serve, certs: Certs, alpn: str
) -> None:
    args = ["--cert-reqs", str(int(ssl.CERT_REQUIRED)), "--ca-certs", str(certs.ca)]
    server = serve(APP, tls=True, args=args)
    context = certs.client_context([alpn])
    received = b""
    # How TLS 1.3 tells a client that was let in so far is not the matter here.
    with (
        server.connect() as plain,
        contextlib.suppress(ssl.SSLError, ConnectionError),
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(PREFACE if alpn == "h2" else http1_request())
        received = secure.recv(1)
    assert received == b""
    assert facts(server, "h2", client_cert=True)["environ"]["wsgi.url_scheme"] == "https"
    assert "Traceback" not in server.log()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_cipher_and_version(
    pair: Callable[..., tuple[Server, Server]], certs: Certs, version: ssl.TLSVersion
) -> None:
    ours, gthread = pair(tls=True)
    seen = []
    for server, alpn in ((gthread, "http/1.1"), (ours, "http/1.1"), (ours, "h2")):
        context = certs.client_context([alpn])
        context.minimum_version = context.maximum_version = version
        connect = over_http2 if alpn == "h2" else over_http1
        with connect(server, context) as ask:
            seen.append(tls_facts(json.loads(ask("/"))))
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["version"] == version.name.replace("_", ".")
    assert len(seen[0]["cipher"]) == 3


def test_in_cleartext_there_is_nothing_to_tell(serve: Serve) -> None:
    server = serve(APP)
    for protocol in PROTOCOLS:
        asked = facts(server, protocol)["socket"]
        assert [asked[name] for name in tls_facts({"socket": asked})] == [None] * 6
        assert asked["selected_alpn_protocol"] is None


# -- what is ours ---------------------------------------------------------------------------


def test_the_socket_gives_facts_and_nothing_else(serve: Serve) -> None:
    server = serve(APP)
    for protocol in PROTOCOLS:
        refused = facts(server, protocol, "/forbidden")["forbidden"]
        if protocol == "h1":
            # Gunicorn's own response writes to it.
            del refused["sendall"]
        for name, said in refused.items():
            assert said.startswith("OSError: "), (name, said)
            assert f"gunicorn.socket.{name}() is not available" in said


@pytest.mark.parametrize(
    ("threads", "multithread"),
    [(None, True), (4, True), (1, False)],
    ids=["default", "four", "one"],
)
def test_multithread(serve: Serve, threads: int | None, multithread: bool) -> None:
    server = serve(APP, threads=threads)
    for protocol in PROTOCOLS:
        assert facts(server, protocol)["environ"]["wsgi.multithread"] is multithread


@pytest.mark.parametrize("workers", [1, 2])
def test_multiprocess(serve: Serve, workers: int) -> None:
    server = serve(APP, workers=workers)
    for protocol in PROTOCOLS:
        assert facts(server, protocol)["environ"]["wsgi.multiprocess"] is (workers > 1)
