"""The programs of `tests.long` work: they run to their end, and see what they are there to see."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gunicorn_h2.requests import Requests
from gunicorn_h2.responses import Responses
from gunicorn_h2.scheduler import Scheduler
from tests.conftest import Serve
from tests.long import core_run, fuzz, good_traffic
from tests.long.ledger import Broken
from tests.long.soak import BOUNDS, MIB, Sample, Soaked, growth, slope
from tests.support import MISSING_TOOL
from tests.support.server import ROOT

TIMEOUT = 120


def run_program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


# -- fuzz -----------------------------------------------------------------------


@pytest.mark.parametrize("driver", ["random", "atheris"])
def test_fuzz_runs_and_tells_what_it_did(tmp_path: Path, driver: str) -> None:
    if driver == "atheris" and importlib.util.find_spec("atheris") is None:
        pytest.skip(f"{MISSING_TOOL}atheris")
    directories = ("--corpus", str(tmp_path / "corpus"), "--findings", str(tmp_path / "found"))
    done = run_program(
        "tests.long.fuzz", "--minutes", "0.05", "--seed", "7", "--driver", driver, *directories
    )
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"{driver}, seed 7, 0.05 minutes\n")
    assert " executions, " in done.stdout
    assert done.stdout.endswith("findings: 0\n")
    assert any((tmp_path / "corpus").iterdir())


#: A core that never gives credit back, in the process that this is run in.
SABOTAGE = """
import sys
from pathlib import Path
from gunicorn_h2.requests import Requests
Requests.credit = lambda self, stream, count: None
from tests.long import fuzz, fuzz_driver
"""


def test_a_finding_is_saved_and_runs_again(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    drive = SABOTAGE + (
        "fuzz_driver.drive_random(1.0, 1, Path(sys.argv[1], 'corpus'), Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", drive, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        timeout=TIMEOUT,
        check=True,
    )
    found = [each for each in json.loads(done.stdout)["findings"] if "credit" in each["what"]]
    file = found[0]["file"]
    replay = SABOTAGE + "sys.exit(fuzz.replay(Path(sys.argv[1])))"
    again = subprocess.run(
        [sys.executable, "-c", replay, file],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert again.returncode == 1
    assert "credit" in again.stderr.splitlines()[-1]
    done_well = run_program("tests.long.fuzz", "--replay", file)
    assert (done_well.returncode, done_well.stdout) == (0, "no rule is broken\n")


def no_credit(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Requests, "credit", lambda self, stream, count: None)


def no_abort(patch: pytest.MonkeyPatch) -> None:
    """A stream that the peer resets is forgotten, and nobody hears of it."""
    told = Requests.receive_reset

    def silent(self: Requests, frame: object, now: float) -> None:
        with patch.context() as deaf:
            deaf.setattr(self._handler, "stream_aborted", lambda stream: None)
            told(self, frame, now)  # type: ignore[arg-type]

    patch.setattr(Requests, "receive_reset", silent)


def no_wake_up(patch: pytest.MonkeyPatch) -> None:
    """Streams that a window held back are never tried again."""
    patch.setattr(Responses, "window_opened", lambda self, stream: None)


def no_room(patch: pytest.MonkeyPatch) -> None:
    """Data are sent whatever there is room for."""
    fill = Responses.fill
    patch.setattr(Responses, "fill", lambda self, room, now: fill(self, max(room, 1_000), now))


def no_limit(patch: pytest.MonkeyPatch) -> None:
    """More streams than were agreed upon, as long as they are few."""
    start = Requests._start

    def generous(self: Requests, *arguments: object) -> None:
        streams, self.streams = self.streams, {}
        try:
            start(self, *arguments)  # type: ignore[arg-type]
        finally:
            streams.update(self.streams)
            self.streams = streams

    patch.setattr(Requests, "_start", generous)


def an_exception(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(Scheduler, "rotate")


@pytest.mark.parametrize(
    ("sabotage", "rule"),
    [
        (no_credit, "credit"),
        (no_abort, "a stream lost"),
        (no_wake_up, "nothing holds it back"),
        (no_room, "more than there was room for"),
        (no_limit, "too many streams"),
        (an_exception, "rotate"),
    ],
)
def test_the_rules_see_a_core_that_is_broken(
    monkeypatch: pytest.MonkeyPatch, sabotage: object, rule: str
) -> None:
    assert callable(sabotage)
    sabotage(monkeypatch)
    chosen = random.Random(1)
    for _ in range(2_000):
        try:
            core_run.run(chosen.randbytes(fuzz.MAX_LENGTH))
        except (Broken, AttributeError) as error:
            assert rule in str(error)
            return
    raise AssertionError("nothing was found")


# -- soak -------------------------------------------------------------------------


def test_soak_runs_and_nothing_fails() -> None:
    done = run_program(
        "tests.long.soak", "--minutes", "0.1", "--round", "2", "--rate", "4", "--seed", "7"
    )
    assert done.returncode == 0, done
    lines = [line.split() for line in done.stdout.splitlines()]
    rounds = [line for line in lines if line[1] in ("tls", "cleartext") and line[0] != "slope/h"]
    assert len(rounds) == 6
    assert all(int(answered) > 0 and failed == "0" for _, _, answered, failed, *_ in rounds)
    assert done.stdout.endswith("nothing grows, nothing failed\n")


def test_good_traffic_that_is_answered_wrongly_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, serve: Serve
) -> None:
    monkeypatch.setattr(good_traffic, "TIMEOUT", 2.0)
    soaked = Soaked("cleartext", serve("tests.support.flask_app:app"))
    clients = soaked.clients(rate=20, until=time.monotonic() + 2, seed="7")
    for client in clients:
        client.start()
    for client in clients:
        client.join(TIMEOUT)
    assert soaked.tally.failed > 0
    assert soaked.tally.answered == 0


def samples(**slopes: float) -> list[Sample]:
    """An hour of samples, in which the given figures rise by so much."""
    return [
        {name: 1_000 + slopes.get(name, 0) * minute / 60 for name in BOUNDS}
        | {"elapsed": 60.0 * minute}
        for minute in range(61)
    ]


def test_growth_is_seen() -> None:
    assert growth(samples()) == []
    assert growth(samples(threads=0.9, rss=7 * MIB)) == []
    assert growth(samples(Stream=30, rss=9 * MIB)) == [
        "rss rises by 9.00 MiB an hour",
        "Stream rises by 30 an hour",
    ]
    assert growth(samples(Stream=30)[:5]) == []
    assert slope(samples(rss=5 * MIB), "rss") == pytest.approx(5 * MIB)
