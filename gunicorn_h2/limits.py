"""Budgets: how much of something a peer may make us do in a span of time.

Pure, called on the loop thread. Time is passed in as ``now`` (seconds, any
monotonic clock); nothing in here may look at a clock, sleep or raise.
"""

from __future__ import annotations


class Budget:
    """A token bucket: at most ``limit`` units at once, refilled over ``interval`` seconds.

    A peer that stays under ``limit`` units in every ``interval`` is never
    refused; one that bursts gets ``limit`` at once and the refill after that.
    """

    __slots__ = ("_limit", "_rate", "_tokens", "_updated")

    def __init__(self, limit: int, interval: float, now: float) -> None:
        self._limit = float(limit)
        self._rate = limit / interval
        self._tokens = self._limit
        self._updated = now

    def spend(self, now: float, units: int = 1) -> bool:
        """Take ``units``; False when the budget does not hold them any more."""
        elapsed = now - self._updated
        if elapsed > 0:
            self._tokens = min(self._limit, self._tokens + elapsed * self._rate)
            self._updated = now
        self._tokens -= units
        return self._tokens >= 0

    def earn(self, units: int) -> None:
        """Give ``units`` back: the peer did something that justifies them."""
        self._tokens = min(self._limit, self._tokens + units)
