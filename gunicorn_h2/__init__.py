"""gunicorn-h2: a Gunicorn worker that serves WSGI applications over HTTP/2.

The public names are ``H2Worker``, for ``worker_class``, the exceptions that an
application may see, and ``__version__``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import ClientDisconnected, DeadlineExceeded, RequestTimeout
    from .worker import H2Worker

__all__ = ["ClientDisconnected", "DeadlineExceeded", "H2Worker", "RequestTimeout", "__version__"]

__version__ = "0.1.0"

_MODULES = {
    "ClientDisconnected": "errors",
    "DeadlineExceeded": "errors",
    "H2Worker": "worker",
    "RequestTimeout": "errors",
}


def __getattr__(name: str) -> object:
    # Loaded on first use, so that a configuration file, or the setup of a
    # package, can import this one without h2, asyncio and the worker.
    if name in _MODULES:
        value: object = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
