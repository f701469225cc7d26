"""Proxies in front of the server, each configured as a sensible operator would.

They speak HTTP/2 in cleartext to the server, over connections that they share
between their clients. A proxy that is listed twice differs in its retry policy.
"""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port, running


@dataclass
class Proxy:
    """A proxy that runs.

    :param retries: reads from its statistics how often it has repeated a request;
        None where it has no such figure.
    """

    port: int
    log: Path
    retries: Callable[[], int] | None = None


@contextmanager
def nghttpx(upstream: int, directory: Path) -> Iterator[Proxy]:
    """nghttpx repeats what the server has not begun; there is nothing to be set."""
    port = free_port()
    command = ["nghttpx", "--conf=/dev/null", "--workers=1", "--log-level=NOTICE"]
    command += [f"--frontend=127.0.0.1,{port};no-tls"]
    command += [f"--backend=127.0.0.1,{upstream};;proto=h2"]
    with running(command, port, directory) as program:
        yield Proxy(port, program.log)


#: dontlog-normal: only what failed or was repeated.
_HAPROXY = """\
global
    log stdout format raw local0
    stats socket {socket} mode 600 level user
defaults
    mode http
    log global
    option httplog
    option dontlog-normal
    option redispatch
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 3
frontend in
    bind 127.0.0.1:{port}
    default_backend app
backend app
    server app 127.0.0.1:{upstream} proto h2
{retry}"""
#: The reasons for which a request is repeated that the server has not begun, and for
#: GET and its like those where it may have.
_HAPROXY_RETRY = """\
    retry-on conn-failure empty-response response-timeout
    http-request disable-l7-retry if METH_POST
"""


@contextmanager
def _haproxy(upstream: int, directory: Path, retry: str) -> Iterator[Proxy]:
    port, path, config = free_port(), directory / "haproxy.sock", directory / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=upstream, retry=retry, socket=path))

    def retries() -> int:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(path))
            stats.sendall(b"show stat\n")
            text = stats.makefile().read()
        names, *rows = (line.split(",") for line in text.splitlines() if line)
        return next(int(row[names.index("wretr")]) for row in rows if row[:2] == ["app", "app"])

    with running(["haproxy", "-db", "-f", str(config)], port, directory) as program:
        yield Proxy(port, program.log, retries)


@contextmanager
def haproxy(upstream: int, directory: Path) -> Iterator[Proxy]:
    """HAProxy, repeating only what found no connection: its default."""
    with _haproxy(upstream, directory, "") as proxy:
        yield proxy


@contextmanager
def haproxy_retry(upstream: int, directory: Path) -> Iterator[Proxy]:
    """HAProxy with ``retry-on``."""
    with _haproxy(upstream, directory, _HAPROXY_RETRY) as proxy:
        yield proxy


_CADDY = """\
{{
    admin off
    auto_https off
}}
http://:{port} {{
    reverse_proxy h2c://127.0.0.1:{upstream} {{
        {retry}
    }}
}}
"""


@contextmanager
def _caddy(upstream: int, directory: Path, retry: str) -> Iterator[Proxy]:
    port, config = free_port(), directory / "Caddyfile"
    config.write_text(_CADDY.format(port=port, upstream=upstream, retry=retry))
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(config)]
    with running(command, port, directory) as program:
        yield Proxy(port, program.log)


@contextmanager
def caddy(upstream: int, directory: Path) -> Iterator[Proxy]:
    """Caddy as it comes; Go's client repeats what the server has not begun.

    2.6 does so with bodies that it has closed already: some POSTs are answered with 502
    that found a connection on which GOAWAY had just come ("invalid Read on closed Body").
    """
    with _caddy(upstream, directory, "") as proxy:
        yield proxy


@contextmanager
def caddy_retry(upstream: int, directory: Path) -> Iterator[Proxy]:
    """Caddy with ``lb_try_duration``, which also repeats a GET that failed."""
    with _caddy(upstream, directory, "lb_try_duration 5s") as proxy:
        yield proxy


#: What is safe for every method: the server has not begun the request.
_ENVOY_RETRY = {"retry_on": "connect-failure,refused-stream,reset-before-request", "num_retries": 3}
_NO_LIMIT: dict[str, int] = {}
_TYPES = "type.googleapis.com/envoy.extensions"


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_config(
    port: int, upstream: int, admin: int, limit: dict[str, int], retry: bool
) -> dict[str, object]:
    route = {"cluster": "app", **({"retry_policy": _ENVOY_RETRY} if retry else {})}
    text = "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %REQ(:METHOD)%\n"
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
        "access_log": [
            {
                "name": "failed",
                "filter": {"response_flag_filter": {}},
                "typed_config": {
                    "@type": f"{_TYPES}.access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": {"text_format_source": {"inline_string": text}},
                },
            }
        ],
    }
    filters = [{"name": "http", "typed_config": manager}]
    endpoint = {"endpoint": {"address": _address(upstream)}}
    protocol = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": limit},
    }
    cluster = {
        "name": "app",
        # 3 at a time by default, which is less than one connection's requests.
        "circuit_breakers": {"thresholds": [{"max_retries": 1000}]},
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": protocol
        },
        "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": filters}]}
    return {
        "admin": {"address": _address(admin)},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }


@contextmanager
def _envoy(
    upstream: int, directory: Path, limit: dict[str, int] = _NO_LIMIT, retry: bool = False
) -> Iterator[Proxy]:
    port, admin, config = free_port(), free_port(), directory / "envoy.json"
    config.write_text(json.dumps(_envoy_config(port, upstream, admin, limit, retry)))

    def retries() -> int:
        url = f"http://127.0.0.1:{admin}/stats?filter=cluster.app.upstream_rq_retry$"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.read().split(b":")[1])

    command = ["envoy", "-c", str(config), "--concurrency", "1", "--log-level", "warning"]
    with running(command, port, directory) as program:
        yield Proxy(port, program.log, retries)


@contextmanager
def envoy(upstream: int, directory: Path) -> Iterator[Proxy]:
    """Envoy as it comes: no retry policy, and 1,024 streams until it knows the server's limit."""
    with _envoy(upstream, directory) as proxy:
        yield proxy


@contextmanager
def envoy_limit(upstream: int, directory: Path) -> Iterator[Proxy]:
    """Envoy that is told the server's limit of streams.

    What is queued in it when GOAWAY comes it still refuses: only the retry policy helps.
    """
    with _envoy(upstream, directory, limit={"max_concurrent_streams": 100}) as proxy:
        yield proxy


@contextmanager
def envoy_retry(upstream: int, directory: Path) -> Iterator[Proxy]:
    """Envoy with a retry policy."""
    with _envoy(upstream, directory, retry=True) as proxy:
        yield proxy
