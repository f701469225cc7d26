"""Programs that are started for a measurement, and end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.server import ROOT, wait_until

#: Seconds.
_BOOT_TIMEOUT = 20.0
_STOP_TIMEOUT = 5.0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Program:
    """A program that runs.

    :param log: what it prints.
    """

    pid: int
    log: Path


@contextmanager
def running(command: list[str], port: int, directory: Path) -> Iterator[Program]:
    """Run a program, from when it listens until the block ends.

    :param directory: its home, where its log is too.
    """
    log = directory / f"{Path(command[0]).name}.log"
    home = {"HOME": str(directory), "XDG_DATA_HOME": str(directory), "PYTHONPATH": str(ROOT)}
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **home},
            start_new_session=True,
        )

    def listens() -> bool:
        text = log.read_text(errors="replace")
        assert process.poll() is None, f"{command[0]} has ended: {text}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, _BOOT_TIMEOUT, f"{command[0]} to listen")
        yield Program(process.pid, log)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT)
        # It, if it did not end, and those of its children that outlived it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
