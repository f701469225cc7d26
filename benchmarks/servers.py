"""The servers that are compared: ours, and every peer that is installed.

Each runs `benchmarks.apps:app` in one worker process behind TLS, without an access
log, and with the same number of threads where it has any: Hypercorn runs WSGI on the
default executor of asyncio, whose size is not to be set, and the bare loop on none.
What closes a connection after so many requests is set out of reach.
"""

from __future__ import annotations

import getpass
import importlib.util
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.server import Server

from .processes import free_port, running

APPLICATION = "benchmarks.apps:app"
OURS = "gunicorn_h2"
BARE = "bare h2 loop"


@dataclass(frozen=True)
class Target:
    """A server that runs, on loopback and over TLS.

    :param pid: the process that runs the application, where that is known.
    """

    port: int
    certs: Certs
    tls: bool = True
    pid: int | None = None

    @property
    def url(self) -> str:
        """The base URL; the certificate names the address."""
        return f"https://127.0.0.1:{self.port}"

    def connect(self, _: object, timeout: float) -> socket.socket:
        """As `Server` connects its `RawClient`."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def client(self) -> RawClient:
        """A raw-frame client that has greeted the server."""
        return RawClient(cast(Server, self)).greet()


#: Called with the certificates, the number of threads, and a directory for its files.
Start = Callable[[Certs, int, Path], AbstractContextManager[Target]]


@dataclass(frozen=True)
class Contestant:
    """A server that may be installed.

    :param modules: what of Python it needs.
    :param commands: what else it needs.
    :param paths: all that it serves, where that is not the application.
    """

    start: Start
    modules: Sequence[str] = ()
    commands: Sequence[str] = ()
    paths: frozenset[str] | None = None

    def missing(self) -> list[str]:
        """What it needs and is not installed."""
        modules = [each for each in self.modules if importlib.util.find_spec(each) is None]
        return modules + [each for each in self.commands if shutil.which(each) is None]


def gunicorn(
    certs: Certs | None,
    threads: int,
    *,
    worker_class: str = "gunicorn_h2.H2Worker",
    tls: bool = True,
    workers: int = 1,
    args: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Server:
    """Gunicorn with one of its worker classes, by default ours, to be started by ``with``."""
    return Server(
        APPLICATION,
        worker_class=worker_class,
        tls=tls,
        certs=certs,
        threads=threads,
        workers=workers,
        graceful_timeout=1,
        access_logged=False,
        args=args,
        env=env,
    )


@contextmanager
def _ours(certs: Certs, threads: int, _: Path) -> Iterator[Target]:
    with gunicorn(certs, threads) as server:
        yield Target(server.port, certs, pid=server.worker_pid)


def _gunicorn(worker_class: str) -> Start:
    """Gunicorn's own HTTP/2."""

    @contextmanager
    def start(certs: Certs, threads: int, _: Path) -> Iterator[Target]:
        args = ["--http-protocols", "h2,h1"]
        with gunicorn(certs, threads, worker_class=worker_class, args=args) as server:
            yield Target(server.port, certs, pid=server.worker_pid)

    return start


def _uvloop() -> bool:
    return importlib.util.find_spec("uvloop") is not None


@contextmanager
def _hypercorn(certs: Certs, _: int, directory: Path) -> Iterator[Target]:
    port, config = free_port(), directory / "hypercorn.toml"
    config.write_text("keep_alive_max_requests = 1000000000\n")
    command = [sys.executable, "-m", "hypercorn", "--config", str(config)]
    command += ["--worker-class", "uvloop" if _uvloop() else "asyncio"]
    # Without a worker beside it the process that is started serves.
    command += ["--bind", f"127.0.0.1:{port}", "--workers", "0"]
    command += ["--certfile", str(certs.cert), "--keyfile", str(certs.key)]
    with running([*command, f"wsgi:{APPLICATION}"], port, directory) as program:
        yield Target(port, certs, pid=program.pid)


@contextmanager
def _granian(certs: Certs, threads: int, directory: Path) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "wsgi", "--http", "2", "--no-ws"]
    command += ["--blocking-threads", str(threads), "--port", str(port)]
    command += ["--ssl-certificate", str(certs.cert), "--ssl-keyfile", str(certs.key)]
    with running([*command, APPLICATION], port, directory):
        yield Target(port, certs)


@contextmanager
def _pyvoy(certs: Certs, threads: int, directory: Path) -> Iterator[Target]:
    port = free_port()
    # It cannot be run by ``python -m``.
    command = [str(Path(sys.executable).with_name("pyvoy"))]
    command += ["--interface", "wsgi", "--worker-threads", str(threads), "--port", str(port)]
    command += ["--tls-cert", str(certs.cert), "--tls-key", str(certs.key)]
    with running([*command, "--tls-disable-http3", APPLICATION], port, directory):
        yield Target(port, certs)


@contextmanager
def _upstream(threads: int) -> Iterator[int]:
    """Gunicorn as it is mostly run behind a proxy; its port."""
    args = ["--keep-alive", "60"]
    with gunicorn(None, threads, worker_class="gthread", tls=False, args=args) as server:
        yield server.port


_NGINX = """\
daemon off;
user {user};
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    upstream app {{
        server 127.0.0.1:{upstream};
        keepalive {threads};
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""


@contextmanager
def _nginx(certs: Certs, threads: int, directory: Path) -> Iterator[Target]:
    port, config = free_port(), directory / "nginx.conf"
    with _upstream(threads) as upstream:
        config.write_text(
            _NGINX.format(
                user=getpass.getuser(),
                directory=directory,
                threads=threads,
                upstream=upstream,
                port=port,
                cert=certs.cert,
                key=certs.key,
            )
        )
        command = ["nginx", "-p", str(directory), "-c", str(config)]
        with running(command, port, directory):
            yield Target(port, certs)


_CADDY = """\
{{
    admin off
    auto_https off
}}
https://:{port} {{
    bind 127.0.0.1
    tls {cert} {key}
    reverse_proxy 127.0.0.1:{upstream}
}}
"""


@contextmanager
def _caddy(certs: Certs, threads: int, directory: Path) -> Iterator[Target]:
    port, config = free_port(), directory / "Caddyfile"
    with _upstream(threads) as upstream:
        config.write_text(
            _CADDY.format(port=port, upstream=upstream, cert=certs.cert, key=certs.key)
        )
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
        with running(command, port, directory):
            yield Target(port, certs)


@contextmanager
def _bare(certs: Certs, _: int, directory: Path) -> Iterator[Target]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare_h2", str(port)]
    with running([*command, str(certs.cert), str(certs.key)], port, directory):
        yield Target(port, certs)


CONTESTANTS: dict[str, Contestant] = {
    OURS: Contestant(_ours),
    "Gunicorn gthread": Contestant(_gunicorn("gthread")),
    "Gunicorn gevent": Contestant(_gunicorn("gevent"), modules=["gevent"]),
    "Hypercorn": Contestant(_hypercorn, modules=["hypercorn"]),
    "granian": Contestant(_granian, modules=["granian"]),
    "pyvoy": Contestant(_pyvoy, modules=["pyvoy"]),
    "nginx + gthread": Contestant(_nginx, commands=["nginx"]),
    "Caddy + gthread": Contestant(_caddy, commands=["caddy"]),
    BARE: Contestant(_bare, paths=frozenset({"/hello", "/1mb", "/upload"})),
}
