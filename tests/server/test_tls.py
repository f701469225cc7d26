"""TLS as RFC 9113 section 9.2 wants it, as Gunicorn's settings and the ssl_context hook say."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Serve
from tests.support import require_tool
from tests.support.apps import HELLO
from tests.support.certs import CLIENT_NAME, Certs
from tests.support.frames import RawClient, ServerClosed
from tests.support.http1 import Http1Client
from tests.support.server import BootError, Server

APP = """
import json

def app(environ, start_response):
    socket = environ["gunicorn.socket"]
    body = json.dumps({
        "protocol": environ["SERVER_PROTOCOL"],
        "scheme": environ["wsgi.url_scheme"],
        "version": socket.version(),
        "alpn": socket.selected_alpn_protocol(),
        "cipher": socket.cipher()[0],
        "certificate": socket.getpeercert(),
    }).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

#: TLS 1.2 suites for our certificate that RFC 9113 appendix A leaves over.
ALLOWED = {
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
}


@pytest.fixture(scope="module")
def app_args(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("tls_app")
    (directory / "tls_app.py").write_text(APP)
    return ["--pythonpath", str(directory)]


@pytest.fixture(scope="module")
def server(module_serve: Serve, app_args: list[str]) -> Server:
    return module_serve("tls_app:app", tls=True, args=app_args)


def facts(server: Server, context: ssl.SSLContext) -> dict[str, object]:
    """Return what the application sees of our connection, over HTTP/2 or HTTP/1.1."""
    if context_speaks_h2(server, context):
        with RawClient(server, context=context).greet() as client:
            return dict(json.loads(client.request().body))
    with Http1Client(server, context=context) as http1:
        return dict(json.loads(http1.get("/").body))


def context_speaks_h2(server: Server, context: ssl.SSLContext) -> bool:
    with Http1Client(server, context=context) as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        return client.sock.selected_alpn_protocol() == "h2"


def context_of(
    certs: Certs, version: ssl.TLSVersion | None = None, ciphers: str | None = None
) -> ssl.SSLContext:
    context = certs.client_context()
    if version is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = context.maximum_version = version
    if ciphers is not None:
        context.set_ciphers(ciphers)
    return context


# -- protocols -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "chosen", "protocol"),
    [
        (["h2"], "h2", "HTTP/2.0"),
        (["h2", "http/1.1"], "h2", "HTTP/2.0"),
        (["http/1.1", "h2"], "h2", "HTTP/2.0"),
        (["http/1.1"], "http/1.1", "HTTP/1.1"),
        ([], None, "HTTP/1.1"),
        (["spdy/3"], None, "HTTP/1.1"),
    ],
)
def test_alpn(
    server: Server, certs: Certs, offered: list[str], chosen: str | None, protocol: str
) -> None:
    seen = facts(server, certs.client_context(offered))
    assert seen["alpn"] == chosen
    assert str(seen["protocol"]).startswith(protocol[: len("HTTP/2")])
    assert seen["scheme"] == "https"


def test_http2_without_alpn_is_not_guessed(server: Server, certs: Certs) -> None:
    """The preface alone is for cleartext (RFC 9113 section 3.2 asks for ALPN)."""
    with Http1Client(server, context=certs.client_context([])) as client:
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.read_to_end().startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3(server: Server, certs: Certs, version: ssl.TLSVersion) -> None:
    seen = facts(server, context_of(certs, version))
    assert (seen["version"], seen["alpn"]) == (version.name.replace("_", "."), "h2")


OLD_TLS_HOOK = """
import ssl
def ssl_context(conf, default_factory):
    context = default_factory()
    context.set_ciphers("ALL:@SECLEVEL=0")
    import warnings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
    return context
"""


def test_tls_1_1_is_refused(serve: Serve, certs: Certs) -> None:
    context = context_of(certs, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0")
    for conf in ("", OLD_TLS_HOOK):
        server = serve(tls=True, conf=conf)
        with pytest.raises(ssl.SSLError):
            Http1Client(server, context=context)
        assert "[ERROR]" not in server.log()
    # The refusal is ours: with the same hook gthread takes the same client.
    with Http1Client(
        serve(tls=True, conf=OLD_TLS_HOOK, worker_class="gthread"), context=context
    ) as client:
        assert client.get().body == HELLO


# -- cipher suites ---------------------------------------------------------------------


def accepted_suites(server: Server, certs: Certs) -> set[str]:
    """Offer every TLS 1.2 suite that OpenSSL has, one by one."""
    every = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    every.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    names = {each["name"] for each in every.get_ciphers() if each["protocol"] != "TLSv1.3"}
    found = set()
    for name in names:
        context = context_of(certs, ssl.TLSVersion.TLSv1_2, f"{name}:@SECLEVEL=0")
        try:
            with Http1Client(server, context=context):
                found.add(name)
        except ssl.SSLError:
            continue
    assert len(names) > len(ALLOWED)
    return found


def test_only_the_suites_that_http2_allows(server: Server, certs: Certs) -> None:
    assert accepted_suites(server, certs) == ALLOWED


def test_the_ciphers_setting_is_honoured(serve: Serve, certs: Certs) -> None:
    chosen = "ECDHE-ECDSA-AES256-GCM-SHA384"
    server = serve(tls=True, args=["--ciphers", chosen])
    assert accepted_suites(server, certs) == {chosen}


def test_openssl_does_not_get_a_forbidden_suite(server: Server) -> None:
    for cipher, succeeds in (("ECDHE-ECDSA-AES128-SHA256", False), (min(ALLOWED), True)):
        assert (s_client(server, "-tls1_2", "-cipher", cipher).returncode == 0) is succeeds


def test_the_ssl_context_hook_is_honoured(serve: Serve, certs: Certs, app_args: list[str]) -> None:
    """Its suites stay, even one that HTTP/2 would not have: who sets them means it."""
    chosen = "ECDHE-ECDSA-AES128-SHA256"
    hook = "def ssl_context(conf, default_factory):\n    context = default_factory()\n"
    hook += f"    context.set_ciphers({chosen!r})\n    return context\n"
    server = serve("tls_app:app", tls=True, conf=hook, args=app_args)
    assert accepted_suites(server, certs) == {chosen}
    seen = facts(server, context_of(certs, ssl.TLSVersion.TLSv1_2))
    assert (seen["cipher"], seen["alpn"]) == (chosen, "h2")


def s_client(
    server: Server, *options: str, commands: str = "Q\n"
) -> subprocess.CompletedProcess[str]:
    command = [require_tool("openssl"), "s_client", "-connect", f"{server.host}:{server.port}"]
    return subprocess.run(
        [*command, *options], input=commands, capture_output=True, text=True, timeout=30
    )


def test_no_renegotiation(server: Server) -> None:
    output = s_client(server, "-tls1_2", commands="R\nQ\n")
    assert "RENEGOTIATING" in output.stdout + output.stderr
    assert "no renegotiation" in output.stderr
    with RawClient(server).greet() as client:
        assert client.request().status == 200


# -- client certificates -----------------------------------------------------------------


def common_name(seen: dict[str, object]) -> str | None:
    certificate = seen["certificate"]
    if not isinstance(certificate, dict) or not certificate:
        return None
    return str(dict(pair for each in certificate["subject"] for pair in each)["commonName"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("required", [False, True], ids=["optional", "required"])
def test_client_certificates(
    serve: Serve, certs: Certs, app_args: list[str], required: bool, version: ssl.TLSVersion
) -> None:
    required_args = ["--ca-certs", str(certs.ca), "--cert-reqs", "2" if required else "1"]
    server = serve("tls_app:app", tls=True, args=[*app_args, *required_args])
    with_certificate = context_of(certs, version)
    with_certificate.load_cert_chain(certs.client_cert, certs.client_key)
    assert common_name(facts(server, with_certificate)) == CLIENT_NAME
    without = context_of(certs, version)
    if not required:
        assert common_name(facts(server, without)) is None
        return
    # In TLS 1.3 the client is done before the server has looked.
    with (
        pytest.raises((ssl.SSLError, ServerClosed, ConnectionError)),
        RawClient(server, context=without) as client,
    ):
        client.greet()
    assert "[WARNING]" not in server.log()
    assert "[ERROR]" not in server.log()


# -- what stops the start ---------------------------------------------------------------------


def boot_log(certs: Certs, *args: str) -> str:
    """Start a server that cannot come up; return its log."""
    server = Server(tls=True, certs=certs, args=args)
    with pytest.raises(BootError, match="the server ended"), server:
        pass
    log = server.log()
    assert log.count("Booting worker") <= 1, "it must not respawn"
    return log


def test_a_missing_certificate_stops_the_start(certs: Certs, tmp_path: Path) -> None:
    missing = replace(certs, cert=tmp_path / "none.pem")
    assert f'certfile "{missing.cert}" does not exist' in boot_log(missing)


def encrypted_key(certs: Certs, path: Path) -> Path:
    command = [require_tool("openssl"), "pkcs8", "-topk8", "-in", str(certs.key)]
    command += ["-passout", "pass:secret", "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return path


@pytest.mark.parametrize("problem", ["broken", "of another key", "encrypted", "ciphers"])
def test_what_cannot_be_used_stops_the_start_with_one_line(
    certs: Certs, tmp_path: Path, problem: str
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    used, args, expected = certs, [], "TLS: cannot use certfile"
    if problem == "broken":
        used = replace(certs, cert=broken)
    elif problem == "of another key":
        used = replace(certs, key=certs.client_key)
    elif problem == "encrypted":
        used = replace(certs, key=encrypted_key(certs, tmp_path / "encrypted.key"))
        expected = "is encrypted"
    else:
        args = ["--ciphers", "NO-SUCH-CIPHER"]
    log = boot_log(used, *args)
    (line,) = re.findall(r".*\[CRITICAL\] (.*)", log)
    assert expected in line
    assert str(used.key) in line
    assert "Traceback" not in log


def test_hello_over_tls(serve: Serve) -> None:
    with RawClient(serve(tls=True)).greet() as client:
        assert client.request(path="/hello").body == HELLO
