"""Budgets: what they allow at once, over time, and to whom they must never say no."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gunicorn_h2.limits import Budget

LIMIT, INTERVAL = 10, 5.0

#: Times of single units, as the gaps between them, in tenths of a second.
gaps = st.lists(st.integers(0, 30), max_size=100)


def granted(budget: Budget, now: float, units: int) -> int:
    """How many of ``units`` single ones the budget holds."""
    return sum([budget.spend(now) for _ in range(units)])


def test_a_burst_of_the_limit_passes_and_the_next_unit_does_not() -> None:
    budget = Budget(LIMIT, INTERVAL, 100.0)
    assert granted(budget, 100.0, LIMIT) == LIMIT
    assert not budget.spend(100.0)


def test_several_units_are_taken_at_once() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    assert budget.spend(0.0, 7)
    assert not budget.spend(0.0, 4)


def test_half_an_interval_gives_half_of_the_limit_back() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    budget.spend(0.0, LIMIT)
    assert granted(budget, 2.5, LIMIT) == 5


def test_no_more_than_the_limit_is_ever_saved_up() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    assert granted(budget, 1_000.0, 2 * LIMIT) == LIMIT


def test_what_is_earned_can_be_spent() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    budget.spend(0.0, LIMIT)
    budget.earn(2)
    assert granted(budget, 0.0, 5) == 2


def test_earning_saves_no_more_than_the_limit_up() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    budget.earn(1_000)
    assert granted(budget, 0.0, 2 * LIMIT) == LIMIT


def test_a_clock_that_steps_back_gives_and_takes_nothing() -> None:
    budget = Budget(LIMIT, INTERVAL, 100.0)
    budget.spend(100.0, LIMIT - 1)
    assert budget.spend(50.0)
    assert not budget.spend(100.0)


def test_overdrawing_is_paid_back_before_anything_is_granted() -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    assert not budget.spend(0.0, 2 * LIMIT)
    assert not budget.spend(INTERVAL, 1)
    assert budget.spend(2 * INTERVAL, 1)


@given(gaps)
def test_what_is_granted_never_exceeds_a_burst_and_the_refill(gaps: list[int]) -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    tenths = 0
    times: list[float] = []
    for gap in gaps:
        tenths += gap
        if budget.spend(tenths / 10):
            times.append(tenths / 10)
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            count = last - first + 1
            assert count <= LIMIT + (times[last] - start) * LIMIT / INTERVAL + 1e-6


@given(gaps)
def test_who_stays_under_the_limit_in_every_interval_is_never_refused(gaps: list[int]) -> None:
    budget = Budget(LIMIT, INTERVAL, 0.0)
    tenths = 0
    times: list[float] = []
    for gap in gaps:
        tenths += gap
        lately = [each for each in times if tenths - each <= INTERVAL * 10]
        if len(lately) < LIMIT - 1:
            times.append(tenths)
            assert budget.spend(tenths / 10)
