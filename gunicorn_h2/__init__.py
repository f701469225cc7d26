"""gunicorn-h2: a Gunicorn worker that serves WSGI applications over HTTP/2.

The public names are ``H2Worker``, for ``worker_class``, and ``__version__``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .worker import H2Worker

__all__ = ["H2Worker", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # Loaded on first use, so that a configuration file, or the setup of a
    # package, can import this one without h2, asyncio and the worker.
    if name == "H2Worker":
        from .worker import H2Worker

        return H2Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), "H2Worker"])
