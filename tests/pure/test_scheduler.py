"""Who sends next: urgency, the round-robin, and what priority fields say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.scheduler import Scheduler, parse_priority
from gunicorn_h2.stream import Stream


def stream(stream_id: int, urgency: int = 3, incremental: bool = True) -> Stream:
    made = Stream(stream_id, None, 0.0)
    made.urgency, made.incremental = urgency, incremental
    return made


def turns(scheduler: Scheduler, count: int) -> list[int]:
    """The ids of the next ``count`` streams, each of which uses its turn."""
    ids = []
    for _ in range(count):
        turn = scheduler.next()
        assert turn is not None
        ids.append(turn.id)
        scheduler.rotate(turn)
    return ids


def scheduled(*streams: Stream) -> Scheduler:
    scheduler = Scheduler()
    for each in streams:
        scheduler.add(each)
    return scheduler


def test_an_empty_scheduler_has_no_next() -> None:
    assert Scheduler().next() is None


def test_streams_of_one_urgency_take_turns() -> None:
    assert turns(scheduled(stream(1), stream(3), stream(5)), 6) == [1, 3, 5, 1, 3, 5]


def test_the_more_urgent_goes_first_until_it_is_done() -> None:
    urgent = stream(5, urgency=0)
    scheduler = scheduled(stream(1, urgency=7), stream(3), urgent)
    assert turns(scheduler, 2) == [5, 5]
    scheduler.remove(urgent)
    assert turns(scheduler, 2) == [3, 3]


def test_a_stream_that_is_not_incremental_keeps_its_turn() -> None:
    whole = stream(1, incremental=False)
    scheduler = scheduled(whole, stream(3))
    assert turns(scheduler, 3) == [1, 1, 1]
    scheduler.remove(whole)
    assert turns(scheduler, 1) == [3]


def test_incremental_ones_before_it_let_it_have_its_turn() -> None:
    scheduler = scheduled(stream(1), stream(3, incremental=False))
    assert turns(scheduler, 3) == [1, 3, 3]


def test_to_add_twice_is_to_add_once() -> None:
    once = stream(1)
    scheduler = scheduled(once, stream(3))
    scheduler.add(once)
    assert turns(scheduler, 4) == [1, 3, 1, 3]


def test_to_remove_what_is_not_there_is_nothing() -> None:
    scheduler = scheduled(stream(1))
    scheduler.remove(stream(3))
    assert turns(scheduler, 1) == [1]


def test_reprioritize_moves_a_stream_that_waits() -> None:
    moved = stream(3)
    scheduler = scheduled(stream(1), moved)
    scheduler.reprioritize(moved, urgency=1, incremental=False)
    assert turns(scheduler, 2) == [3, 3]


def test_reprioritize_does_not_wake_a_stream_that_has_nothing_to_send() -> None:
    idle = stream(3)
    scheduler = scheduled(stream(1))
    scheduler.reprioritize(idle, urgency=0, incremental=True)
    assert turns(scheduler, 2) == [1, 1]
    scheduler.add(idle)
    assert turns(scheduler, 1) == [3]


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "move", "turn"]), st.integers(0, 4)),
        max_size=60,
    ),
    st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=5, max_size=5),
)
def test_the_turn_is_always_the_most_urgent_and_nobody_starves(
    actions: list[tuple[str, int]], priorities: list[tuple[int, bool]]
) -> None:
    scheduler = Scheduler()
    streams = [stream(index, *priority) for index, priority in enumerate(priorities)]
    ready: set[int] = set()
    for action, index in actions:
        chosen = streams[index]
        if action == "add":
            scheduler.add(chosen)
            ready.add(index)
        elif action == "remove":
            scheduler.remove(chosen)
            ready.discard(index)
        elif action == "move":
            scheduler.reprioritize(chosen, 7 - chosen.urgency, not chosen.incremental)
        turn = scheduler.next()
        assert (turn is None) == (not ready)
        if turn is not None:
            assert turn.id in ready
            assert turn.urgency == min(streams[each].urgency for each in ready)
            scheduler.rotate(turn)
    peers = [each for each in streams if each.id in ready]
    most_urgent = {each.id for each in peers if each.urgency == min(p.urgency for p in peers)}
    if all(streams[each].incremental for each in most_urgent):
        assert set(turns(scheduler, len(most_urgent))) == most_urgent


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", (3, False)),
        (b"u=0", (0, False)),
        (b"u=7, i", (7, True)),
        (b"i,u=5", (5, True)),
        (b" u=1\t,\ti ", (1, True)),
        (b"i=?1", (3, True)),
        (b"i=?0", (3, False)),
        (b"u=2;x=1, i;y", (2, True)),
        # Of a member that comes twice, the last counts.
        (b"u=1, u=2", (2, False)),
        (b"i, i=?0", (3, False)),
        # What cannot be read is ignored, alone.
        (b"u=8, i", (3, True)),
        (b"u=-1", (3, False)),
        (b"u=10", (3, False)),
        (b"u=1.0", (3, False)),
        (b"u, i", (3, True)),
        (b"u=a", (3, False)),
        (b"i=1", (3, False)),
        (b"i=?2, u=4", (4, False)),
        (b"U=1", (3, False)),
        (b"priority=1, x, u=6", (6, False)),
        (b",,;,=", (3, False)),
        (b"\xff\x00", (3, False)),
    ],
)
def test_a_priority_field(value: bytes, expected: tuple[int, bool]) -> None:
    assert parse_priority(value) == expected


@given(st.binary())
def test_any_priority_field_gives_a_priority(value: bytes) -> None:
    urgency, _ = parse_priority(value)
    assert urgency in range(8)
