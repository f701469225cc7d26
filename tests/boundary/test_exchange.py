"""One exchange: when its thread waits, what ends the wait, and what it is told then."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_h2.errors import ClientDisconnected, RequestTimeout
from gunicorn_h2.handoff import Exchange
from gunicorn_h2.http2_wsgi import RequestBody
from tests.boundary.jobs import Call, make_boundary, start
from tests.support.boundary import (
    GONE,
    ObservedExchange,
    Recorder,
    on_loop,
    wait,
)

# -- writing --------------------------------------------------------------------------


def test_a_write_waits_above_the_mark_and_goes_on_at_it() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 1_000)
        second = Call(lambda: exchange.send_data(b"b"))

        def job() -> None:
            exchange.send_data(b"a" * 1_000)
            second()

        start(pool, job)
        exchange.wait_until_parked()
        await owner.wait_for("data", 2)
        assert not second.done.is_set()
        exchange.note_sent(1)
        wait(second.done)
        assert second.error is None

    on_loop(scenario())


def test_with_a_mark_of_0_each_write_waits_for_its_last_byte() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 0)
        calls = [Call(lambda: exchange.send_data(b"abc")) for _ in range(3)]

        def job() -> None:
            for call in calls:
                call()

        start(pool, job)
        for count, call in enumerate(calls, 1):
            exchange.wait_until_parked()
            await owner.wait_for("data", count)
            for _ in range(2):
                exchange.note_sent(1)
                # It is woken for each, and has to go back to sleep.
                exchange.wait_until_parked()
                assert not call.done.is_set()
            exchange.note_sent(1)
            wait(call.done)
            assert owner.count("data") >= count

    on_loop(scenario())


def test_a_response_up_to_the_mark_never_waits() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 1_000)

        def all_of_it() -> None:
            exchange.send_head([])
            for size in (1, 0, 999):
                exchange.send_data(b"x" * size)
            exchange.end_response([])
            exchange.finish()

        call = Call(all_of_it)
        start(pool, call)
        # L is held still: nothing is sent, and nothing noted as sent.
        wait(call.done)
        await owner.wait_for("finished")

    on_loop(scenario())


def test_a_blocked_write_wakes_the_loop_even_if_more_was_to_follow() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 10)
        call = Call(lambda: exchange.send_data(b"x" * 11, wake=False))
        start(pool, call)
        await owner.wait_for("data")
        exchange.note_sent(11)
        wait(call.done)

    on_loop(scenario())


# -- reading --------------------------------------------------------------------------


def test_what_has_arrived_is_read_at_once_and_credited_when_read() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 0)
        exchange.feed(b"one ", 5)
        exchange.feed(b"two", 300)
        exchange.end_body([(b"checksum", b"7")])
        assert owner.calls == []
        reads = [Call(exchange.read) for _ in range(3)]
        for read in reads:
            start(pool, read)
            wait(read.done)
        assert [read.result for read in reads] == [b"one two", b"", b""]
        await owner.wait_for("read")
        assert owner.of(exchange) == [("read", 305)]
        assert exchange.trailers == [(b"checksum", b"7")]

    on_loop(scenario())


WAKERS: dict[str, tuple[Callable[[Exchange], None], Any]] = {
    "data": (lambda exchange: exchange.feed(b"data", 4), b"data"),
    "end": (lambda exchange: exchange.end_body([]), b""),
    "fail_body": (lambda exchange: exchange.fail_body(RequestTimeout("late")), RequestTimeout),
    "abort": (lambda exchange: exchange.abort(GONE), ClientDisconnected),
}


@pytest.mark.parametrize("waker", WAKERS)
def test_a_read_waits_and_each_of_its_wakers_ends_the_wait(waker: str) -> None:
    wake, expected = WAKERS[waker]

    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        assert exchange.waiting_since is None
        start(pool, read)
        exchange.wait_until_parked()
        since = exchange.waiting_since
        assert since is not None and since <= asyncio.get_running_loop().time()
        wake(exchange)
        wait(read.done)
        assert exchange.waiting_since is None
        if isinstance(expected, bytes):
            assert read.error is None and read.result == expected
        else:
            assert isinstance(read.error, expected)

    on_loop(scenario())


def test_a_note_of_sent_bytes_does_not_end_a_read() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        start(pool, read)
        exchange.wait_until_parked()
        exchange.note_sent(0)
        exchange.wait_until_parked()
        assert not read.done.is_set()
        exchange.end_body([])
        wait(read.done)

    on_loop(scenario())


def test_what_came_before_the_failure_of_a_body_is_read_first() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = Exchange(handoff, Recorder(), 0)
        exchange.feed(b"half", 4)
        exchange.fail_body(RequestTimeout("late"))
        reads = [Call(exchange.read) for _ in range(3)]
        for read in reads:
            start(pool, read)
            wait(read.done)
        assert reads[0].result == b"half"
        assert all(isinstance(read.error, RequestTimeout) for read in reads[1:])

    on_loop(scenario())


def test_data_that_has_come_is_no_longer_waited_for() -> None:
    """The deadline must not hit a thread that was only slow to wake up."""

    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = ObservedExchange(handoff, Recorder())
        read = Call(exchange.read)
        start(pool, read)
        exchange.wait_until_parked()
        assert exchange.waiting_since is not None
        # `feed` up to its notify: a thread that has not got to run yet looks the same.
        exchange._chunks.append(b"da")
        assert exchange.waiting_since is None
        exchange.feed(b"ta", 4)
        wait(read.done)
        assert read.result == b"data"

    on_loop(scenario())


def test_the_body_is_a_file() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = Exchange(handoff, Recorder(), 0)
        body = io.BufferedReader(RequestBody(exchange), 4)
        exchange.feed(b"first line\nsecond ", 18)
        exchange.feed(b"line\nrest", 9)
        exchange.end_body([])
        read = Call(lambda: (body.readline(), body.readline(), body.read(2), body.read()))
        start(pool, read)
        wait(read.done)
        assert read.result == (b"first line\n", b"second line\n", b"re", b"st")
        assert body.readable()

    on_loop(scenario())


def test_100_continue_is_sent_once_and_only_if_the_body_has_to_be_waited_for() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner)
        exchange.expects_continue = True
        reads = [Call(exchange.read) for _ in range(2)]
        for read in reads:
            start(pool, read)
            exchange.wait_until_parked()
            await owner.wait_for("informational")
            exchange.feed(b"data", 4)
            wait(read.done)
        assert owner.of(exchange)[0] == ("informational", [(b":status", b"100")])
        assert owner.count("informational") == 1

        early = ObservedExchange(handoff, owner)
        early.expects_continue = True
        early.feed(b"data", 4)
        read = Call(early.read)
        start(pool, read)
        wait(read.done)
        await owner.wait_for("read", 3)
        assert owner.count("informational") == 1

    on_loop(scenario())


@pytest.mark.parametrize("part", ["head", "data"])
def test_no_100_continue_after_the_response_has_begun(part: str) -> None:
    """RFC 9110 section 15.2: an interim response comes before the final one."""

    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner)
        exchange.expects_continue = True

        def job() -> bytes:
            if part == "head":
                exchange.send_head([(b":status", b"200")])
            else:
                exchange.send_data(b"HTTP/1.1 200 OK\r\n\r\n")
            return exchange.read()

        read = Call(job)
        start(pool, read)
        exchange.wait_until_parked()
        exchange.feed(b"data", 4)
        wait(read.done)
        await owner.wait_for("read")
        assert owner.count("informational") == 0
        # Whoever reuses the connection must know that the client may not send its body.
        assert exchange.expects_continue

    on_loop(scenario())


# -- the end --------------------------------------------------------------------------


def test_an_abort_ends_a_blocked_write() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = ObservedExchange(handoff, Recorder(), 0)
        call = Call(lambda: exchange.send_data(b"x"))
        start(pool, call)
        exchange.wait_until_parked()
        exchange.abort(GONE)
        wait(call.done)
        assert call.error is GONE

    on_loop(scenario())


def test_nothing_waits_after_an_abort_and_the_first_reason_stands() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = ObservedExchange(handoff, owner, 0)
        exchange.feed(b"never read", 10)
        assert not exchange.aborted
        exchange.abort(GONE)
        exchange.abort(ClientDisconnected("again"))
        assert exchange.aborted
        calls = [
            Call(exchange.read),
            Call(lambda: exchange.send_informational([])),
            Call(lambda: exchange.send_head([])),
            Call(lambda: exchange.send_data(b"x")),
            Call(lambda: exchange.end_response([])),
        ]
        for call in calls:
            start(pool, call)
            wait(call.done)
            assert call.error is GONE
        assert owner.calls == []
        exchange.feed(b"more", 4)
        exchange.end_body([])
        read = Call(exchange.read)
        start(pool, read)
        wait(read.done)
        assert read.error is GONE
        # Letting go is possible always.
        start(pool, exchange.fail_response)
        start(pool, exchange.finish)
        await owner.wait_for("finished")
        assert [name for name, _ in owner.of(exchange)] == ["failed", "finished"]

    on_loop(scenario())


def test_an_informational_response_is_sent_at_once() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 0)
        hints = [(b":status", b"103")]
        start(pool, lambda: exchange.send_informational(hints))
        await owner.wait_for("informational")
        assert owner.of(exchange) == [("informational", hints)]

    on_loop(scenario())


def test_what_was_fed_and_not_read_can_be_taken_back() -> None:
    async def scenario() -> None:
        exchange = Exchange(make_boundary()[0], Recorder(), 0)
        assert exchange.take_unread() == b""
        exchange.feed(b"next ", 5)
        exchange.feed(b"request", 7)
        assert exchange.take_unread() == b"next request"
        assert exchange.take_unread() == b""

    on_loop(scenario())
