"""What every server is asked to do, and how fast it does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import neighbours
from .h2load import Load, requests_per_second, slowest_request
from .report import Figure
from .servers import Target

MEGABYTE = 1 << 20
#: Of a page.
_RESOURCES = 100

#: Called with the server, the seconds that it may take, and a directory for its files;
#: it returns a value for each figure.
Run = Callable[[Target, float, Path], Sequence[float]]


@dataclass(frozen=True)
class Workload:
    """One way to use a server.

    :param paths: what of the application it asks for.
    :param threads: of the server.
    """

    figures: tuple[Figure, ...]
    run: Run
    paths: frozenset[str]
    threads: int = 16


def _h2load(title: str, load: Load, upload_size: int = 0) -> Workload:
    """As many requests as are answered."""

    def run(target: Target, seconds: float, directory: Path) -> tuple[float]:
        return (requests_per_second(target.url, _with_file(load, upload_size, directory), seconds),)

    figure = Figure(f"{title}, c{load.connections} m{load.streams}", "req/s")
    return Workload((figure,), run, frozenset({load.path}))


def _with_file(load: Load, size: int, directory: Path) -> Load:
    """The load, with a file of zeros to send where there is to be one."""
    if not size:
        return load
    file = directory / "upload"
    if not file.exists():
        file.write_bytes(bytes(size))
    return Load(load.connections, load.streams, load.path, file)


def _page(target: Target, _: float, __: Path) -> tuple[float]:
    page = Load(1, _RESOURCES, "/sleep?s=0.02")
    slowest_request(target.url, page, _RESOURCES)  # so that the threads are there
    return (slowest_request(target.url, page, _RESOURCES),)


def _neighbours(target: Target, seconds: float, _: Path) -> tuple[float, float]:
    return neighbours.measure(target, seconds)


SMALL = "GET of 13 bytes"

#: c10 m10: ten connections with ten streams open on each.
WORKLOADS: dict[str, Workload] = {
    "small-c10-m10": _h2load(SMALL, Load(10, 10)),
    "small-c1-m1": _h2load(SMALL, Load(1, 1)),
    "small-c100-m1": _h2load(SMALL, Load(100, 1)),
    "download": _h2load("GET of 1 MB", Load(4, 4, "/1mb")),
    "generator": _h2load("GET of 100 x 1 KB", Load(4, 10, "/generator")),
    "upload": _h2load("POST of 1 MB", Load(4, 2, "/upload"), MEGABYTE),
    "page": Workload(
        (Figure("100 resources of 20 ms, 1 connection, 32 threads", "ms", higher_is_better=False),),
        _page,
        frozenset({"/sleep"}),
        threads=32,
    ),
    "neighbours": Workload(
        (
            Figure("p99 of a small GET beside slow and large ones", "ms", higher_is_better=False),
            Figure("the same, against its p99 alone", "times", higher_is_better=False),
        ),
        _neighbours,
        frozenset({neighbours.SLOW.partition("?")[0], neighbours.LARGE, neighbours.SMALL}),
    ),
}
