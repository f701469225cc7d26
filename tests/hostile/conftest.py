"""Servers with short timers, shared by the whole suite, and a watch around each recipe.

``GUNICORN_TESTS_HOSTILE_REPORT=FILE`` has what was measured written there, a line a test.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.certs import Certs
from tests.support.server import Server

from .watch import Target, Watch

REPORT = os.environ.get("GUNICORN_TESTS_HOSTILE_REPORT")
THREADS = 4
#: Seconds, of each timer below; the rows of the table say 10 to 60.
TIMER = 1.0
#: A timer is looked at once a second, and loaded machines look later.
TIMER_MARGIN = 4.0
SHORT_TIMERS = {
    "GUNICORN_H2_HANDSHAKE_TIMEOUT": str(TIMER),
    "GUNICORN_H2_HEADER_TIMEOUT": str(TIMER),
    "GUNICORN_H2_BODY_TIMEOUT": str(TIMER),
    "GUNICORN_H2_WRITE_TIMEOUT": str(TIMER),
}

Report = Callable[..., None]
StartTarget = Callable[..., Target]
Watched = Callable[[Target], Watch]


@pytest.fixture(scope="session")
def _targets(certs: Certs) -> Iterator[StartTarget]:
    """One server for all tests that want the same of it."""
    targets: dict[str, Target] = {}
    with ExitStack() as servers:

        def get(
            *, threads: int = THREADS, env: Mapping[str, str] | None = None, **options: Any
        ) -> Target:
            key = repr((threads, env, sorted(options.items())))
            if key not in targets:
                server = Server(
                    "tests.hostile.app:app",
                    certs=certs,
                    threads=threads,
                    env={**SHORT_TIMERS, **(env or {})},
                    **options,
                )
                targets[key] = Target(servers.enter_context(server), threads)
            return targets[key]

        yield get


@pytest.fixture
def start_target(_targets: StartTarget) -> StartTarget:
    """Start, or find, a server with options of its own; those of `Server`."""
    return _targets


@pytest.fixture(scope="session", autouse=REPORT is not None)
def _empty_report() -> None:
    assert REPORT is not None
    Path(REPORT).write_text("")


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """Note what was measured, by name."""
    figures: dict[str, str] = {}
    yield figures.update
    if REPORT is not None and figures:
        line = ", ".join(f"{name}: {value}" for name, value in figures.items())
        with open(REPORT, "a") as file:
            file.write(f"{request.node.name}\n    {line}\n")


@pytest.fixture
def watched(report: Report) -> Watched:
    """``with watched(target) as watch``: the recipe goes inside."""
    return lambda target: Watch(target, report)


@pytest.fixture
def watch(start_target: StartTarget, watched: Watched, tls: bool) -> Iterator[Watch]:
    """A watch around the whole test, over cleartext and over TLS."""
    with watched(start_target(tls=tls)) as watch:
        yield watch
