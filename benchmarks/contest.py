"""Rounds in which every server takes its turn; a fault is a result, and never the end."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from tests.support.certs import Certs
from tests.support.server import BootError

from .alone import Measure
from .h2load import LoadError
from .report import Figure, Result, Results
from .servers import CONTESTANTS, OURS, Contestant, Target
from .workloads import Workload


class Unable(Exception):
    """The server takes no part."""


#: What a server may do wrong, or a tool that measures it.
FAULTS = (
    Unable,
    AssertionError,
    BootError,
    LoadError,
    OSError,
    subprocess.SubprocessError,
    httpx.HTTPError,
)
_REASON_LENGTH = 100


def compare(
    workloads: Sequence[Workload],
    servers: Sequence[str],
    rounds: int,
    seconds: float,
    certs: Certs,
) -> Results:
    """Every workload for itself: in every round all servers, one right after another."""
    results: Results = {
        figure: {server: Result() for server in servers}
        for workload in workloads
        for figure in workload.figures
    }
    for workload in workloads:
        with contextlib.ExitStack() as stack:
            running: dict[str, _Running] = {}
            for server in servers:
                try:
                    running[server] = stack.enter_context(_start(server, workload, certs))
                except FAULTS as fault:
                    _fail(results, workload, server, fault)
            for number in range(1, rounds + 1):
                _say(f"{workload.figures[0].title}, round {number} of {rounds}")
                for server in list(running):
                    try:
                        values = running[server].run(workload, seconds)
                    except FAULTS as fault:
                        # It may be at it still, which must not cost the others anything.
                        running.pop(server).stop()
                        _fail(results, workload, server, fault)
                        continue
                    for figure, value in zip(workload.figures, values, strict=True):
                        results[figure][server].values.append(value)
    return results


class _Running:
    """A server that waits for its turns."""

    def __init__(self, target: Target, directory: Path, stop: Callable[[], None]) -> None:
        self._target = target
        self._directory = directory
        self.stop = stop

    def run(self, workload: Workload, seconds: float) -> Sequence[float]:
        return workload.run(self._target, seconds, self._directory)


@contextlib.contextmanager
def _start(server: str, workload: Workload, certs: Certs) -> Iterator[_Running]:
    """Start a server, if it is there and serves what is asked for."""
    contestant = CONTESTANTS[server]
    if why := _unable(contestant, workload):
        raise Unable(why)
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        target = stack.enter_context(contestant.start(certs, workload.threads, directory))
        yield _Running(target, directory, stack.close)


def measure_alone(
    measures: dict[str, Measure], rounds: int, seconds: float, certs: Certs
) -> Results:
    """What is measured of ours alone, in every round."""
    results: Results = {}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            _say(f"round {number} of {rounds}: {name}")
            with tempfile.TemporaryDirectory() as directory:
                try:
                    values = measure(certs, seconds, Path(directory))
                except FAULTS as fault:
                    results[Figure(name, "")] = {OURS: Result(reason=_reason(fault))}
                    continue
            for figure, row in values.items():
                for label, value in row.items():
                    result = results.setdefault(figure, {}).setdefault(label, Result())
                    result.values.append(value)
    return results


def _unable(contestant: Contestant, workload: Workload) -> str:
    """Why it takes no part, if it does not."""
    if missing := contestant.missing():
        return f"not installed: {', '.join(missing)}"
    if contestant.paths is not None and not workload.paths <= contestant.paths:
        return "does not serve this"
    return ""


def _fail(results: Results, workload: Workload, server: str, fault: BaseException) -> None:
    for figure in workload.figures:
        results[figure][server].reason = _reason(fault)


def _reason(fault: BaseException) -> str:
    """What a fault says in the end, after the log or the traceback, but for the frames it saw."""
    if isinstance(fault, Unable):
        return str(fault)
    lines = [line for line in str(fault).splitlines() if len(line) > 5]
    text = lines[-1].partition("; before: ")[0] if lines else type(fault).__name__
    return f"failed: {text[:_REASON_LENGTH]}"


def _say(text: str) -> None:
    """Tell how far it is, apart from the results."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
