"""Where the values of the settings are read from, and which of them counts.

A plugin cannot register settings with Gunicorn: the list is frozen before the
worker class is imported. Gunicorn skips unknown names in its configuration
file silently, so they are picked up from the loaded module here, and a
misspelt one stops the start. Sources, later wins: default, class attribute of
the worker class, configuration file, environment.

Pure; runs in Gunicorn's master, before it forks.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import os
import re
import sys
import weakref
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from .settings import ROWS, SETTINGS, UNLIMITED, SettingError, Settings

_OWN_PREFIX = "h2_"
_VARIABLE_PREFIX = "GUNICORN_"
#: What Kubernetes puts into the environment for a Service that is called gunicorn-h2.
_SERVICE_LINK = re.compile(r"GUNICORN_H2_(?:SERVICE_(?:HOST|PORT.*)|PORT(?:_[0-9]+_.*)?)")


class _Entry(Protocol):
    """`gunicorn.config.Setting`, as far as it is used here."""

    default: Any

    def get(self) -> Any: ...


class GunicornConfig(Protocol):
    """`gunicorn.config.Config`, as far as it is used here: Gunicorn has no type hints."""

    settings: Mapping[str, _Entry]
    usage: str | None

    def parser(self) -> ArgumentParser: ...

    def get_cmd_args_from_env(self) -> list[str]: ...


def load(cfg: GunicornConfig, worker_class: type) -> Settings:
    """The settings of ``worker_class`` under Gunicorn's configuration ``cfg``.

    To be called in the arbiter, before the fork, for every new ``cfg``: only
    there it is certain which configuration file belongs to it.

    :raises SettingError: a value cannot be used, or a name is unknown.
    """
    given = (
        _from_class(worker_class)
        | _from_config(cfg)
        | _effective(cfg, _from_file(cfg))
        | _effective(cfg, _from_arguments(cfg))
        | _from_environment()
    )
    for name in given:
        if name.startswith(_OWN_PREFIX) and name not in SETTINGS:
            raise _unknown(name, given[name].source)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key, row in ROWS.items():
        if row.name in given:
            value, sources[key] = given[row.name]
            values[key] = row.check(value, sources[key])
    return _reconciled(Settings(**values, sources=sources))


def _unknown(name: str, source: str) -> SettingError:
    nearest = difflib.get_close_matches(name, SETTINGS, n=1, cutoff=0)[0]
    return SettingError(f"{name} (from {source}): no such setting, the nearest is {nearest}")


def _reconciled(settings: Settings) -> Settings:
    """``settings``, with what one of them means for another applied."""
    changed: dict[str, Any] = {}
    if settings.max_header_list_size == 0:
        changed["max_header_list_size"] = UNLIMITED
    window = settings.connection_window_size
    stream_window = settings.initial_window_size
    if window < stream_window:
        source = settings.sources.get("connection_window_size")
        if source is not None:
            raise SettingError(
                f"h2_connection_window_size = {window} (from {source}): must be at least"
                f" http2_initial_window_size = {stream_window}"
                f" (from {settings.sources['initial_window_size']})"
            )
        changed["connection_window_size"] = stream_window
    if 0 < settings.max_threads < settings.threads:
        raise SettingError(
            f"h2_max_threads = {settings.max_threads} (from {settings.sources['max_threads']}):"
            f" must be at least threads = {settings.threads}"
            f" (from {settings.sources.get('threads', 'default')}), or 0"
        )
    return replace(settings, **changed)


class _Given(NamedTuple):
    value: object
    source: str


def _from_class(worker_class: type) -> dict[str, _Given]:
    return {
        name: _Given(value, f"class {owner.__qualname__}")
        for owner in reversed(worker_class.__mro__)
        for name, value in vars(owner).items()
        if not callable(value) and not hasattr(value, "__get__")
    }


def _from_config(cfg: GunicornConfig) -> dict[str, _Given]:
    """Gunicorn's own settings that were changed, by whatever means."""
    return {
        name: _Given(cfg.settings[name].get(), "Gunicorn's configuration")
        for name in SETTINGS
        if name in cfg.settings and cfg.settings[name].get() != cfg.settings[name].default
    }


#: Each reading of a configuration file makes a module of its own. One that was
#: there for an earlier configuration is left over: the file was gone on reload.
_first_read_for: weakref.WeakKeyDictionary[ModuleType, weakref.ref[GunicornConfig]] = (
    weakref.WeakKeyDictionary()
)


def _from_file(cfg: GunicornConfig) -> dict[str, _Given]:
    """The names of the configuration file, or module, that was read for ``cfg``."""
    location: str = cfg.settings["config"].get() or ""
    if location.startswith("python:"):
        module = sys.modules.get(location.removeprefix("python:"))
        source = location
    else:
        module = sys.modules.get("__config__")
        if module and _first_read_for.setdefault(module, weakref.ref(cfg))() is not cfg:
            return {}
        source = str(getattr(module, "__file__", location))
    return {name: _Given(value, source) for name, value in vars(module).items()} if module else {}


def _from_arguments(cfg: GunicornConfig) -> dict[str, _Given]:
    """Gunicorn's own settings as given in GUNICORN_CMD_ARGS and on the command line.

    Only these tell an explicit default, such as ``--threads 1``, from none.
    """
    # An application that embeds Gunicorn has arguments of its own, and no usage.
    if cfg.usage is None:
        return {}
    lines: dict[str, Callable[[], list[str]]] = {
        "GUNICORN_CMD_ARGS": cfg.get_cmd_args_from_env,
        "the command line": lambda: sys.argv[1:],
    }
    return {
        name: _Given(value, source)
        for source, line in lines.items()
        for name, value in vars(_parsed(cfg, line)).items()
        if value is not None
    }


def _parsed(cfg: GunicornConfig, line: Callable[[], list[str]]) -> Namespace:
    silence = io.StringIO()
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            return cfg.parser().parse_known_args(line())[0]
    except (SystemExit, ValueError):
        # Gunicorn did not end, so these arguments are not what it has read.
        return Namespace()


def _effective(cfg: GunicornConfig, given: dict[str, _Given]) -> dict[str, _Given]:
    """``given``, with Gunicorn's reading of the values that are its own."""
    return {
        name: _Given(cfg.settings[name].get() if name in cfg.settings else value, source)
        for name, (value, source) in given.items()
    }


def _from_environment() -> dict[str, _Given]:
    found = {}
    for variable, text in os.environ.items():
        if variable.startswith(_VARIABLE_PREFIX + _OWN_PREFIX.upper()) and not (
            _SERVICE_LINK.fullmatch(variable)
        ):
            name = variable.removeprefix(_VARIABLE_PREFIX).lower()
            row = SETTINGS.get(name)
            found[name] = _Given(row.parse(text) if row else text, variable)
    return found
