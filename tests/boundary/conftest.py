"""What holds for every test of the thread boundary."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def the_loop_is_there(request: pytest.FixtureRequest) -> None:
    """Skip what wants uvloop before a test has made coroutines that nobody would await."""
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("kind") == "uvloop":
        pytest.importorskip("uvloop")
