"""A new certificate comes with HUP: for new connections; old ones drain under the old one."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import ssl
from pathlib import Path

from hyperframe.frame import GoAwayFrame

from tests.conftest import Serve
from tests.support.certs import Certs, make_certs
from tests.support.frames import RawClient


def test_certificate_reload(serve: Serve, tmp_path: Path) -> None:
    old, new = certificates(tmp_path / "old"), certificates(tmp_path / "new")
    used = dataclasses.replace(old, cert=tmp_path / "used.pem", key=tmp_path / "used.key")
    install(old, used)
    server = serve(tls=True, certs=used, graceful_timeout=20)
    with RawClient(server, timeout=30).greet() as client:
        assert certificate(client) == der(old)
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.want_idle()
        install(new, used)
        server.signal(signal.SIGHUP)
        client.want(GoAwayFrame)
        with RawClient(server, context=new.client_context()).greet() as newcomer:
            assert certificate(newcomer) == der(new)
            assert newcomer.request(path="/hello").status == 200
            client.data(1, b"under the old one", end_stream=True)
            assert client.response(1).body == b"under the old one"


def certificates(directory: Path) -> Certs:
    directory.mkdir()
    return make_certs(directory)


def install(certs: Certs, used: Certs) -> None:
    """Put the certificate where the server reads it, as tools that renew them do."""
    for source, target in ((certs.cert, used.cert), (certs.key, used.key)):
        fresh = target.with_suffix(".fresh")
        shutil.copy(source, fresh)
        fresh.replace(target)


def certificate(client: RawClient) -> bytes | None:
    assert isinstance(client.sock, ssl.SSLSocket)
    return client.sock.getpeercert(binary_form=True)


def der(certs: Certs) -> bytes:
    return ssl.PEM_cert_to_DER_cert(certs.cert.read_text())
