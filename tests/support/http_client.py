"""httpx, told which protocol to speak: no falling back, and no surprise at the answer."""

from __future__ import annotations

from typing import NamedTuple

import httpx

from .certs import Certs

#: Seconds: generous, so that only a server that hangs reaches it.
TIMEOUT = httpx.Timeout(30)


class Wire(NamedTuple):
    """One way for a client to reach a server."""

    http2: bool
    tls: bool

    @property
    def protocol(self) -> str:
        """As httpx names it, and as ``SERVER_PROTOCOL`` does."""
        return "HTTP/2" if self.http2 else "HTTP/1.1"

    def __str__(self) -> str:
        return f"{'h2' if self.http2 else 'h1'}-{'tls' if self.tls else 'cleartext'}"


WIRES = [Wire(http2, tls) for http2 in (True, False) for tls in (True, False)]


def transport(certs: Certs, http2: bool) -> httpx.HTTPTransport:
    """Speaks HTTP/2, by ALPN or by prior knowledge, or HTTP/1.1, and nothing else."""
    context = certs.client_context(["h2" if http2 else "http/1.1"])
    return httpx.HTTPTransport(verify=context, http1=not http2, http2=http2)


def client(certs: Certs, url: str, http2: bool) -> httpx.Client:
    return httpx.Client(
        base_url=url, transport=transport(certs, http2), timeout=TIMEOUT, trust_env=False
    )
