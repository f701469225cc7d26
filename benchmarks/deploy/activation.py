"""A service manager with socket activation, as systemd is with a .socket unit.

    python -m benchmarks.deploy.activation ARGUMENT...

Holds the listening socket for as long as it runs and starts ``python ARGUMENT...``
with it. On HUP it restarts the service: TERM, and once that has ended, a new start;
on TERM it ends the service and itself.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

#: Where the service expects the first of its sockets (sd_listen_fds(3)).
_LISTEN_FDS_START = 3
#: Only the process itself knows its pid before it runs.
_SET_PID = 'LISTEN_PID=$$ exec "$@"'

#: Blocked rather than handled: one is taken after the other.
_SIGNALS = [signal.SIGHUP, signal.SIGTERM]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the service on the socket that waits for it."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _SET_PID, "service", sys.executable, *arguments],
        env={**os.environ, "LISTEN_FDS": "1"},
        pass_fds=[_LISTEN_FDS_START],
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS),
    )


def main() -> int:
    """Run until TERM; return the exit status of the service."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        if listener.fileno() != _LISTEN_FDS_START:
            os.dup2(listener.fileno(), _LISTEN_FDS_START)
        service = start(sys.argv[1:])
        while True:
            received = signal.sigwait(_SIGNALS)
            service.terminate()
            status = service.wait()
            if received == signal.SIGTERM:
                return status
            service = start(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
