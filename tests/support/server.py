"""A real Gunicorn process on loopback, for as long as a ``with`` block lasts."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from . import gunicorn_version
from .certs import Certs
from .proc import fd_count, processes, rss, thread_count

ROOT = Path(__file__).resolve().parents[2]

#: Seconds: generous, because nothing is learned from a slow machine.
BOOT_TIMEOUT = 30.0
STOP_MARGIN = 15.0
WAIT_TIMEOUT = 10.0
POLL_INTERVAL = 0.01

#: (host, port), or the path of a Unix socket.
Address = tuple[str, int] | str

# Only a worker knows when it has booted, and only a hook can make it say so.
READY_HOOK = """
import os as _ready_os
_conf_post_worker_init = globals().get("post_worker_init")

def post_worker_init(worker):
    if _conf_post_worker_init is not None:
        _conf_post_worker_init(worker)
    open(_ready_os.path.join({directory!r}, str(_ready_os.getpid())), "w").close()
"""

# Ends the process group when the tests die without a chance to: the end of its
# standard input comes even then. A session of its own keeps it out of their fate.
GUARD = 'read -r _; kill -s KILL -- "-$1"; rm -rf -- "$2"'


class BootError(Exception):
    """The server did not come up; the text holds its log."""


def wait_until(
    condition: Callable[[], object], timeout: float = WAIT_TIMEOUT, what: str = "the condition"
) -> None:
    """Poll until the condition is true; an AssertionError names `what` if it never is."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(POLL_INTERVAL)


class Server:
    """One Gunicorn master and its workers, in a process group of their own.

    :param app: the application, as Gunicorn takes it.
    :param worker_class: any worker class; others serve for comparison.
    :param tls: serve TLS with the certificates of `certs`.
    :param args: further command line arguments; they win over everything here.
        With a ``-c`` of its own the server is ready once it takes a connection.
    :param conf: the text of a configuration file.
    :param env: added to this process' environment.
    :param bind: one address or several; ``unix:`` alone is a path made up here.
    :param threads: left to Gunicorn's default when None.
    :param python: arguments for the interpreter, before ``-m gunicorn``.
    :param access_logged: whether there is an access log.
    """

    def __init__(
        self,
        app: str = "tests.support.apps:app",
        *,
        worker_class: str = "gunicorn_h2.H2Worker",
        tls: bool = False,
        certs: Certs | None = None,
        args: Sequence[str] = (),
        conf: str | None = None,
        env: Mapping[str, str] | None = None,
        bind: str | Sequence[str] = "127.0.0.1:0",
        workers: int = 1,
        threads: int | None = None,
        graceful_timeout: int = 5,
        python: Sequence[str] = (),
        access_logged: bool = True,
    ) -> None:
        if tls and certs is None:
            raise ValueError("a TLS server needs certs")
        self.app = app
        self.worker_class = worker_class
        self.tls = tls
        self.certs = certs
        self.args = list(args)
        self.conf = conf or ""
        self.env = dict(env or {})
        self.binds = [bind] if isinstance(bind, str) else list(bind)
        self.workers = workers
        self.threads = threads
        self.graceful_timeout = graceful_timeout
        self.python = list(python)
        self.access_logged = access_logged
        #: Every address it listens on, in the order of `bind`.
        self.addresses: list[Address] = []
        #: True when TERM was not enough to end it.
        self.killed = False
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._final_texts: dict[str, str] = {}

    # -- life ---------------------------------------------------------------

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Server:
        """Spawn the server and return once its workers have booted and accept."""
        self._directory = tempfile.TemporaryDirectory(prefix="gunicorn-h2-")
        directory = Path(self._directory.name)
        (directory / "ready").mkdir()
        hook = READY_HOOK.format(directory=str(directory / "ready"))
        (directory / "gunicorn.conf.py").write_text(f"{self.conf}\n{hook}")
        environment = {**os.environ, **self.env}
        if "GUNICORN_CMD_ARGS" not in self.env:
            environment.pop("GUNICORN_CMD_ARGS", None)
        try:
            with (
                open(directory / "stderr", "wb") as stderr,
                open(directory / "stdout", "wb") as out,
            ):
                self._process = subprocess.Popen(
                    self._command(directory),
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=stderr,
                    start_new_session=True,
                )
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", GUARD, "guard", str(self._process.pid), str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._wait_for_boot(time.monotonic() + BOOT_TIMEOUT)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, margin: float = STOP_MARGIN) -> int:
        """End the server, with TERM and then with KILL; return its exit status.

        :param margin: seconds it gets for its end beyond `graceful_timeout`.
        """
        if self._process is None:
            return 0
        try:
            if self._process.poll() is None:
                self._process.terminate()
                try:
                    self._process.wait(self.graceful_timeout + margin)
                except subprocess.TimeoutExpired:
                    self.killed = True
        finally:
            # Still unreaped if it hangs, so that the group id is ours for certain.
            for pid in self._group():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue  # it ended by itself meanwhile
            status = self._process.wait()
            self._clean_up()
        return status

    def signal(self, signum: int) -> None:
        """Send a signal to the master."""
        os.kill(self.master_pid, signum)

    def wait_exit(self, timeout: float = BOOT_TIMEOUT) -> int:
        """Wait until the master ends by itself; return its exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    # -- where --------------------------------------------------------------

    @property
    def host(self) -> str:
        return self._tcp_address[0]

    @property
    def port(self) -> int:
        return self._tcp_address[1]

    @property
    def url(self) -> str:
        """Return the base URL, without a slash; ``localhost`` is in the certificate."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def connect(self, address: Address | None = None, timeout: float = 10.0) -> socket.socket:
        """Return a plain, connected socket to one address, by default the first."""
        address = self.addresses[0] if address is None else address
        if not isinstance(address, str):
            connection = socket.create_connection(address, timeout)
            # As every client of HTTP/2 does: else each small request waits for an ACK.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout)
        try:
            connection.connect(address)
        except BaseException:
            connection.close()
            raise
        return connection

    # -- processes ----------------------------------------------------------

    @property
    def master_pid(self) -> int:
        assert self._process is not None, "the server was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def worker_pids(self) -> list[int]:
        """Return the pids of the master's children, oldest first."""
        return sorted(each.pid for each in processes() if each.parent == self.master_pid)

    @property
    def worker_pid(self) -> int:
        """Return the pid of the only worker."""
        (pid,) = self.worker_pids()
        return pid

    def booted_pids(self) -> set[int]:
        """Return the pids of all workers that ever finished booting."""
        return {int(name) for name in os.listdir(self._path("ready"))}

    def rss(self, pid: int | None = None) -> int:
        """Return the resident memory in bytes, by default of the only worker."""
        return rss(self.worker_pid if pid is None else pid)

    def thread_count(self, pid: int | None = None) -> int:
        return thread_count(self.worker_pid if pid is None else pid)

    def fd_count(self, pid: int | None = None) -> int:
        return fd_count(self.worker_pid if pid is None else pid)

    # -- logs (readable after stop() too) -----------------------------------

    def log(self) -> str:
        """Return the error log and whatever else was written to stderr."""
        return self._text("stderr")

    def access_log(self) -> str:
        return self._text("access.log")

    def stdout(self) -> str:
        return self._text("stdout")

    def wait_log(self, pattern: str, timeout: float = WAIT_TIMEOUT) -> re.Match[str]:
        """Wait until the regular expression is found in the error log."""
        return self._wait_text(self.log, pattern, timeout)

    def wait_access_log(self, pattern: str, timeout: float = WAIT_TIMEOUT) -> re.Match[str]:
        """Wait until the regular expression is found in the access log."""
        return self._wait_text(self.access_log, pattern, timeout)

    # -- inside -------------------------------------------------------------

    def _command(self, directory: Path) -> list[str]:
        command = [sys.executable, *self.python, "-m", "gunicorn"]
        command += ["-c", str(directory / "gunicorn.conf.py"), "-k", self.worker_class]
        command += ["--workers", str(self.workers)]
        command += ["--graceful-timeout", str(self.graceful_timeout)]
        if self.access_logged:
            command += ["--access-logfile", str(directory / "access.log")]
        if self.threads is not None:
            command += ["--threads", str(self.threads)]
        for bind in self.binds:
            made_up = f"unix:{directory / 'gunicorn.sock'}"
            command += ["--bind", made_up if bind == "unix:" else bind]
        if self.tls:
            assert self.certs is not None
            command += ["--certfile", str(self.certs.cert), "--keyfile", str(self.certs.key)]
        if gunicorn_version() >= (25, 1):
            command.append("--no-control-socket")
        return [*command, *self.args, self.app]

    def _wait_for_boot(self, deadline: float) -> None:
        own_conf = not {"-c", "--config"}.intersection(self.args)
        while not self.addresses or (own_conf and len(self.booted_pids()) < self.workers):
            if not self.running:
                raise BootError(f"the server ended\n{self.log()}")
            if time.monotonic() > deadline:
                raise BootError(f"no worker has booted\n{self.log()}")
            listening = re.search(r"Listening at: (.+) \(\d+\)$", self.log(), re.MULTILINE)
            if listening is not None:
                self.addresses = [parse_address(each) for each in listening[1].split(",")]
            time.sleep(POLL_INTERVAL)
        for address in self.addresses:
            self._probe(address, deadline)

    def _probe(self, address: Address, deadline: float) -> None:
        """See a worker take a connection and drop it when we hang up.

        The kernel completes a connect by itself; the peer's end of file does not
        come before the worker has run, and leaves no connection behind.
        """
        with self.connect(address, max(deadline - time.monotonic(), 0.1)) as probe:
            try:
                probe.shutdown(socket.SHUT_WR)
                while probe.recv(4096):
                    pass
            except TimeoutError as error:
                raise BootError(f"{address} accepts no connection\n{self.log()}") from error
            except ConnectionResetError:
                return  # dropped, if not politely

    def _group(self) -> list[int]:
        return [each.pid for each in processes() if each.group == self.master_pid]

    @property
    def _tcp_address(self) -> tuple[str, int]:
        return next(each for each in self.addresses if not isinstance(each, str))

    def _path(self, name: str) -> Path:
        assert self._directory is not None, "the server is not running"
        return Path(self._directory.name) / name

    def _text(self, name: str) -> str:
        if self._directory is None:
            return self._final_texts.get(name, "")
        path = self._path(name)
        return path.read_text(errors="backslashreplace") if path.exists() else ""

    def _wait_text(self, text: Callable[[], str], pattern: str, timeout: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while (match := re.search(pattern, text(), re.MULTILINE)) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} is not in\n{text()}")
            time.sleep(POLL_INTERVAL)
        return match

    def _clean_up(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        if self._directory is not None:
            for name in ("stderr", "stdout", "access.log"):
                self._final_texts[name] = self._text(name)
            self._directory.cleanup()
            self._directory = None


def parse_address(text: str) -> Address:
    """Parse an address as Gunicorn logs it: ``http://[::1]:80`` or ``unix:/path``."""
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.partition("://")[2].rpartition(":")
    return host.strip("[]"), int(port)
