"""Uploads over a long path: windows grow, so that there is no wait after each 64 KiB."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.processes import free_port, running
from tests.conftest import Serve
from tests.support.certs import Certs
from tests.support.http_client import client
from tests.support.server import Server
from tests.support.wire import DEFAULT_WINDOW

SIZE = 3 << 20


def seconds_far_away(server: Server, certs: Certs, directory: Path) -> float:
    """What an upload takes on a warm connection over a path of 50 ms there and back."""
    port = free_port()
    relay = [sys.executable, "-m", "benchmarks.relay", str(port), str(server.port), "25", "inf"]
    with (
        running(relay, port, directory),
        client(certs, f"https://127.0.0.1:{port}", http2=True) as http,
    ):
        assert http.get("/hello").status_code == 200
        start = time.monotonic()
        response = http.post("/read", content=bytes(SIZE))
        elapsed = time.monotonic() - start
    assert response.json()["count"] == SIZE
    return elapsed


def test_an_upload_over_a_long_path(serve: Serve, certs: Certs, tmp_path: Path) -> None:
    """It takes a fraction of what it takes where the windows have no room to grow."""
    no_room = {"GUNICORN_H2_CONNECTION_WINDOW_SIZE": str(DEFAULT_WINDOW)}
    fixed = seconds_far_away(serve(tls=True, env=no_room), certs, tmp_path)
    assert seconds_far_away(serve(tls=True), certs, tmp_path) < fixed / 2
