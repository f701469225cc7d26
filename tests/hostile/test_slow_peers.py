"""Rows 4, 17, 18, 19 and 35: peers that take their time, or will never be heard of again."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from tests.support.frames import RawClient
from tests.support.server import Server
from tests.support.wire import ErrorCode, FrameType, frame

from .conftest import THREADS, TIMER, TIMER_MARGIN, StartTarget, Watched
from .peers import reading_nothing, seconds_until_closed, want_calm, want_well, wide_open
from .watch import Watch, kib

#: What a connection may hold of responses that its peer does not take.
HELD_LIMIT = 512 << 10
#: Connections with a response for which there is a thread each.
UNREAD = 32
#: Of a response, so that its thread is free at once (`h2_high_water_mark`).
HIGH_WATER_MARK = 65_536


@pytest.mark.parametrize("drip", [False, True], ids=["silence", "a-byte-at-a-time"])
def test_row_04_header_block_without_end(watch: Watch, drip: bool) -> None:
    with RawClient(watch.server).greet() as client:
        client.headers(1, end_headers=False)
        watch.target.want_idle_pool()
        start = time.monotonic()
        if drip:
            client.write_bytes(frame(FrameType.CONTINUATION, 0, 1, length=1_000))
        while drip and client.try_write(b"\x82"):
            time.sleep(TIMER / 5)
            assert time.monotonic() - start < TIMER + TIMER_MARGIN
        want_calm(watch, client)
        watch.note(closed_after=f"{time.monotonic() - start:.1f} s")


def test_row_17_reads_no_response_that_fits_under_the_mark(watch: Watch) -> None:
    """100 responses of 64 KiB wait for a window; their threads do not."""
    with reading_nothing(watch.server) as client:
        stream_ids = range(1, 200, 2)
        for stream_id in stream_ids:
            client.headers(stream_id, path=f"/large?n={HIGH_WATER_MARK}")
        watch.target.want_idle_pool()
        watch.note(held=kib(watch.growth))
        answers = client.responses(stream_ids, timeout=TIMER + TIMER_MARGIN)
        assert {each.reset_code for each in answers.values()} == {ErrorCode.CANCEL}
        want_well_but_for_windows(client)


def test_row_17_reads_no_response_beyond_the_mark(watch: Watch) -> None:
    """Larger ones hold their threads until the write timeout; others stand in for them."""
    with reading_nothing(watch.server) as client:
        stream_ids = range(1, 2 * THREADS, 2)
        for stream_id in stream_ids:
            client.headers(stream_id, path=f"/large?n={4 * HIGH_WATER_MARK}")
        start = time.monotonic()
        answers = client.responses(stream_ids, timeout=TIMER + TIMER_MARGIN)
        watch.note(threads_held=f"{time.monotonic() - start:.1f} s")
        assert {each.reset_code for each in answers.values()} == {ErrorCode.CANCEL}
        watch.target.want_idle_pool()
        want_well_but_for_windows(client)


def want_well_but_for_windows(client: RawClient) -> None:
    stream_id = client.next_stream_id
    client.headers(stream_id, path="/hello")
    client.window_update(stream_id, 100)
    assert client.response(stream_id).status == 200


def test_row_18_never_reads_its_socket(
    start_target: StartTarget, watched: Watched, tls: bool
) -> None:
    """Every window is open; what is left is TCP, and the limit of what is buffered."""
    target = start_target(tls=tls, threads=UNREAD)
    held = held_by_unread_sockets(target.server)
    assert held < UNREAD * HELD_LIMIT
    # Once more: what the allocator keeps of the first time it has again.
    with watched(target) as watch:
        watch.note(held_per_connection=kib(held // UNREAD))
        held_by_unread_sockets(target.server)


def held_by_unread_sockets(server: Server) -> int:
    """The most memory that the worker holds for these peers, until it has closed them all."""
    before = most = server.rss()
    with ExitStack() as stack:
        clients = [stack.enter_context(wide_open(server)) for _ in range(UNREAD)]
        fds = server.fd_count()
        for client in clients:
            client.headers(1, path=f"/large?n={1 << 30}")
        deadline = time.monotonic() + TIMER + TIMER_MARGIN
        while server.fd_count() > fds - UNREAD:
            assert time.monotonic() < deadline, "they were not closed at the write timeout"
            most = max(most, server.rss())
            time.sleep(0.01)
    return most - before


@pytest.mark.parametrize("drip", [False, True], ids=["silence", "a-byte-at-a-time"])
def test_row_19_stalls_in_the_middle_of_bodies(watch: Watch, drip: bool) -> None:
    """As many as there are threads: each is let go at the body timeout, with an answer."""
    with RawClient(watch.server).greet() as client:
        stream_ids = range(1, 2 * THREADS, 2)
        for stream_id in stream_ids:
            client.headers(stream_id, method="POST", path="/echo", end_stream=False)
            client.data(stream_id, b"x")
        start = time.monotonic()
        while drip and time.monotonic() - start < TIMER:
            time.sleep(TIMER / 10)
            for stream_id in stream_ids:
                client.data(stream_id, b"x")
        answers = client.responses(stream_ids, timeout=TIMER + TIMER_MARGIN)
        assert {each.status for each in answers.values()} == {408}
        watch.note(threads_held=f"{time.monotonic() - start:.1f} s")
        watch.target.want_idle_pool()
        want_well(client)


def test_row_35_a_dead_peer_is_found_by_ping(start_target: StartTarget, watched: Watched) -> None:
    """It has a request in flight, and nothing of it arrives any more."""
    interval = timeout = TIMER
    env = {"GUNICORN_H2_PING_INTERVAL": str(interval), "GUNICORN_H2_PING_TIMEOUT": str(timeout)}
    with watched(start_target(env=env)) as watch, RawClient(watch.server).greet() as client:
        client.headers(1, path="/wsgi/wait?row-35")
        seconds = seconds_until_closed(client, interval + timeout + TIMER_MARGIN)
        assert seconds > interval
        watch.note(closed_after=f"{seconds:.1f} s")
        with RawClient(watch.server).greet() as other:
            other.request(path="/wsgi/open", extra=[("x-tag", "row-35")])
