"""Where the worker spends its time in a workload, as a flame graph (py-spy)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.certs import Certs

from .servers import Target, gunicorn
from .workloads import Workload

_RATE = 200
#: Seconds that py-spy may need to write its file.
_MARGIN = 60.0


def profile(workload: Workload, seconds: float, certs: Certs, output: Path) -> None:
    """Write the flame graph of all of the worker's threads that run.

    Needs the right to trace the worker: root, or ``kernel.yama.ptrace_scope`` 0.
    """
    with (
        tempfile.TemporaryDirectory() as directory,
        gunicorn(certs, workload.threads) as server,
    ):
        command = [str(Path(sys.executable).with_name("py-spy")), "record"]
        command += ["--pid", str(server.worker_pid), "--rate", str(_RATE), "--threads"]
        command += ["--duration", f"{max(1, round(seconds))}", "--output", str(output)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as spy:
            try:
                workload.run(Target(server.port, certs), seconds, Path(directory))
                status = spy.wait(_MARGIN)
            finally:
                spy.kill()
        if status:
            raise subprocess.CalledProcessError(status, command)
