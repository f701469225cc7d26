"""A connection whose transport has gone leaves nothing behind, and takes what is still called."""

from __future__ import annotations

import gc
import weakref

from gunicorn_h2.connection import Connection
from gunicorn_h2.settings import Settings
from tests.support import wire
from tests.support.core import Recorder
from tests.support.wire import PREFACE


def lost_connection() -> Connection:
    """One that has served something, and has something to send."""
    connection = Connection(Settings(), Recorder(), 0.0)
    connection.receive(PREFACE + wire.settings_frame(), 0.0)
    connection.receive(wire.headers_frames(1, b"\x82\x86\x84\x01\x01a"), 0.0)
    connection.streams.clear()
    connection.release()
    return connection


def test_its_memory_is_free_at_once() -> None:
    gc.collect()
    gc.disable()
    try:
        reference = weakref.ref(lost_connection())
        assert reference() is None
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_nothing_happens_any_more() -> None:
    connection = lost_connection()
    connection.release()
    connection.receive(wire.ping_frame(), 1.0)
    connection.ping(bytes(8))
    connection.announce_goaway(last=True)
    connection.tick(1.0)
    assert connection.failed
    assert connection.bytes_to_send(1_000, 1.0) == b""
