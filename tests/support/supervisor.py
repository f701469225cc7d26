"""An example of a supervisor's configuration, made to run in a temporary directory."""

from __future__ import annotations

import getpass
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from . import gunicorn_version
from .proc import processes
from .server import ROOT, wait_until

#: Seconds for a start or a restart; nothing is learned from a slow machine.
TIMEOUT = 30

#: What the examples expect in /srv/app.
CONF = """
wsgi_app = "tests.support.apps:app"
worker_class = "gunicorn_h2.H2Worker"
bind = "127.0.0.1:{port}"
graceful_timeout = 15
"""


class Site:
    """The directory that stands for /srv/app, with the configuration of Gunicorn in it."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        conf = CONF.format(port=port)
        if gunicorn_version() >= (25, 1):
            conf += "control_socket_disable = True\n"
        (directory / "gunicorn.conf.py").write_text(conf)

    def adapt(self, example: str) -> str:
        """Return the text of an example with its paths and its user replaced by ours."""
        text = (ROOT / "examples" / example).read_text()
        for theirs, ours in {
            "/srv/app/.venv/bin/gunicorn": f"{sys.executable} -m gunicorn",
            "/srv/app": str(self.directory),
            "/var/log/supervisor/": f"{self.directory}/",
            "/run/supervisor": f"{self.directory}/supervisor",
            "www-data": getpass.getuser(),
        }.items():
            text = text.replace(theirs, ours)
        return text

    def get(self, path: str) -> bytes:
        """Make one request over HTTP/1.1, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            assert response.status == 200
            return response.read()
        finally:
            connection.close()

    def worker(self) -> int:
        """Return the pid of a worker that answers."""
        return int(self.get("/pid"))

    def is_up(self) -> bool:
        """Whether a connection is taken."""
        try:
            socket.create_connection(("127.0.0.1", self.port), TIMEOUT).close()
        except ConnectionRefusedError:
            return False
        return True


class Supervisord:
    """A supervisord that runs the program of examples/supervisord.conf."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._conf = site.directory / "supervisord.conf"
        self._conf.write_text(site.adapt("supervisord.conf"))
        with open(site.directory / "output", "wb") as output:
            self._process = subprocess.Popen(
                self._command("supervisord"),
                env=site.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        #: Process groups, one for each master there was.
        self._groups: set[int] = set()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait()
            for each in processes():
                if each.group in self._groups:
                    os.kill(each.pid, signal.SIGKILL)

    def control(self, *arguments: str) -> str:
        """Run supervisorctl; return what it prints."""
        run = subprocess.run(
            [*self._command("supervisorctl"), *arguments],
            env=self.site.environment,
            capture_output=True,
            text=True,
            timeout=2 * TIMEOUT,
        )
        return run.stdout + run.stderr

    def master(self) -> int:
        """Return the pid of the program, 0 where it does not run."""
        answer = self.control("pid", "app").strip()
        pid = int(answer) if answer.isdigit() else 0
        if pid:
            self._groups.add(pid)
        return pid

    def wait_running(self) -> None:
        wait_until(lambda: " RUNNING " in self.control("status", "app"), TIMEOUT, "RUNNING")
        wait_until(self.site.is_up, TIMEOUT, "the listener")
        self.master()

    def _command(self, name: str) -> list[str]:
        return [sys.executable, "-m", f"supervisor.{name}", "-c", str(self._conf)]
