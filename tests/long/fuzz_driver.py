"""The two ways to get inputs for `core_run`: atheris, or a seeded generator. See `fuzz`.

Run by `fuzz` in a process of its own, for atheris never returns from its loop, and slows
down the modules it has instrumented. The last line of standard output is the result, as JSON.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from .fuzz import MAX_LENGTH

_INSTRUMENTED = ["gunicorn_h2", "h2", "hpack", "hyperframe"]
#: An input that takes longer, in seconds, does not end at all.
_HANGS = 20.0
#: One random input in so many is kept, and so many at most.
_KEPT, _MOST_KEPT = 50, 1_000


class Hang(Exception):
    """An input has not come to its end."""


class Trial:
    """Runs inputs until the time is over, and keeps one of each kind that breaks a rule."""

    def __init__(self, run: Callable[[bytes], None], seconds: float, findings: Path) -> None:
        self._run = run
        self._started = time.monotonic()
        self._seconds = seconds
        self._directory = findings
        self._findings: dict[str, dict[str, Any]] = {}
        self._executions = 0
        self._slowest = 0.0
        signal.signal(signal.SIGALRM, _hang)

    def one(self, data: bytes) -> None:
        """Run one input; does not return from the last."""
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, _HANGS)
        try:
            self._run(data)
        except Exception as error:
            self._keep(error, data)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        ended = time.monotonic()
        self._executions += 1
        self._slowest = max(self._slowest, ended - started)
        if ended - self._started > self._seconds:
            self._end(ended - self._started)

    def _keep(self, error: Exception, data: bytes) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        rule = str(error).partition(":")[0]
        what = f"{type(error).__name__} in {Path(where.filename).name}, {where.name}: {rule}"
        found = self._findings.get(what)
        if found is None:
            file = self._directory / f"{os.getpid()}-{len(self._findings)}.bin"
            self._findings[what] = found = {"what": what, "file": str(file), "times": 0}
            file.write_bytes(data)
        elif len(data) < Path(found["file"]).stat().st_size:
            Path(found["file"]).write_bytes(data)
        found["times"] += 1

    def _end(self, seconds: float) -> None:
        result = {
            "executions": self._executions,
            "seconds": seconds,
            "slowest": self._slowest,
            "findings": list(self._findings.values()),
        }
        print(json.dumps(result), flush=True)
        # Not even libFuzzer's own end: it would have the last word, and the exit status.
        os._exit(0)


def _hang(signum: int, frame: FrameType | None) -> None:
    raise Hang


def drive_atheris(seconds: float, seed: int, corpus: Path, findings: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=_INSTRUMENTED):
        from .core_run import run
    trial = Trial(run, seconds, findings)
    # Its own alarm is off: Trial has one, which leaves a traceback of Python.
    options = [f"-seed={seed or 1}", f"-max_len={MAX_LENGTH}", "-timeout=0", "-rss_limit_mb=0"]
    atheris.Setup(["fuzz", *options, str(corpus)], trial.one)
    atheris.Fuzz()


def drive_random(seconds: float, seed: int, corpus: Path, findings: Path) -> None:
    from .core_run import run

    trial = Trial(run, seconds, findings)
    chosen = random.Random(seed)
    for file in corpus.iterdir():
        trial.one(file.read_bytes())
    number = 0
    while True:
        number += 1
        data = chosen.randbytes(chosen.randint(1, MAX_LENGTH))
        if number % _KEPT == 0 and number < _KEPT * _MOST_KEPT:
            (corpus / f"random-{seed}-{number}").write_bytes(data)
        trial.one(data)


DRIVERS = {"atheris": drive_atheris, "random": drive_random}

if __name__ == "__main__":
    _driver, _seconds, _seed, _corpus, _findings = sys.argv[1:]
    DRIVERS[_driver](float(_seconds), int(_seed), Path(_corpus), Path(_findings))
