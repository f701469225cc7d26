"""Fuzz the pure core: `gunicorn_h2.connection` and all below it, without a socket.

::

    python -m tests.long.fuzz --minutes 30 --seed 1 --corpus DIR
    python -m tests.long.fuzz --replay FILE

What an input means is in `choices`, what is run and which rules hold in `core_run` and
`ledger`. Inputs come from atheris (coverage-guided, over gunicorn_h2, h2, hpack and
hyperframe) where it is installed, else they are random bytes. Either runs in a process of
its own; the one started first then runs the corpus again, to tell what of the core it
covers. Every finding is saved once, as a file for ``--replay``; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: The modules that an input runs through.
CORE = (
    "connection",
    "engine",
    "fields",
    "frames",
    "guard",
    "limits",
    "requests",
    "responses",
    "scheduler",
    "stream",
)
#: Inputs beyond this length are no other than several shorter ones.
MAX_LENGTH = 1_000
#: Random inputs that a new corpus begins with.
_SEEDS = 50


class Coverage(NamedTuple):
    """What running the corpus has reached: lines, and both ways of every branch."""

    lines: int
    all_lines: int
    branches: int
    all_branches: int
    #: Lines that were not reached, by file.
    missing: dict[str, list[int]]


def main() -> int:
    arguments = parse(sys.argv[1:])
    if arguments.replay:
        return replay(arguments.replay)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        corpus = arguments.corpus or Path(temporary) / "corpus"
        sow(corpus, arguments.seed)
        driver = arguments.driver or (
            "atheris" if importlib.util.find_spec("atheris") else "random"
        )
        arguments.findings.mkdir(parents=True, exist_ok=True)
        log = arguments.findings / f"{driver}.log"
        print(f"{driver}, seed {arguments.seed}, {arguments.minutes:g} minutes", flush=True)
        with log.open("w") as stderr:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "tests.long.fuzz_driver", driver),
                    *(str(arguments.minutes * 60), str(arguments.seed)),
                    *(str(corpus), str(arguments.findings)),
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=stderr,
                timeout=arguments.minutes * 60 + 300,
                check=False,
            )
        if done.returncode:
            print(f"the driver ended with status {done.returncode}: see {log}")
            return 2
        return report(json.loads(done.stdout.splitlines()[-1]), corpus)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.long.fuzz")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    parser.add_argument("--corpus", type=Path, help="inputs to begin with; new ones are added")
    parser.add_argument(
        "--findings",
        type=Path,
        default=Path(tempfile.gettempdir(), "gunicorn-h2-fuzz"),
        help="where inputs that break a rule are saved (default: %(default)s)",
    )
    parser.add_argument("--driver", choices=("atheris", "random"))
    parser.add_argument("--replay", type=Path, help="run this one input, and show what it breaks")
    return parser.parse_args(arguments)


def sow(corpus: Path, seed: int) -> None:
    """Begin a corpus; one that has inputs already stays as it is."""
    corpus.mkdir(parents=True, exist_ok=True)
    if not any(corpus.iterdir()):
        chosen = random.Random(seed)
        for number in range(_SEEDS):
            (corpus / f"seed-{number}").write_bytes(chosen.randbytes(chosen.randint(1, MAX_LENGTH)))


def replay(file: Path) -> int:
    from .core_run import run

    try:
        run(file.read_bytes())
    except Exception:
        traceback.print_exc()
        return 1
    print("no rule is broken")
    return 0


def report(result: dict[str, Any], corpus: Path) -> int:
    """Print what was done, reached and found; the exit status."""
    print(
        f"{result['executions']} executions, {result['executions'] / result['seconds']:.0f} a"
        f" second; the slowest took {result['slowest']:.2f} s"
    )
    reached = covered(corpus)
    if reached is not None:
        print(
            f"covered of the core: {reached.lines} of {reached.all_lines} lines,"
            f" {reached.branches} of {reached.all_branches} branches"
        )
        for module, lines in reached.missing.items():
            print(f"  not reached in {module}: lines {', '.join(map(str, lines))}")
    print(f"findings: {len(result['findings'])}")
    for found in result["findings"]:
        print(f"  {found['times']} times: {found['what']}\n    --replay {found['file']}")
    return 1 if result["findings"] else 0


def covered(corpus: Path) -> Coverage | None:
    """Run the corpus again, watched by coverage.py; None where that is not installed."""
    if importlib.util.find_spec("coverage") is None:
        print("coverage.py is not installed: what was covered is not known")
        return None
    import coverage

    watch = coverage.Coverage(
        branch=True, data_file=None, config_file=False, source_pkgs=["gunicorn_h2"]
    )
    watch.start()
    from .core_run import run

    for file in sorted(corpus.iterdir()):
        # What breaks a rule was saved as a finding.
        with contextlib.suppress(Exception):
            run(file.read_bytes())
    watch.stop()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        outfile = Path(temporary, "coverage.json")
        only = [str(ROOT / "gunicorn_h2" / f"{name}.py") for name in CORE]
        watch.json_report(outfile=str(outfile), include=only)
        measured = json.loads(outfile.read_text())
    totals = measured["totals"]
    return Coverage(
        totals["covered_lines"],
        totals["num_statements"],
        totals["covered_branches"],
        totals["num_branches"],
        {
            Path(name).name: each["missing_lines"]
            for name, each in measured["files"].items()
            if each["missing_lines"]
        },
    )


if __name__ == "__main__":
    sys.exit(main())
