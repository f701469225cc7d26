"""Every workload, against this server and every peer that is installed, in turn.

    python -m benchmarks [--workload NAME]... [--server NAME]... [--rounds N] [--duration S]
                         [--rst FILE] [--svg FILE] [--endurance]
    python -m benchmarks --profile py-spy [--workload NAME]...

Needs h2load, and of the peers those that are to be compared; one that is missing or
fails has a row that says so. For each workload all servers are up, and a round takes
every one once, one right after another, so that what else the machine does meets all of
them. Printed are medians of the rounds, how many times ours they are, and the lowest and
highest round. A value is not to be compared with one of another machine, nor a ratio with
one where client and server have other cores to share.

``--profile`` writes what the worker does in each workload to ``profile-WORKLOAD.svg``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.support.certs import make_certs

from .alone import MEASURES, endurance
from .chart import svg
from .contest import compare, measure_alone
from .profiling import profile
from .report import as_rst, as_text
from .servers import CONTESTANTS, OURS
from .workloads import WORKLOADS


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    names = [*WORKLOADS, *MEASURES]
    parser.add_argument("--workload", action="append", choices=names, help="by default all")
    parser.add_argument("--server", action="append", choices=CONTESTANTS, help="by default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=float, default=4, help="seconds of each load")
    parser.add_argument("--rst", type=Path, help="a file for the table")
    parser.add_argument("--svg", type=Path, help="a file for the chart")
    parser.add_argument("--profile", choices=["py-spy"], help="profile ours, compare nothing")
    parser.add_argument(
        "--endurance", action="store_true", help="CPU per request after a million requests, too"
    )
    return parser.parse_args()


def heading(rounds: int, seconds: float) -> str:
    """What ran, and on what."""
    packages = ("gunicorn", "h2", "uvloop", "gevent", "hypercorn", "granian", "pyvoy")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return (
        f"Python {platform.python_version()}, {', '.join(versions)}; {os.cpu_count()} cores;"
        f" {rounds} rounds, {seconds:g} s each; one worker behind TLS"
    )


def main() -> None:
    """Measure, and write down what was found."""
    chosen = options()
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed; it comes with nghttp2")
    # However it is ended, the servers end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    start = time.monotonic()
    names = chosen.workload or [*WORKLOADS, *MEASURES]
    workloads = {name: WORKLOADS[name] for name in names if name in WORKLOADS}
    measures = {name: MEASURES[name] for name in names if name in MEASURES}
    rounds, seconds = chosen.rounds, chosen.duration
    with tempfile.TemporaryDirectory() as directory:
        certs = make_certs(Path(directory))
        if chosen.profile:
            for name, workload in workloads.items():
                output = Path(f"profile-{name}.svg")
                profile(workload, seconds, certs, output)
                print(output)
            return
        compared = compare(
            list(workloads.values()), chosen.server or list(CONTESTANTS), rounds, seconds, certs
        )
        alone = measure_alone(measures, rounds, seconds, certs)
        if chosen.endurance:
            alone |= measure_alone({"endurance": endurance}, 1, seconds, certs)
    print(heading(rounds, seconds))
    print()
    print(as_text(compared, OURS))
    print(as_text(alone, ""))
    print(f"in {(time.monotonic() - start) / 60:.1f} minutes")
    if chosen.rst:
        chosen.rst.write_text(as_rst(compared, OURS))
    if chosen.svg:
        chosen.svg.write_text(svg(compared, OURS))


if __name__ == "__main__":
    main()
