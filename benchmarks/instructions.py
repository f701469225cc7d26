"""How much work the pure core does for a fixed trace: a guard against getting slower.

    python -m benchmarks.instructions [--counter callgrind|calls]

Not a timed test: what is counted is the same on every run, however busy the machine
is. With valgrind the processor's instructions are counted (callgrind), else the calls of
functions, those of C too. A client's bytes are recorded first; then `core_trace` serves
them, in a process of its own, once for one length of the trace and once for twice
that. The difference is the work itself, without the start of the interpreter.

A unit of the trace is ten GETs that are answered with 13 bytes, one with 256 KB, and
a POST of 64 KB. Exit status: 0 within the budget; 1 over it; 2 where there is none for
this Python: figures of one say nothing about another.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hpack import Encoder

from tests.support import wire
from tests.support.server import ROOT

from .core_trace import SIZES, pack

#: What a unit took, by counter and Python, with h2 4.4.1, hpack 4.1.0 and hyperframe 6.1.0.
#: Callgrind's is of one build of Python, for x86-64.
MEASURED = {
    ("callgrind", "3.11"): 5_070_000.0,
    ("calls", "3.11"): 4_024.0,
}
MARGIN = 1.05

_UNITS = 10
_REQUESTS_PER_UNIT = 12
_UPLOAD = 65_535
_TIMEOUT = 300


def record(units: int) -> bytes:
    """What a client sends in so many units."""
    encoder = Encoder()
    greeting = wire.PREFACE + wire.settings_frame({wire.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1})
    reads = [greeting, wire.settings_frame(ack=True) + wire.window_update_frame(0, 2**30)]
    stream_id = 1
    for _ in range(units):
        frames = []
        for path in [*["/small"] * 10, "/large"]:
            frames.append(_head(encoder, stream_id, "GET", path))
            stream_id += 2
        reads.append(b"".join(frames))
        reads.append(wire.window_update_frame(0, SIZES[b"/large"]) + _post(encoder, stream_id))
        stream_id += 2
    return pack(reads)


def _head(encoder: Encoder, stream_id: int, method: str, path: str) -> bytes:
    """A request's fields, as a browser sends them."""
    fields = [
        (":method", method),
        (":scheme", "https"),
        (":authority", "www.example.com"),
        (":path", path),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-US,en;q=0.5"),
        ("cookie", "session=0123456789abcdef"),
    ]
    return wire.headers_frames(stream_id, encoder.encode(fields), end_stream=method == "GET")


def _post(encoder: Encoder, stream_id: int) -> bytes:
    frames = [_head(encoder, stream_id, "POST", "/small")]
    for start in range(0, _UPLOAD, wire.DEFAULT_FRAME_SIZE):
        size = min(wire.DEFAULT_FRAME_SIZE, _UPLOAD - start)
        last = start + size == _UPLOAD
        frames.append(wire.data_frame(stream_id, bytes(size), end_stream=last))
    return b"".join(frames)


# -- counters: what it takes to serve the trace in a file ----------------------------------------


def _run(file: Path, *more: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*before, sys.executable, "-m", "benchmarks.core_trace", str(file), *more]
    # The order of sets and dicts of str takes part in what is executed.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT,
    )


def calls(file: Path) -> int:
    """The calls of functions."""
    return int(_run(file, "--count-calls").stdout)


def callgrind(file: Path) -> int:
    """The processor's instructions, those of starting the interpreter too."""
    valgrind = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    match = re.search(r"Collected : (\d+)", _run(file, before=valgrind).stderr)
    assert match is not None
    return int(match[1])


COUNTERS: dict[str, Callable[[Path], int]] = {"callgrind": callgrind, "calls": calls}


def count(counter: str) -> float:
    """What one unit takes."""
    totals = []
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "trace"
        for units in (_UNITS, 2 * _UNITS):
            file.write_bytes(record(units))
            # Not counted: it sees that the trace is served, and leaves compiled files behind.
            answered = int(_run(file).stdout)
            assert answered == units * _REQUESTS_PER_UNIT, f"only {answered} were answered"
            totals.append(COUNTERS[counter](file))
    return (totals[1] - totals[0]) / _UNITS


def main() -> int:
    """Count, compare, and return the exit status."""
    default = "callgrind" if shutil.which("valgrind") else "calls"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counter", choices=COUNTERS, default=default)
    counter = parser.parse_args().counter
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    counted = count(counter)
    measured = MEASURED.get((counter, python))
    if measured is None:
        print(f"{counter}: {counted:,.0f} a unit; there is no budget for Python {python}")
        return 2
    budget = measured * MARGIN
    verdict = "within" if counted <= budget else "OVER"
    print(
        f"{counter}: {counted:,.0f} a unit, {verdict} the budget of {budget:,.0f}"
        f" ({counted / measured - 1:+.1%} since it was measured)"
    )
    return int(counted > budget)


if __name__ == "__main__":
    sys.exit(main())
