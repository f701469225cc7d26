"""What the tests share: real servers, a raw-frame client, certificates, applications."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil

import pytest

#: How every skip for something that could have been installed begins, so that
#: ``GUNICORN_TESTS_NO_SKIP=1`` can tell it from a skip with a real reason.
MISSING_TOOL = "missing tool: "

#: Set to have heavy tests run in full; else they do the same with less.
LONG = os.environ.get("GUNICORN_TESTS_LONG") == "1"


def require_tool(name: str) -> str:
    """Return the path of a command, or skip the test or module that needs it."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{MISSING_TOOL}{name}", allow_module_level=True)
    return path


def gunicorn_version() -> tuple[int, ...]:
    """Return the version of the Gunicorn that the spawned servers run."""
    release = re.match(r"[0-9.]+", importlib.metadata.version("gunicorn"))
    assert release is not None
    return tuple(int(part) for part in release.group().strip(".").split("."))
