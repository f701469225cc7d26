"""What is installed: the archives that are built, their metadata, the entry point."""

from __future__ import annotations

import email.parser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import gunicorn_h2
from tests.support.server import ROOT

NOT_IN_A_CHECKOUT = shutil.ignore_patterns(".git", ".*_cache", ".venv", "*.egg-info", "__pycache__")


class Built(NamedTuple):
    output: str
    sdist: set[str]
    wheel: set[str]
    metadata: str
    entry_points: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both archives, built from a copy, so that the checkout stays as it is."""
    pytest.importorskip("build")
    source = tmp_path_factory.mktemp("build") / "source"
    shutil.copytree(ROOT, source, ignore=NOT_IN_A_CHECKOUT)
    environment = {name: value for name, value in os.environ.items() if name not in UNBUILT}
    # Without isolation nothing is downloaded: the test extra has the build system.
    run = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."],
        cwd=source,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert run.returncode == 0, run.stdout
    (sdist,) = source.glob("dist/*.tar.gz")
    (wheel,) = source.glob("dist/*.whl")
    with tarfile.open(sdist) as tar:
        in_sdist = {name.partition("/")[2] for name in tar.getnames()}
    with zipfile.ZipFile(wheel) as archive:
        information = f"gunicorn_h2-{gunicorn_h2.__version__}.dist-info"
        return Built(
            run.stdout,
            in_sdist,
            set(archive.namelist()),
            archive.read(f"{information}/METADATA").decode(),
            archive.read(f"{information}/entry_points.txt").decode(),
        )


#: This makes setuptools warn, of what is no fault of the package.
UNBUILT = {"PYTHONDONTWRITEBYTECODE"}


def modules() -> set[str]:
    return {f"gunicorn_h2/{path.name}" for path in (ROOT / "gunicorn_h2").glob("*.py")}


def test_building_gives_no_warnings(built: Built) -> None:
    assert re.findall(r".*(?:warning|deprecat).*", built.output, re.IGNORECASE) == []


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    assert {name for name in built.wheel if ".dist-info/" not in name} == modules() | {
        "gunicorn_h2/py.typed"
    }


def test_the_sdist_holds_what_a_packager_needs(built: Built) -> None:
    assert built.sdist >= modules() | {
        "CHANGELOG.rst",
        "LICENSE",
        "README.rst",
        "examples/gunicorn.conf.py",
        "gunicorn_h2/py.typed",
        "pyproject.toml",
        "tests/conftest.py",
        "tests/server/test_packaging.py",
        "tests/support/server.py",
    }


def test_the_metadata_says_what_is_supported(built: Built) -> None:
    metadata = email.parser.Parser().parsestr(built.metadata)
    assert metadata["Name"] == "gunicorn-h2"
    assert metadata["Version"] == gunicorn_h2.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert metadata["License-Expression"] == "MIT"
    needed = [each for each in metadata.get_all("Requires-Dist") or [] if "extra" not in each]
    assert sorted(needed) == ["gunicorn>=23", "h2<5,>=4.4.1"]


def test_gunicorn_finds_the_worker_by_its_entry_point(built: Built, tmp_path: Path) -> None:
    # As an installer would leave it, and before whatever else is installed.
    information = tmp_path / f"gunicorn_h2-{gunicorn_h2.__version__}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(built.metadata)
    (information / "entry_points.txt").write_text(built.entry_points)
    command = [sys.executable, "-m", "gunicorn", "--check-config"]
    run = subprocess.run(
        [*command, "-k", "egg:gunicorn-h2#h2", "gunicorn_h2.demo:app"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stderr) == (0, "")


def test_the_package_alone_imports_neither_h2_nor_asyncio() -> None:
    program = """
import sys
import gunicorn_h2.devcert
print(sorted({"h2", "asyncio", "gunicorn_h2.worker"} & set(sys.modules)))
print(gunicorn_h2.H2Worker.__name__, "gunicorn_h2.worker" in sys.modules)
print("H2Worker" in dir(gunicorn_h2))
"""
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.splitlines() == ["[]", "H2Worker True", "True"], run.stderr


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'gunicorn_h2' has no attribute 'H3Worker'"):
        gunicorn_h2.H3Worker  # noqa: B018
