"""The rules of the architecture, held against the source with ``ast``.

1. Only ``pool.py`` has threads, and only ``handoff.py`` crosses between them.
2. Pure modules have no way to reach the loop, a thread, a socket or a clock.
3. Imports go downward through the layers and form no cycle.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "gunicorn_h2"
SOURCE = Path(__file__).resolve().parents[2] / PACKAGE

# From the bottom up. A module may import from its own layer and from those
# below, so long as no cycle comes of it; imports for type checking only count
# like any other. A new module must find its place here.
LAYERS = (
    ("settings", "limits", "stream", "frames", "errors", "acceptor"),
    ("sources", "compression", "fields", "guard", "scheduler"),
    ("engine",),
    ("responses", "windows"),
    ("requests",),
    ("connection",),
    ("environ",),
    ("handoff", "pool"),
    ("peer", "server", "extensions"),
    ("wsgi", "session"),
    ("http1_wsgi", "http2_wsgi"),
    ("http1", "http2"),
    ("protocol",),
    ("worker",),
    ("__init__",),
)
# They use nothing of the worker, and nothing of the worker uses them.
APART = ("demo", "devcert")

PURE = (
    *("frames", "guard", "compression", "fields", "stream", "scheduler", "limits"),
    *("requests", "responses", "engine", "windows", "connection", "environ"),
)
IMPURE_IMPORTS = {"asyncio", "threading", "socket", "ssl", "time"}

#: The pool of threads, and the way between them and the loop.
BOUNDARY = ("handoff", "pool")
_THEY = " and ".join(BOUNDARY)
THREAD_IMPORTS = {"threading", "_thread", "queue", "_queue", "concurrent"}
THREAD_NAMES = {"call_soon_threadsafe", "run_coroutine_threadsafe", "run_in_executor", "to_thread"}


def violations(sources: dict[str, str]) -> list[str]:
    """Every breach of the rules in ``sources``, a map of module names to texts."""
    trees = {name: ast.parse(text, name) for name, text in sources.items()}
    found: list[str] = []
    for name, tree in trees.items():
        found += _thread_violations(name, tree)
        found += _purity_violations(name, tree)
    graph = {name: set(_internal_imports(tree, set(sources))) for name, tree in trees.items()}
    found += _layer_violations(graph)
    found += _cycle_violations(graph)
    return found


def _thread_violations(name: str, tree: ast.Module) -> Iterator[str]:
    if name in BOUNDARY:
        return
    for imported in sorted(set(_external_imports(tree)) & THREAD_IMPORTS):
        yield f"{name} imports {imported}: only {_THEY} may"
    for used in sorted(set(_names(tree)) & THREAD_NAMES):
        yield f"{name} names {used}: only {_THEY} may"


def _purity_violations(name: str, tree: ast.Module) -> Iterator[str]:
    if name in PURE:
        for imported in sorted(set(_external_imports(tree)) & IMPURE_IMPORTS):
            yield f"{name} imports {imported}: it is to be pure"


def _layer_violations(graph: dict[str, set[str]]) -> Iterator[str]:
    rank = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    for name, imported in graph.items():
        if name in APART:
            for other in sorted(imported):
                yield f"{name} imports {other}: it stands apart"
        elif name not in rank:
            yield f"{name} has no place in LAYERS"
        else:
            for other in sorted(imported):
                if other in APART:
                    yield f"{name} imports {other}: {other} stands apart"
                elif other in rank and rank[other] > rank[name]:
                    yield f"{name} imports {other}: that is upward"


def _cycle_violations(graph: dict[str, set[str]]) -> Iterator[str]:
    # What imports nothing that is left, or is imported by nothing that is left, is
    # in no cycle and is taken away, until there is no more of either.
    left = {name: set(imported) for name, imported in graph.items()}
    while True:
        imported_somewhere = set().union(*left.values())
        kept = {
            name: imported & left.keys()
            for name, imported in left.items()
            if imported & left.keys() and name in imported_somewhere
        }
        if kept == left:
            break
        left = kept
    if left:
        yield f"imports form a cycle among: {', '.join(sorted(left))}"


def _external_imports(tree: ast.Module) -> Iterator[str]:
    """Top-level names of the absolute imports, wherever in the module they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.Call) and _called(node) in ("__import__", "import_module"):
            yield from (
                argument.value.partition(".")[0]
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def _internal_imports(tree: ast.Module, modules: set[str]) -> Iterator[str]:
    """Modules of the package that are imported, relatively or by their full names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                package, _, module = alias.name.partition(".")
                if package == PACKAGE:
                    yield module or "__init__"
        elif isinstance(node, ast.ImportFrom):
            module = _internal_target(node)
            if module:
                yield module
            elif module == "":
                # ``from . import x`` is x where x is a module, else a name of the package.
                for alias in node.names:
                    yield alias.name if alias.name in modules else "__init__"


def _internal_target(node: ast.ImportFrom) -> str | None:
    if node.level:
        return node.module or ""
    package, _, module = (node.module or "").partition(".")
    return module if package == PACKAGE else None


def _names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # getattr(loop, "call_soon_threadsafe") names it too.
            yield node.value


def _called(node: ast.Call) -> str | None:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else None


# --- the package --------------------------------------------------------------


def test_the_package_keeps_its_rules() -> None:
    sources = {path.stem: path.read_text(encoding="utf-8") for path in SOURCE.glob("*.py")}
    assert violations(sources) == []


def test_every_module_the_rules_name_exists() -> None:
    named = {name for layer in LAYERS for name in layer}.union(APART, PURE, BOUNDARY)
    assert sorted(named - {path.stem for path in SOURCE.glob("*.py")}) == []


def test_there_are_no_packages_inside_that_the_walk_would_miss() -> None:
    assert [path.parent.name for path in SOURCE.glob("*/**/*.py")] == []


# --- the checker: each rule can fail ---------------------------------------------


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ({"wsgi": "import threading"}, "wsgi imports threading: only handoff and pool may"),
        ({"wsgi": "def f():\n import queue"}, "wsgi imports queue: only handoff and pool may"),
        (
            {"protocol": "from concurrent.futures import Future"},
            "protocol imports concurrent: only handoff and pool may",
        ),
        (
            {"worker": "loop.call_soon_threadsafe(print)"},
            "worker names call_soon_threadsafe: only handoff and pool may",
        ),
        (
            {"worker": "getattr(loop, 'call_soon_threadsafe')"},
            "worker names call_soon_threadsafe: only handoff and pool may",
        ),
        (
            {"protocol": "from asyncio import to_thread as f"},
            "protocol names to_thread: only handoff and pool may",
        ),
        (
            {"worker": "import importlib\nimportlib.import_module('threading')"},
            "worker imports threading: only handoff and pool may",
        ),
        ({"guard": "import asyncio.transports"}, "guard imports asyncio: it is to be pure"),
        ({"limits": "from time import monotonic"}, "limits imports time: it is to be pure"),
        ({"stream": "def f(): import ssl"}, "stream imports ssl: it is to be pure"),
        ({"environ": "import os, socket"}, "environ imports socket: it is to be pure"),
        ({"connection": "__import__('time')"}, "connection imports time: it is to be pure"),
        (
            {"guard": "from .connection import Connection", "connection": ""},
            "guard imports connection: that is upward",
        ),
        (
            {"wsgi": "from . import protocol", "protocol": ""},
            "wsgi imports protocol: that is upward",
        ),
        (
            {"handoff": "import gunicorn_h2.worker", "worker": ""},
            "handoff imports worker: that is upward",
        ),
        (
            {"handoff": "from gunicorn_h2 import worker", "worker": ""},
            "handoff imports worker: that is upward",
        ),
        (
            {"wsgi": "from . import __version__", "__init__": "__version__ = '1'"},
            "wsgi imports __init__: that is upward",
        ),
        (
            {"fields": "from . import guard", "guard": "from . import fields"},
            "imports form a cycle among: fields, guard",
        ),
        ({"limits": "from . import limits"}, "imports form a cycle among: limits"),
        ({"demo": "from . import stream", "stream": ""}, "demo imports stream: it stands apart"),
        (
            {"worker": "from . import devcert", "devcert": ""},
            "worker imports devcert: devcert stands apart",
        ),
        (
            {
                "wsgi": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n from . import http1",
                "http1": "",
            },
            "wsgi imports http1: that is upward",
        ),
        ({"newcomer": ""}, "newcomer has no place in LAYERS"),
    ],
)
def test_a_breach_is_found(sources: dict[str, str], expected: str) -> None:
    assert violations(sources) == [expected]


def test_what_the_rules_allow_is_not_reported() -> None:
    allowed = {
        "limits": "import math",
        "stream": "from dataclasses import dataclass",
        "guard": "from .limits import Bucket",
        "connection": "import h2.connection\nfrom . import guard, stream",
        "handoff": "import threading, queue\nloop.call_soon_threadsafe(f)",
        "protocol": "import asyncio, ssl, time\nfrom .connection import Connection",
        "worker": "from .protocol import Protocol",
        "__init__": "from .worker import H2Worker",
        "demo": "import json",
    }
    assert violations(allowed) == []
