"""A connection's end on real sockets, where the loops have transports of their own."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any

import pytest

from gunicorn_h2.protocol import Link
from tests.boundary.bench import Bench
from tests.boundary.clients import with_bench
from tests.boundary.jobs import LOOPS
from tests.support.boundary import until
from tests.support.certs import Certs
from tests.support.tcp import reset_on_close


def no_app(_environ: dict[str, Any], _start_response: Any) -> Any:
    raise AssertionError("there is no request")


@LOOPS
def test_a_graceful_close_finds_that_the_peer_has_reset(kind: str) -> None:
    """Before the loop does, which looks for it in a later turn."""

    async def test(bench: Bench) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            accepted, client = listener.accept()
            link = Link(bench.server, client, listener.getsockname(), socket.AF_INET)
            bench.server.count_connection()
            await asyncio.get_running_loop().connect_accepted_socket(lambda: link, accepted)
            reset_on_close(peer)
            peer.close()
            link.close_gracefully(60.0)
            await until(lambda: link not in bench.server.links)

    with_bench(no_app, test, kind)


@LOOPS
@pytest.mark.parametrize("end", ["closed", "lost"])
def test_what_is_over_has_no_room(kind: str, end: str, certs: Certs) -> None:
    """Threads that were running have their sessions flushed after the end."""

    async def test(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certs.cert, certs.key)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = listener.getsockname()
            connecting = asyncio.ensure_future(
                asyncio.open_connection(*address, ssl=certs.client_context())
            )
            accepted, client = await loop.run_in_executor(None, listener.accept)
            link = Link(bench.server, client, address, socket.AF_INET)
            bench.server.count_connection()
            await loop.connect_accepted_socket(lambda: link, accepted, ssl=tls)
            _, writer = await connecting
            assert link.room() > 0
            if end == "closed":
                link.close()
                link.close()
            else:
                writer.transport.abort()
                await until(lambda: link not in bench.server.links)
            assert link.room() == 0
            # Python 3.10 takes a transport that was lost for one that was forgotten.
            link.close()
            writer.close()
            await until(lambda: link not in bench.server.links)

    with_bench(no_app, test, kind)
