"""The way back to the loop: what is delivered, in which order, by how many wake-ups."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gunicorn_h2.handoff import (
    Exchange,
)
from tests.boundary.jobs import LOOPS, make_boundary, start
from tests.support.boundary import (
    HANG,
    CountingLoop,
    Recorder,
    on_loop,
    until,
    wait,
)


def test_one_burst_is_one_wake_up_and_one_flush() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        posted = threading.Event()

        def job() -> None:
            exchange.send_head([(b":status", b"200")])
            for number in range(100):
                exchange.send_data(b"%d" % number)
            exchange.end_response([])
            exchange.finish("result")
            posted.set()

        start(pool, job, owner)
        wait(posted)
        assert owner.calls == []
        await owner.wait_for("finished")
        assert loop.wake_ups == 1
        assert owner.flushes == 1
        assert owner.of(exchange) == [
            ("head", [(b":status", b"200")]),
            *(("data", b"%d" % number) for number in range(100)),
            ("end", []),
            ("finished", "result"),
        ]
        assert owner.loop_threads == {threading.get_ident()}

    on_loop(scenario())


def test_each_burst_wakes_the_loop_again() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        go = threading.Semaphore(0)

        def job() -> None:
            for _ in range(50):
                assert go.acquire(timeout=HANG)
                exchange.send_data(b"x")

        start(pool, job, owner)
        for count in range(1, 51):
            go.release()
            await owner.wait_for("data", count)
            assert loop.wake_ups == count

    on_loop(scenario())


def test_the_parts_of_a_burst_are_handed_over_together() -> None:
    class Together(Recorder):
        def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
            self._note("data", exchange, parts)

    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Together()
        exchange = Exchange(handoff, owner, 65_536)
        posted, go = threading.Event(), threading.Event()

        def job() -> None:
            for part in (b"a", b"b", b"c"):
                exchange.send_data(part)
            posted.set()
            wait(go)
            exchange.send_data(b"d")

        start(pool, job, owner)
        wait(posted)
        await owner.wait_for("data")
        go.set()
        await owner.wait_for("data", 2)
        assert owner.of(exchange) == [("data", [b"a", b"b", b"c"]), ("data", [b"d"])]

    on_loop(scenario())


def test_a_head_and_an_end_wake_nobody_by_themselves() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)
        posted, go = threading.Event(), threading.Event()

        def job() -> None:
            exchange.send_head([])
            exchange.send_data(b"part", wake=False)
            exchange.end_response([])
            exchange.fail_response()
            posted.set()
            wait(go)
            exchange.finish()

        start(pool, job, owner)
        wait(posted)
        assert loop.wake_ups == 0
        go.set()
        await owner.wait_for("finished")
        assert loop.wake_ups == 1
        assert [name for name, _ in owner.of(exchange)] == [
            "head", "data", "end", "failed", "finished",
        ]  # fmt: skip

    on_loop(scenario())


def test_a_push_takes_along_what_was_posted_without_a_wake_up() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 65_536)

        def job() -> None:
            exchange.end_response([])
            exchange.push()

        start(pool, job, owner)
        await owner.wait_for("end")
        assert owner.flushes == 1

    on_loop(scenario())


@LOOPS
def test_each_exchange_keeps_its_order_whatever_the_others_do(kind: str) -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary(size=8)
        owner = Recorder()
        exchanges = [Exchange(handoff, owner, 2**31) for _ in range(8)]
        together = threading.Barrier(9)

        def job(exchange: Exchange) -> Callable[[], None]:
            def run() -> None:
                wait(together)
                for number in range(300):
                    exchange.send_data(b"%d" % number, wake=bool(number % 3))
                exchange.finish(number)

            return run

        for exchange in exchanges:
            start(pool, job(exchange), exchange)
        wait(together)
        await owner.wait_for("finished", 8)
        for exchange in exchanges:
            assert owner.of(exchange) == [
                *(("data", b"%d" % number) for number in range(300)),
                ("finished", 299),
            ]

    on_loop(scenario(), kind)


def test_a_drain_is_bounded_so_that_the_loop_gets_to_other_things() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff, pool = make_boundary()
        owner = Recorder()
        exchange = Exchange(handoff, owner, 2**31)
        posted = threading.Event()

        def job() -> None:
            for _ in range(3_500):
                exchange.send_head([])
            exchange.finish()
            posted.set()

        start(pool, job, owner)
        wait(posted)
        seen: list[int] = []

        def reading() -> None:
            seen.append(len(owner.calls))
            if not owner.count("finished"):
                loop.call_soon(reading)

        loop.call_soon(reading)
        await owner.wait_for("finished")
        grown = [after - before for before, after in itertools.pairwise([*seen, len(owner.calls)])]
        assert max(grown) <= 1_000
        # What is left over is fetched without a further wake-up, and each time it flushes.
        assert loop.wake_ups == 1
        assert owner.flushes == 4

    on_loop(scenario())


def test_one_drain_flushes_every_owner_once() -> None:
    async def scenario() -> None:
        handoff, pool = make_boundary(size=3)
        owners = [Recorder() for _ in range(3)]
        posted = threading.Barrier(4)

        def job(owner: Recorder) -> Callable[[], None]:
            exchange = Exchange(handoff, owner, 65_536)

            def run() -> None:
                exchange.send_data(b"one")
                exchange.send_data(b"two")
                wait(posted)

            return run

        for owner in owners:
            start(pool, job(owner), owner)
        wait(posted)
        for owner in owners:
            await owner.wait_for("data", 2)
        assert [owner.flushes for owner in owners] == [1, 1, 1]

    on_loop(scenario())


@pytest.mark.parametrize("place", ["response_data", "flush"])
def test_a_bug_in_one_owner_does_not_hold_up_the_others(place: str) -> None:
    class Faulty(Recorder):
        def response_data(self, exchange: Exchange, parts: list[bytes]) -> None:
            super().response_data(exchange, parts)
            if place == "response_data":
                raise LookupError("a bug")

        def flush(self) -> None:
            if place == "flush":
                raise LookupError("a bug")

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        handoff, pool = make_boundary()
        owners = [Recorder(), Faulty(), Recorder()]
        posted = threading.Event()

        def job() -> None:
            for owner in owners:
                Exchange(handoff, owner, 65_536).send_data(b"x")
            posted.set()

        start(pool, job)
        wait(posted)
        for owner in owners:
            await owner.wait_for("data")
        await until(lambda: owners[0].flushes == owners[2].flushes == 1)
        assert loop.wake_ups == 1

    on_loop(scenario(), reports=1)


@LOOPS
def test_posts_after_the_loop_has_closed_raise_nothing(kind: str) -> None:
    results: list[Any] = []
    go, ended = threading.Event(), threading.Event()

    async def scenario() -> None:
        handoff, pool = make_boundary()
        exchange = Exchange(handoff, Recorder(), 65_536)

        def job() -> None:
            wait(go)
            for call in (exchange.send_data, exchange.send_data, exchange.finish):
                results.append(call(b"x"))
            ended.set()

        start(pool, job)

    on_loop(scenario(), kind)
    go.set()
    wait(ended)
    assert results == [None, None, None]
