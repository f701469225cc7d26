"""nghttp2's h2load, which makes as many requests as a server answers."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

#: What is not counted: h2load 1.52 never ends when a connection is still in its handshake
#: as the time is over, so that they must all be up before it starts.
_WARM_UP = 0.5
_WARM_UP_PER_CONNECTION = 0.008
#: Seconds that it may need beyond those in which it measures.
_MARGIN = 10.0


class LoadError(Exception):
    """Requests failed, or none was answered."""


@dataclass(frozen=True)
class Load:
    """What is asked for, over so many connections with so many streams open on each.

    :param upload: a file that is sent with POST.
    """

    connections: int
    streams: int
    path: str = "/hello"
    upload: Path | None = None

    def command(self, url: str, *how_long: str) -> list[str]:
        """The command line of h2load."""
        command = ["h2load", *how_long, "-c", str(self.connections), "-m", str(self.streams)]
        if self.upload is not None:
            command += ["-d", str(self.upload)]
        return [*command, url + self.path]


def requests_per_second(url: str, load: Load, seconds: float) -> float:
    """Put the load on a server for so long.

    :raises LoadError: not every request was answered, over HTTP/2 and with 2xx.
    """
    warm_up = _WARM_UP + load.connections * _WARM_UP_PER_CONNECTION
    durations = ("-D", f"{1000 * seconds:.0f}ms", "--warm-up-time", f"{1000 * warm_up:.0f}ms")
    command = load.command(url, *durations)
    try:
        output = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=warm_up + seconds + _MARGIN,
            check=True,
        ).stdout
    except subprocess.TimeoutExpired:
        raise LoadError("h2load did not end: not every connection was taken") from None
    check(output)
    match = re.search(r", ([0-9.]+) req/s", output)
    assert match is not None, output
    return float(match[1])


def slowest_request(url: str, load: Load, count: int) -> float:
    """Make ``count`` requests at once; the milliseconds until the last of them was answered.

    :raises LoadError: not every request was answered, over HTTP/2 and with 2xx.
    """
    command = load.command(url, "-n", str(count))
    output = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    check(output)
    match = re.search(r"time for request: +\S+ +([0-9.]+)(us|ms|s) ", output)
    assert match is not None, output
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1_000.0}[match[2]]


def check(output: str) -> None:
    """Raise `LoadError` unless the output of h2load tells of answers, and of nothing else."""
    if "Application protocol: h2" not in output:
        raise LoadError("no connection over HTTP/2")
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)[,\n]", output)}
    if not counts["2xx"]:
        raise LoadError("no request was answered with 2xx")
    faults = {name: counts[name] for name in ("4xx", "5xx", "failed", "errored", "timeout")}
    if any(faults.values()):
        found = ", ".join(f"{count} {name}" for name, count in faults.items() if count)
        raise LoadError(f"of {counts['done']} requests: {found}")
