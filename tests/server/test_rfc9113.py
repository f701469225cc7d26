"""What RFC 9113 demands of a server and only a real one can show; RFC9113.rst is the list."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gunicorn.config import Config

from gunicorn_h2.worker import tls_context
from tests.conftest import Serve
from tests.support import require_tool
from tests.support.apps import HELLO
from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client
from tests.support.server import Server
from tests.support.wire import DEFAULT_WINDOW, ErrorCode


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(threads=2)


def test_the_connection_is_closed_after_a_fault(server: Server) -> None:
    """5.4.1: though a request runs, and the peer goes on sending."""
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.want_idle()
        client.data(0, b"x")
        client.want_goaway(ErrorCode.PROTOCOL_ERROR)
        client.want_closed()
        with pytest.raises(OSError):
            # Not our half alone is closed.
            while True:
                client.sock.sendall(bytes(1 << 16))


def test_frames_are_read_while_nobody_reads_the_body(server: Server) -> None:
    """5.2.2: a stream whose window is used up holds up neither PING nor another stream."""
    with RawClient(server).greet() as client:
        client.headers(1, method="POST", path="/sleep?s=1", end_stream=False)
        client.upload(1, bytes(DEFAULT_WINDOW), end_stream=False)
        client.want_idle()
        client.headers(3, path=f"/large?n={2 * DEFAULT_WINDOW}")
        # The second half comes only when the grants are acted upon.
        assert len(client.response(3).body) == 2 * DEFAULT_WINDOW
        client.rst(1)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/hello", 200),
        ("/headers?X-Mixed=Case&Set-Cookie=a", 200),
        ("/raise", 500),
        ("x", 400),
    ],
)
def test_field_names_are_sent_in_lower_case(server: Server, path: str, status: int) -> None:
    """8.2, 8.2.2: of the application's fields, and of the pages that Gunicorn writes."""
    with RawClient(server).greet() as client:
        response = client.request(path=path)
        assert response.status == status
        names = [name for name, _ in response.headers]
        assert names[0] == b":status"
        assert [name for name in names if name.startswith(b":")] == [b":status"]
        assert names == [name.lower() for name in names]
        assert b"connection" not in names


@pytest.mark.parametrize("code", [100, 101, 103])
def test_no_final_response_is_informational(server: Server, code: int) -> None:
    """8.6: 101 does not exist, and END_STREAM never comes with a 1xx."""
    with RawClient(server).greet() as client:
        response = client.request(path=f"/status?code={code}")
        assert (response.status, response.interim) == (500, [])


def test_nghttp_tells_of_two_table_sizes_in_one_frame(server: Server) -> None:
    """RFC 7541 section 4.2: its decoder accepts no block that does not tell of the smaller."""
    command = [require_tool("nghttp"), "-c", "0", "-c", "4096"]
    url = f"http://{server.host}:{server.port}/hello"
    done = subprocess.run([*command, url], capture_output=True, text=True, timeout=30)
    assert done.stdout == HELLO.decode(), done.stderr


# -- 3.2, 9.2: TLS --------------------------------------------------------------------------------


def test_h2c_is_not_chosen_over_tls(serve: Serve, certs: Certs) -> None:
    """3.2: the name is of cleartext alone."""
    context = certs.client_context(["h2c", "http/1.1"])
    with Http1Client(serve(tls=True), context=context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.get("/hello").body == HELLO


def test_the_suite_that_every_deployment_has(serve: Serve, certs: Certs, tmp_path: Path) -> None:
    """9.2.2: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 on P-256, where the key is of RSA."""
    cert, key = tmp_path / "rsa.pem", tmp_path / "rsa.key"
    command = [require_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    rsa = replace(certs, ca=cert, cert=cert, key=key)
    context = rsa.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    context.set_ecdh_curve("prime256v1")
    with RawClient(serve(tls=True, certs=rsa), context=context).greet() as client:
        assert client.request(path="/hello").body == HELLO


def test_compression_and_renegotiation_are_off_whatever_the_hook_does(certs: Certs) -> None:
    """9.2.1: no OpenSSL of today compresses, so what is asked of it is looked at."""

    def hook(conf: Any, default_factory: Any) -> ssl.SSLContext:
        context: ssl.SSLContext = default_factory()
        context.options &= ~(ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION)
        return context

    config = Config()
    config.set("certfile", str(certs.cert))
    config.set("keyfile", str(certs.key))
    config.set("ssl_context", hook)
    options = tls_context(config).options
    assert options & ssl.OP_NO_COMPRESSION
    assert options & ssl.OP_NO_RENEGOTIATION
