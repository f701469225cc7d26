"""Rows 8, 32, 33 and 34: many requests, many connections, and many ways for them to end.

In full (66,000 requests, 10,000 ends, 5,000 idle connections) with GUNICORN_TESTS_LONG=1.
"""

from __future__ import annotations

import itertools
import socket
import statistics
import time
from collections.abc import Callable

import pytest

from tests.conftest import Serve
from tests.support import LONG, wire
from tests.support.frames import RawClient
from tests.support.server import wait_until
from tests.support.tcp import abort
from tests.support.wire import PREFACE, Setting

from .conftest import Report
from .peers import want_well
from .watch import Watch, crowd, kib

MAX_ENCODER_TABLE = 4_096
#: Requests that are under way at once.
BATCH = 100
#: How much dearer the last requests on a connection may be than the first.
FLAT = 2.5
HELD_LIMIT = 64 << 10


def make_requests(client: RawClient, count: int, path: str) -> list[float]:
    """So many, by the hundred; return what each hundred took, in seconds."""
    times = []
    for _ in range(count // BATCH):
        start = time.perf_counter()
        first = client.next_stream_id
        stream_ids = range(first, first + 2 * BATCH, 2)
        with client.one_write():
            for stream_id in stream_ids:
                client.headers(stream_id, path=path)
        answers = client.responses(stream_ids)
        assert {each.status for each in answers.values()} == {200}
        times.append(time.perf_counter() - start)
    return times


def test_row_08_a_header_table_of_4_gb(watch: Watch) -> None:
    """The server's encoder keeps to 4 KB, and later responses cost what the first ones did."""
    count = 20_000 if LONG else 2_000
    path = "/headers?" + "&".join(f"x-{number}=value-{number}" for number in range(40))
    with RawClient(watch.server).greet({Setting.HEADER_TABLE_SIZE: 2**32 - 1}) as client:
        cpu = watch.loop_cpu
        times = make_requests(client, count, path)
        watch.note(loop_cpu=f"{(watch.loop_cpu - cpu) / count * 1e6:.0f} us a request")
        assert client.decoder.header_table_size <= MAX_ENCODER_TABLE
    tenth = max(1, len(times) // 10)
    first, last = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
    watch.note(first_tenth=f"{first * 1e3:.0f} ms", last_tenth=f"{last * 1e3:.0f} ms")
    assert last < FLAT * first


Leave = Callable[[RawClient], None]


def half_close(client: RawClient) -> None:
    plain = client.sock
    socket.socket.shutdown(plain, socket.SHUT_WR)
    client.close()


WAYS_OUT: list[Leave] = [RawClient.close, abort, half_close]
#: An exchange, frame by frame: a peer may leave after any byte of any.
EXCHANGE = [
    PREFACE,
    wire.settings_frame(),
    wire.settings_frame(ack=True),
    wire.headers_frames(1, b"\x83\x86\x04\x05/echo\x01\x01a", end_stream=False, split=6),
    wire.data_frame(1, b"half "),
    wire.data_frame(1, b"a body", end_stream=True),
    wire.headers_frames(3, b"\x82\x86\x04\x11/large?n=10000000\x01\x01a"),
    wire.rst_stream_frame(3),
    wire.goaway_frame(),
]


def cuts() -> list[bytes]:
    """Every beginning of the exchange that ends with a frame, or in the middle of one."""
    starts = [b"", *itertools.accumulate(EXCHANGE)]
    return starts + [
        start + frame[: len(frame) // 2] for start, frame in zip(starts, EXCHANGE, strict=False)
    ]


def test_row_32_leaves_at_any_point(watch: Watch) -> None:
    """Also with the answers unread, so that the kernel resets the connection."""
    beginnings = cuts()
    count = 10_000 if LONG else 4 * len(beginnings) * len(WAYS_OUT)
    combinations = itertools.cycle(itertools.product(beginnings, WAYS_OUT))
    for number, (beginning, leave) in enumerate(itertools.islice(combinations, count)):
        if number % BATCH == 0:
            # Not faster than they are accepted: how long others queue is not the matter here.
            with RawClient(watch.server).greet() as client:
                want_well(client)
        client = RawClient(watch.server)
        client.try_write(beginning)
        leave(client)
    watch.note(ends=count)


def test_row_33_very_many_requests_on_one_connection(watch: Watch) -> None:
    warm, count = 3_000, (66_000 if LONG else 6_000)
    with RawClient(watch.server).greet() as client:
        make_requests(client, warm, "/hello")
        before = watch.growth
        make_requests(client, count, "/hello")
        growth = watch.growth - before
        watch.note(requests=count, growth=kib(growth))
        assert growth < 1 << 20


def test_row_33_very_many_connections(watch: Watch) -> None:
    """With requests in flight when they close: what is left of each must not add up."""
    rounds, size = (1_000 if LONG else 10), 100
    growth: list[int] = []
    for _ in range(rounds):
        with crowd(watch.server, size) as clients:
            for client in clients:
                client.headers(1, method="POST", path="/echo", end_stream=False)
        growth.append(watch.growth)
    watch.note(connections=rounds * size, growth=kib(growth[-1] - growth[rounds // 2]))
    assert growth[-1] - growth[rounds // 2] < 3 << 20


IDLE = 5_000 if LONG else 300


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_row_34_idle_connections(serve: Serve, report: Report, tls: bool, loop: str) -> None:
    pytest.importorskip(loop)
    server = serve(
        tls=tls,
        env={"GUNICORN_H2_LOOP": loop},
        args=["--worker-connections", str(IDLE + 10)],
    )
    with RawClient(server).greet() as client:
        want_well(client)
    before = server.rss()
    with crowd(server, IDLE):
        held = server.rss() - before
        with RawClient(server).greet() as client:
            want_well(client)
    report(connections=IDLE, held_per_connection=kib(held // IDLE))
    assert held < IDLE * HELD_LIMIT


def test_row_34_connections_beyond_the_limit_are_not_accepted(serve: Serve) -> None:
    """They wait in the backlog, and are served when there is room."""
    server = serve(args=["--worker-connections", "20"])
    with crowd(server, 20) as clients, RawClient(server, timeout=30) as late:
        fds = server.fd_count()
        late.write_bytes(PREFACE + wire.settings_frame())
        for client in clients:
            want_well(client)
        assert server.fd_count() == fds
        clients[0].close()
        late.read_frame()
    wait_until(lambda: server.fd_count() < fds - 15, what="the connections to be closed")
