"""Fixtures that every test may use, and the rule about skips."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, Protocol

import pytest

from tests.support import MISSING_TOOL
from tests.support import require_tool as require_tool
from tests.support.certs import Certs, make_certs
from tests.support.server import Server

#: Set where everything is installed: there, a skipped test is a hole in the suite.
NO_SKIP = os.environ.get("GUNICORN_TESTS_NO_SKIP") == "1"

#: How the reasons of such skips begin; the second is pytest.importorskip's.
MISSING = (MISSING_TOOL, "could not import ")


class Serve(Protocol):
    """Starts a server that ends with the test; takes what `Server` takes."""

    def __call__(self, app: str = ..., **options: Any) -> Server: ...


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Certs:
    return make_certs(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def serve(certs: Certs) -> Iterator[Serve]:
    yield from _serve(certs)


@pytest.fixture(scope="module")
def module_serve(certs: Certs) -> Iterator[Serve]:
    """Like `serve`, for servers that the tests of one module share."""
    yield from _serve(certs)


@pytest.fixture(params=[False, True], ids=["cleartext", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    """Run the test over both transports: ``serve(tls=tls)``."""
    return bool(request.param)


def _serve(certs: Certs) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(app: str = "tests.support.apps:app", **options: Any) -> Server:
        server = Server(app, **{"certs": certs, **options})
        servers.append(server)
        return server.start()

    try:
        yield start
    finally:
        for server in servers:
            server.stop()
    hung = [server.log() for server in servers if server.killed]
    assert not hung, "TERM did not end the server:\n" + "\n".join(hung)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _fail_if_missing(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _fail_if_missing(report)
    return report


def _fail_if_missing(report: pytest.TestReport | pytest.CollectReport) -> None:
    if NO_SKIP and report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if reason.startswith(MISSING):
            report.outcome = "failed"
            report.longrepr = f"{reason} (GUNICORN_TESTS_NO_SKIP is set)"
