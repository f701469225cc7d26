"""A self-signed certificate for development, made on first use.

For ``localhost``, ``127.0.0.1`` and ``::1`` only, and for one user of one
machine: the key lies unencrypted in that user's cache directory, or in the
directory that ``GUNICORN_DEVCERT_DIR`` names. Not for production.

It is made by the ``cryptography`` library, which only the ``demo`` extra of this
package installs; hence the imports inside functions.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from pathlib import Path

DIRECTORY_VARIABLE = "GUNICORN_DEVCERT_DIR"

_FILE_NAME = "localhost.pem"
_VALID = timedelta(days=90)
_RENEW = timedelta(days=7)


class DevCertError(Exception):
    """There is no development certificate and none can be made; says why."""


def ensure() -> str:
    """Path of a PEM file with a key and its certificate, valid for a week at least.

    Use it as ``certfile`` and as ``keyfile``: one file holds both, so that they
    always belong together.
    """
    directory = _directory()
    path = directory / _FILE_NAME
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(directory):
            if not _is_usable(path):
                _write(path, _new_pair())
    except ImportError as error:
        raise DevCertError(
            f"the development certificate needs the cryptography library ({error}):"
            " pip install 'gunicorn-h2[demo]', or use a certificate of your own"
        ) from error
    except OSError as error:
        raise DevCertError(
            f"cannot keep a development certificate in {directory}: {error.strerror};"
            f" name another directory in {DIRECTORY_VARIABLE}"
        ) from error
    return str(path)


def _directory() -> Path:
    chosen = os.environ.get(DIRECTORY_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    # The XDG specification has relative paths ignored.
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (cache if cache.is_absolute() else Path.home() / ".cache") / "gunicorn-h2"
    except RuntimeError as error:
        raise DevCertError(
            f"this user has no home directory: name a directory in {DIRECTORY_VARIABLE}"
        ) from error


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    # A rename is not enough for two starts at once: OpenSSL opens the file once
    # for the certificate and once for the key, and the second start must not
    # replace in between what the first was given.
    descriptor = os.open(directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_usable(path: Path) -> bool:
    from cryptography import x509

    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    # Others may have planted or read a file that is not ours alone.
    if (
        not stat.S_ISREG(status.st_mode)
        or status.st_uid != os.geteuid()
        or stat.S_IMODE(status.st_mode) & 0o077
    ):
        return False
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        return False
    return certificate.not_valid_after_utc - datetime.now(timezone.utc) > _RENEW


def _new_pair() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "localhost"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "gunicorn-h2 development certificate"),
        ]
    )
    alternatives = [
        x509.DNSName("localhost"),
        x509.IPAddress(ip_address("127.0.0.1")),
        x509.IPAddress(ip_address("::1")),
    ]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(subject_name=name, issuer_name=name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + _VALID)
        # Not an authority, so that whoever tells a browser to trust this
        # certificate trusts nothing else.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, pair: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as work:
        new = Path(work) / path.name
        new.touch(mode=0o600)
        new.write_bytes(pair)
        new.replace(path)
