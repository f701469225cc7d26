"""How connections, and with them requests, spread over the workers of one server.

    python -m benchmarks.spread [--workers N] [--connections N] [--worker-class NAME]

Connections over TLS that live long, as a proxy's do, are opened at once, one after
another, and one after another while the server is busy; each then makes ten requests.
Printed is how many connections each worker has.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from collections import Counter
from pathlib import Path

from tests.support.certs import make_certs
from tests.support.frames import RawClient
from tests.support.server import Server

_REQUESTS = 10


def at_once(server: Server, count: int, stack: contextlib.ExitStack) -> list[RawClient]:
    """Connect as a proxy does that has just been started: TCP first, then every handshake."""
    assert server.certs is not None
    context = server.certs.client_context()
    socks = [server.connect() for _ in range(count)]
    clients = []
    for sock in socks:
        secure = context.wrap_socket(sock, server_hostname="localhost")
        clients.append(stack.enter_context(RawClient(server, sock=secure)).greet())
    return clients


def one_by_one(server: Server, count: int, stack: contextlib.ExitStack) -> list[RawClient]:
    """Connect, and be answered, before the next."""
    return [stack.enter_context(RawClient(server).greet()) for _ in range(count)]


def while_busy(server: Server, count: int, stack: contextlib.ExitStack) -> list[RawClient]:
    """The same, while other connections make requests without a pause."""
    done = threading.Event()

    def load() -> None:
        with RawClient(server).greet() as client:
            number = 1
            while not done.is_set():
                client.request(path="/hello", stream_id=number)
                number += 2

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        return one_by_one(server, count, stack)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def spread(clients: list[RawClient], workers: int) -> list[int]:
    """Connections per worker, most first; a connection's requests all go to one."""
    pids: Counter[bytes] = Counter()
    for client in clients:
        answers = {client.request(path="/pid", stream_id=2 * n + 1).body for n in range(_REQUESTS)}
        (pid,) = answers
        pids[pid] += 1
    return sorted([*pids.values(), *[0] * (workers - len(pids))], reverse=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--connections", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker-class", default="gunicorn_h2.H2Worker")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        certs = make_certs(Path(directory))
        for way in (at_once, one_by_one, while_busy):
            for _ in range(args.rounds):
                with (
                    Server(
                        tls=True,
                        certs=certs,
                        workers=args.workers,
                        threads=8,
                        worker_class=args.worker_class,
                    ) as server,
                    contextlib.ExitStack() as stack,
                ):
                    clients = way(server, args.connections, stack)
                    print(f"{way.__name__:12} {spread(clients, args.workers)}", flush=True)


if __name__ == "__main__":
    main()
