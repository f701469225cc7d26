"""What everybody else may expect while a hostile peer is at work, and after it has gone.

A `Watch` lies around each recipe. Meanwhile it is a neighbour: it connects, asks for
something small, hangs up, and again, and takes the time. Afterwards the worker must be
what it was: same process, memory, descriptors, an idle pool, a quiet log.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType

from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.server import Server, wait_until

#: Seconds; a machine that is slow when idle gets `SLOW_FACTOR` times its own figure.
P99_LIMIT = 0.25
SLOW_FACTOR = 10
#: Beside other tests a neighbour waits for the machine too; alone the suite is strict.
COMPANY = 4 if "PYTEST_XDIST_WORKER" in os.environ else 1
#: Seconds between two requests of the neighbour.
PERIOD = 0.02
IDLE_SAMPLES = 30
#: Bytes that a worker may hold above what it held before.
RSS_SLACK = 5 << 20
LONGEST_LOG_LINE = 1_024
#: Seconds for the worker to get rid of what a peer has left behind.
RECOVERY_TIMEOUT = 15.0

#: Connections that are as many as any recipe opens, but for those that need a server alone.
CROWD = 100

_meetings = itertools.count(1)


@contextmanager
def crowd(server: Server, size: int) -> Iterator[list[RawClient]]:
    """So many connections at once, greeted."""
    context = server.certs.client_context() if server.tls and server.certs else None
    with ExitStack() as stack:
        yield [stack.enter_context(RawClient(server, context=context).greet()) for _ in range(size)]


class Neighbour(threading.Thread):
    """An innocent client: one small request after the other, each on a connection of its own.

    :param patience: seconds it waits for one thing.
    """

    def __init__(self, server: Server, patience: float = 30.0) -> None:
        super().__init__(name="neighbour")
        self._patience = patience
        self._server = server
        self._context = server.certs.client_context() if server.tls and server.certs else None
        self._stop_requested = threading.Event()
        #: Seconds, in the order of asking.
        self.latencies: list[float] = []
        self.failure: BaseException | None = None

    def ask(self) -> None:
        start = time.perf_counter()
        with RawClient(self._server, context=self._context, timeout=self._patience) as client:
            # Two writes without an answer in between: Nagle would hold the second one back.
            client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.greet()
            response = client.request(path="/hello")
        self.latencies.append(time.perf_counter() - start)
        assert (response.status, response.body) == (200, HELLO)

    def run(self) -> None:
        try:
            while not self._stop_requested.is_set():
                self.ask()
                self._stop_requested.wait(PERIOD)
        except BaseException as failure:
            self.failure = failure

    def stop(self) -> float:
        """End it; return the 99th percentile of what it measured, in seconds."""
        self._stop_requested.set()
        self.join()
        if self.failure is not None:
            raise AssertionError("a neighbour was not served") from self.failure
        return self.p99

    @property
    def p99(self) -> float:
        ordered = sorted(self.latencies)
        return ordered[math.ceil(len(ordered) * 0.99) - 1]


class Target:
    """A server, warm, and how fast it answers when nobody troubles it.

    :param threads: the size of its pool.
    """

    def __init__(self, server: Server, threads: int) -> None:
        self.server = server
        self.threads = threads
        self.warm_up()
        self.idle_p99 = self.measure_idle()

    def measure_idle(self) -> float:
        neighbour = Neighbour(self.server)
        for _ in range(IDLE_SAMPLES):
            neighbour.ask()
        return neighbour.p99

    def warm_up(self) -> None:
        """Have it allocate once what any busy worker has allocated."""
        self.want_idle_pool()
        for _ in range(3):
            with crowd(self.server, CROWD) as clients:
                for client in clients:
                    client.headers(1, method="POST", path="/echo", end_stream=False)
        with RawClient(self.server).greet() as client:
            for stream_id in range(1, 200, 2):
                client.headers(stream_id, path="/large?n=65536")
            client.responses(range(1, 200, 2))
            client.request("POST", "/read", body=bytes(1 << 20))

    def want_idle_pool(self) -> None:
        """See every thread of the pool take a request: they all have to meet in there."""
        path = f"/rendezvous?n={self.threads}&id={next(_meetings)}"
        with RawClient(self.server, timeout=30).greet() as client:
            stream_ids = range(1, 2 * self.threads, 2)
            for stream_id in stream_ids:
                client.headers(stream_id, path=path)
            answers = client.responses(stream_ids)
        assert [each.body for each in answers.values()] == [b"met"] * self.threads

    def loop_cpu(self) -> float:
        """Seconds of CPU that the loop thread, the worker's first, has used so far."""
        pid = self.server.worker_pid
        schedstat = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text()
        return int(schedstat.split()[0]) / 1e9


class Watch:
    """Lies around one recipe; see the module. Tests may change what is asked of the end.

    :param target: whom the recipe is for.
    :param note: takes what was measured, by name.
    """

    def __init__(self, target: Target, note: Callable[..., None]) -> None:
        self.target = target
        self.note = note
        self.server = target.server
        #: Seconds the neighbour may have to wait; recipes that keep every thread busy
        #: for as long as a timeout allows have to say so.
        self.p99_limit = COMPANY * max(P99_LIMIT, SLOW_FACTOR * target.idle_p99)
        #: The application fails in this recipe, which is to be logged with a traceback.
        self.expects_tracebacks = False
        #: The peer sends requests which Gunicorn warns of, whatever the protocol.
        self.expects_warnings = False

    def __enter__(self) -> Watch:
        self._worker_pid = self.server.worker_pid
        self._fds = self.server.fd_count()
        self._log_start = len(self.server.log())
        self._rss = self.server.rss()
        self._cpu = self.target.loop_cpu()
        self._neighbour = Neighbour(self.server)
        self._neighbour.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        p99 = self._neighbour.stop()
        if exc is not None:
            return
        self.note(p99=f"{p99 * 1e3:.0f} ms (idle {self.target.idle_p99 * 1e3:.0f})")
        assert self.server.worker_pid == self._worker_pid, "the worker was replaced"
        self.target.want_idle_pool()
        wait_until(
            lambda: self.growth <= RSS_SLACK, RECOVERY_TIMEOUT, "the memory to be given back"
        )
        self.note(rss_left=kib(self.growth))
        wait_until(lambda: self.server.fd_count() <= self._fds, RECOVERY_TIMEOUT, "the descriptors")
        self._judge_log(self.server.log()[self._log_start :])
        if p99 >= self.p99_limit:
            # Or is the machine slower by now? Nobody troubles the server any more.
            idle_p99 = self.target.measure_idle()
            assert p99 < COMPANY * SLOW_FACTOR * idle_p99, f"a neighbour waited {p99:.3f} s"

    @property
    def growth(self) -> int:
        """Bytes that the worker holds above what it held before the recipe."""
        return self.server.rss() - self._rss

    @property
    def loop_cpu(self) -> float:
        """Seconds of CPU that the loop thread has used since the recipe began."""
        return self.target.loop_cpu() - self._cpu

    def _judge_log(self, log: str) -> None:
        too_long = [line for line in log.splitlines() if len(line) > LONGEST_LOG_LINE]
        assert not too_long, f"a log line of {len(too_long[0])} characters"
        if not self.expects_tracebacks:
            assert "Traceback" not in log, log
            levels = "ERROR|CRITICAL" if self.expects_warnings else "WARNING|ERROR|CRITICAL"
            assert not re.search(rf"\[({levels})\]", log), log


def kib(count: int) -> str:
    return f"{count / 1024:.0f} KiB"
