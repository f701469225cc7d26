"""Development certificates, made when the tests run and never committed.

One authority, a server certificate for loopback and a client certificate for
mutual TLS. Made by the `cryptography` package, or by the `openssl` command
where that is not installed.
"""

from __future__ import annotations

import datetime
import importlib.util
import ipaddress
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import require_tool

DNS_NAME = "localhost"
ADDRESSES = ("127.0.0.1", "::1")
CA_NAME = "gunicorn-h2 test authority"
CLIENT_NAME = "gunicorn-h2 test client"
LIFETIME = datetime.timedelta(days=2)


@dataclass(frozen=True)
class Certs:
    """Paths of PEM files."""

    ca: Path
    cert: Path
    key: Path
    client_cert: Path
    client_key: Path

    def client_context(
        self, alpn: Sequence[str] = ("h2",), *, client_cert: bool = False
    ) -> ssl.SSLContext:
        """Return a context that trusts our authority and offers these protocols."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if client_cert:
            context.load_cert_chain(self.client_cert, self.client_key)
        return context


def make_certs(directory: Path) -> Certs:
    """Make the authority and both certificates in a directory."""
    if importlib.util.find_spec("cryptography") is None:
        return make_with_openssl(directory)
    return make_with_cryptography(directory)


def _paths(directory: Path) -> Certs:
    return Certs(
        ca=directory / "ca.pem",
        cert=directory / "server.pem",
        key=directory / "server.key",
        client_cert=directory / "client.pem",
        client_key=directory / "client.key",
    )


def make_with_cryptography(directory: Path) -> Certs:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def builder(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(CA_NAME))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - LIFETIME)
            .not_valid_after(now + LIFETIME)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), False
            )
        )

    def issue(unsigned: x509.CertificateBuilder, path: Path) -> None:
        certificate = unsigned.sign(ca_key, hashes.SHA256())
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def new_key(path: Path | None = None) -> ec.EllipticCurvePrivateKey:
        key = ec.generate_private_key(ec.SECP256R1())
        if path is not None:
            path.write_bytes(
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        return key

    certs = _paths(directory)
    ca_key = new_key()
    ca_usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    authority = builder(CA_NAME, ca_key)
    authority = authority.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
    issue(authority.add_extension(ca_usage, True), certs.ca)

    server = builder(DNS_NAME, new_key(certs.key))
    addresses = [x509.IPAddress(ipaddress.ip_address(each)) for each in ADDRESSES]
    server = server.add_extension(
        x509.SubjectAlternativeName([x509.DNSName(DNS_NAME), *addresses]), False
    )
    server = server.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
    issue(server, certs.cert)

    client = builder(CLIENT_NAME, new_key(certs.client_key))
    client = client.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    issue(client, certs.client_cert)
    return certs


def make_with_openssl(directory: Path) -> Certs:
    openssl = require_tool("openssl")
    certs = _paths(directory)
    ca_key = directory / "ca.key"

    def run(*arguments: str | Path) -> None:
        subprocess.run([openssl, *map(str, arguments)], check=True, capture_output=True, timeout=60)

    def request(subject: str, key: Path, *more: str | Path) -> None:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        run("req", *curve, "-keyout", key, "-subj", f"/CN={subject}", *more)

    def issue(subject: str, cert: Path, key: Path, extensions: str) -> None:
        signing_request = cert.with_suffix(".csr")
        extension_file = cert.with_suffix(".ext")
        extension_file.write_text(extensions)
        request(subject, key, "-new", "-out", signing_request)
        run(
            *("x509", "-req", "-in", signing_request, "-out", cert, "-days", str(LIFETIME.days)),
            *("-CA", certs.ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extension_file),
        )

    # -x509 adds the basic constraints of an authority and the key identifiers.
    usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    request(CA_NAME, ca_key, "-x509", "-out", certs.ca, "-days", str(LIFETIME.days), *usage)
    identifiers = "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    names = ",".join([f"DNS:{DNS_NAME}", *(f"IP:{each}" for each in ADDRESSES)])
    issue(
        DNS_NAME,
        certs.cert,
        certs.key,
        f"{identifiers}subjectAltName={names}\nextendedKeyUsage=serverAuth\n",
    )
    issue(
        CLIENT_NAME,
        certs.client_cert,
        certs.client_key,
        f"{identifiers}extendedKeyUsage=clientAuth\n",
    )
    return certs
