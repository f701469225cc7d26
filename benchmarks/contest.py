"""Rounds in which every server takes its turn; a fault is a result, and never the end."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import httpx

from tests.support.certs import Certs
from tests.support.server import BootError

from .alone import Measure
from .h2load import LoadError
from .report import Figure, Result, Results
from .servers import CONTESTANTS, OURS, Contestant
from .workloads import Workload

#: What a server may do wrong, or a tool that measures it.
FAULTS = (
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
    """Every server, one after another, in every round."""
    results: Results = {
        figure: {server: Result() for server in servers}
        for workload in workloads
        for figure in workload.figures
    }
    for number in range(1, rounds + 1):
        for server in servers:
            _say(f"round {number} of {rounds}: {server}")
            contestant = CONTESTANTS[server]
            able = []
            for workload in workloads:
                if results[workload.figures[0]][server].reason:
                    continue  # one round without a value is enough
                if why := _unable(contestant, workload):
                    _fail(results, workload, server, why)
                else:
                    able.append(workload)
            for threads in sorted({workload.threads for workload in able}):
                some = [workload for workload in able if workload.threads == threads]
                _take_turn(server, some, threads, seconds, certs, results)
    return results


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


def _take_turn(
    server: str,
    workloads: Iterable[Workload],
    threads: int,
    seconds: float,
    certs: Certs,
    results: Results,
) -> None:
    """Start a server, and put it to the workloads one after another."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            with CONTESTANTS[server].start(certs, threads, directory) as target:
                for workload in workloads:
                    try:
                        values = workload.run(target, seconds, directory)
                    except FAULTS as fault:
                        _fail(results, workload, server, _reason(fault))
                        continue
                    for figure, value in zip(workload.figures, values, strict=True):
                        results[figure][server].values.append(value)
        except FAULTS as fault:
            for workload in workloads:
                _fail(results, workload, server, _reason(fault))


def _unable(contestant: Contestant, workload: Workload) -> str:
    """Why it takes no part, if it does not."""
    if missing := contestant.missing():
        return f"not installed: {', '.join(missing)}"
    if contestant.paths is not None and not workload.paths <= contestant.paths:
        return "does not serve this"
    return ""


def _fail(results: Results, workload: Workload, server: str, why: str) -> None:
    for figure in workload.figures:
        results[figure][server].reason = why


def _reason(fault: BaseException) -> str:
    """What a fault says in the end, after the log or the traceback, but for the frames it saw."""
    lines = [line for line in str(fault).splitlines() if len(line) > 5]
    text = lines[-1].partition("; before: ")[0] if lines else type(fault).__name__
    return f"failed: {text[:_REASON_LENGTH]}"


def _say(text: str) -> None:
    """Tell how far it is, apart from the results."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
