"""The development certificate: made once, kept private, renewed in time."""

from __future__ import annotations

import datetime
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from gunicorn_h2 import devcert
from tests.support.server import ROOT


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("cryptography")
    directory = tmp_path / "certificates"
    monkeypatch.setenv(devcert.DIRECTORY_VARIABLE, str(directory))
    return directory


def make_certificate(path: Path, days: int) -> None:
    """Put a certificate of the user's own making, with its key, where ours would be."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path.touch(mode=0o600)
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))


def shake_hands(path: str, host: str) -> ssl.SSLObject:
    """A client that trusts this certificate and checks the name meets a server that has it."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(path, path)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client_context = ssl.create_default_context(cafile=path)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    for end in (client, server):
        with pytest.raises(ssl.SSLWantReadError):
            end.do_handshake()
    client.do_handshake()
    server.do_handshake()
    return client


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_a_client_that_trusts_it_accepts_this_machine(directory: Path, host: str) -> None:
    assert shake_hands(devcert.ensure(), host).version() == "TLSv1.3"


def test_a_client_that_trusts_it_accepts_no_other_name(directory: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'example\.org'"):
        shake_hands(devcert.ensure(), "example.org")


def test_it_is_valid_for_90_days(directory: Path) -> None:
    certificate = shake_hands(devcert.ensure(), "localhost").getpeercert()
    assert certificate is not None
    begin, end = (
        ssl.cert_time_to_seconds(str(certificate[name])) for name in ("notBefore", "notAfter")
    )
    assert end - begin == 90 * 24 * 3600


def test_it_can_sign_no_other_certificate(directory: Path) -> None:
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(Path(devcert.ensure()).read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert not constraints.value.ca
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert not usage.value.key_cert_sign


def test_only_the_user_can_read_the_key(directory: Path) -> None:
    path = Path(devcert.ensure())
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert b"PRIVATE KEY" in path.read_bytes()


def test_it_is_made_once(directory: Path) -> None:
    first = Path(devcert.ensure()).read_bytes()
    assert Path(devcert.ensure()).read_bytes() == first
    assert names(directory) == [".lock", "localhost.pem"]


@pytest.mark.parametrize(("days", "kept"), [(3, False), (30, True)])
def test_it_is_made_again_before_it_expires(directory: Path, days: int, kept: bool) -> None:
    directory.mkdir()
    path = directory / "localhost.pem"
    make_certificate(path, days)
    before = path.read_bytes()
    assert devcert.ensure() == str(path)
    assert (path.read_bytes() == before) is kept


def test_a_key_that_others_could_read_is_not_used(directory: Path) -> None:
    path = Path(devcert.ensure())
    before = path.read_bytes()
    path.chmod(0o640)
    devcert.ensure()
    assert path.read_bytes() != before
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_planted_link_is_replaced_and_not_followed(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.pem"
    make_certificate(elsewhere, 30)
    before = elsewhere.read_bytes()
    directory.mkdir()
    (directory / "localhost.pem").symlink_to(elsewhere)
    assert not Path(devcert.ensure()).is_symlink()
    assert elsewhere.read_bytes() == before


def test_rubbish_is_replaced(directory: Path) -> None:
    directory.mkdir()
    path = directory / "localhost.pem"
    path.touch(mode=0o600)
    path.write_text("rubbish")
    shake_hands(devcert.ensure(), "localhost")


def test_starts_at_the_same_time_all_get_a_pair_that_fits(directory: Path) -> None:
    program = """
import ssl
from gunicorn_h2 import devcert
path = devcert.ensure()
ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, path)
"""
    starts = [
        subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    errors = [start.communicate(timeout=60)[1] for start in starts]
    assert [(start.returncode, error) for start, error in zip(starts, errors, strict=True)] == [
        (0, "")
    ] * 6
    assert names(directory) == [".lock", "localhost.pem"]


def test_without_cryptography_one_line_says_what_to_install(directory: Path) -> None:
    # -S leaves out whatever pip has installed; Gunicorn, too, runs the file as it is.
    run = subprocess.run(
        [sys.executable, "-S", "examples/gunicorn.conf.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TLS_CERTFILE": ""},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert "needs the cryptography library" in line
    assert "pip install 'gunicorn-h2[demo]', or use a certificate of your own" in line


def test_a_directory_that_cannot_be_written_is_named(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devcert.DIRECTORY_VARIABLE, "/dev/null/certificates")
    with pytest.raises(devcert.DevCertError, match=r"/dev/null/certificates.*another directory in"):
        devcert.ensure()


@pytest.mark.parametrize(
    ("cache", "expected"),
    [("{tmp}/cache", "cache/gunicorn-h2"), ("relative", "home/.cache/gunicorn-h2")],
)
def test_by_default_it_is_kept_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str, expected: str
) -> None:
    pytest.importorskip("cryptography")
    monkeypatch.delenv(devcert.DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", cache.format(tmp=tmp_path))
    assert devcert.ensure() == str(tmp_path / expected / "localhost.pem")


def test_a_user_without_a_home_is_told_of_the_variable(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (devcert.DIRECTORY_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(devcert.DevCertError, match=devcert.DIRECTORY_VARIABLE):
        devcert.ensure()
