"""Rows 1, 2, 3 and 36: peers that never get as far as a request, or choose another protocol."""

from __future__ import annotations

import ssl
import time
import warnings
from contextlib import ExitStack

import pytest
from hyperframe.frame import SettingsFrame

from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client
from tests.support.wire import PREFACE, ErrorCode, settings_frame

from .conftest import TIMER, TIMER_MARGIN, StartTarget, Watched
from .peers import want_end
from .watch import Watch

#: The preface cut where it could still be HTTP/1.1, and where it could not.
BEGINNINGS = {
    "nothing": b"",
    "half a preface": PREFACE[:12],
    "all but a byte of the preface": PREFACE[:-1],
    "a preface": PREFACE,
    "a preface and half of SETTINGS": PREFACE + settings_frame({1: 1})[:10],
}


def test_row_01_falls_silent(watch: Watch) -> None:
    with ExitStack() as stack:
        clients = {what: stack.enter_context(RawClient(watch.server)) for what in BEGINNINGS}
        for what, client in clients.items():
            client.write_bytes(BEGINNINGS[what])
        start = time.monotonic()
        for client in clients.values():
            client.want_closed(timeout=TIMER + TIMER_MARGIN)
            assert time.monotonic() - start > TIMER / 2
    watch.note(closed_after=f"{time.monotonic() - start:.1f} s")


def test_row_01_never_begins_the_tls_handshake(start_target: StartTarget, watched: Watched) -> None:
    with watched(start_target(tls=True)) as watch, watch.server.connect() as plain:
        plain.settimeout(TIMER + TIMER_MARGIN)
        assert plain.recv(1) == b""


def test_row_02_never_acknowledges_settings(watch: Watch) -> None:
    with RawClient(watch.server).greet(ack=False) as client:
        assert client.request(path="/hello").status == 200
        start = time.monotonic()
        want_end(client, ErrorCode.SETTINGS_TIMEOUT, timeout=TIMER + TIMER_MARGIN)
        watch.note(closed_after=f"{time.monotonic() - start:.1f} s")


def test_row_03_wrong_preface_over_tls_is_closed(
    start_target: StartTarget, watched: Watched
) -> None:
    with watched(start_target(tls=True)) as watch, RawClient(watch.server) as client:
        client.write_bytes(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + settings_frame())
        frames = want_end(client, ErrorCode.PROTOCOL_ERROR)
        assert all(isinstance(frame, SettingsFrame) or not frame.stream_id for frame in frames)


@pytest.mark.parametrize("last_line", [b"XX", b"SM\r\nX"])
def test_row_03_wrong_preface_in_cleartext_is_http1(
    start_target: StartTarget, watched: Watched, last_line: bytes
) -> None:
    with watched(start_target(tls=False)) as watch, Http1Client(watch.server) as client:
        watch.expects_warnings = True
        client.send(b"PRI * HTTP/2.0\r\n\r\n" + last_line + b"\r\n\r\n")
        assert client.response().status == 400
        client.sock.settimeout(TIMER + TIMER_MARGIN)
        client.read_to_end()


def test_row_36_tls_1_1_is_refused(
    start_target: StartTarget, watched: Watched, certs: Certs
) -> None:
    context = certs.client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    # OpenSSL's level 1 forbids it to the client already.
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        watched(start_target(tls=True)) as watch,
        watch.server.connect() as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname="localhost")


@pytest.mark.parametrize("alpn", [[], ["http/1.1"], ["spdy/3", "http/1.1"]], ids=str)
def test_row_36_without_h2_in_alpn_it_is_http1(
    start_target: StartTarget, watched: Watched, certs: Certs, alpn: list[str]
) -> None:
    context = certs.client_context(alpn)
    with (
        watched(start_target(tls=True)) as watch,
        Http1Client(watch.server, context=context) as client,
    ):
        assert client.get("/hello").head.startswith(b"HTTP/1.1 200")
