"""Rows 5, 6, 7, 14 and 15: much of what is cheap to send and dear to take."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hyperframe.frame import RstStreamFrame

from tests.conftest import Serve
from tests.support import LONG, wire
from tests.support.frames import RawClient
from tests.support.rawconn import FieldInput
from tests.support.wire import ErrorCode, FrameType, Setting

from .conftest import Report
from .peers import MAX_WINDOW, want_calm, want_end, want_well
from .watch import CROWD, Watch, crowd, kib

#: What one connection may make us hold by announcing a frame.
HELD_LIMIT = 64 << 10
#: Per `h2_flood_interval`: the defaults of the settings.
MAX_CONTROL_FRAMES = 1_000
MAX_EMPTY_DATA = 100
MAX_RESETS = 200
MAX_STREAMS = 100
#: Of our answers to a peer that does not read them.
ANSWERS_LIMIT = 64 << 10


# -- frames that are announced ---------------------------------------------------------------


ANNOUNCED = {
    "a byte too long": wire.frame(FrameType.DATA, 0, 1, length=16_385),
    "16 MB": wire.frame(FrameType.DATA, 0, 1, length=2**24 - 1),
    "a header block of 16 MB": wire.frame(FrameType.HEADERS, 0, 3, length=2**24 - 1),
}
#: As long as it may be, all but the last byte: there is nothing to refuse.
ALMOST_WHOLE = wire.frame(FrameType.HEADERS, 0, 3, bytes(16_383), length=16_384)


@pytest.mark.parametrize("kind", ANNOUNCED)
def test_row_05_oversize_frame_is_refused_on_its_ninth_byte(watch: Watch, kind: str) -> None:
    with crowd(watch.server, CROWD) as clients:
        for client in clients:
            client.headers(1, method="POST", path="/echo", end_stream=False)
            client.write_bytes(ANNOUNCED[kind])
        for client in clients:
            want_end(client, ErrorCode.FRAME_SIZE_ERROR)


@pytest.mark.parametrize("frame", [ANNOUNCED["16 MB"], ALMOST_WHOLE], ids=["refused", "whole"])
def test_row_05_what_is_held_of_frames_that_never_end(
    serve: Serve, tls: bool, report: Report, frame: bytes
) -> None:
    """On a server of its own: memory that is free, but was never given back, would hide it."""
    server = serve(tls=tls)
    with RawClient(server).greet() as client:
        want_well(client)
    with crowd(server, CROWD) as clients:
        before = server.rss()
        for client in clients:
            client.write_bytes(frame)
        with RawClient(server).greet() as client:
            want_well(client)
        held = server.rss() - before
    report(held_per_connection=kib(held // CROWD))
    assert held < CROWD * HELD_LIMIT


# -- control frames -----------------------------------------------------------------------------


def unknown_settings(first: int) -> bytes:
    return wire.settings_frame([(0x1000 + (first + each) % 0xE000, 1) for each in range(32)])


def test_row_06_too_many_settings_in_a_frame(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        client.settings([(Setting.INITIAL_WINDOW_SIZE, 65_535 + each) for each in range(32)])
        want_well(client)
        client.settings([(Setting.INITIAL_WINDOW_SIZE, 65_535 + each) for each in range(33)])
        want_calm(watch, client)


def test_row_06_unknown_settings_are_not_kept(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        client.write_bytes(b"".join(unknown_settings(32 * each) for each in range(900)))
        client.want_idle()
        watch.note(settings=900 * 32, held=kib(watch.growth))
        assert watch.growth < 1 << 20
        client.try_write(b"".join(unknown_settings(32 * each) for each in range(1_148)))
        want_calm(watch, client)


FLOODS: dict[str, tuple[bytes, int]] = {
    "SETTINGS": (wire.settings_frame({Setting.ENABLE_PUSH: 0}), MAX_CONTROL_FRAMES),
    "PING": (wire.ping_frame(), MAX_CONTROL_FRAMES),
    "PRIORITY": (wire.priority_frame(1, (0, 16, False)), MAX_CONTROL_FRAMES),
    "PRIORITY_UPDATE": (wire.priority_update_frame(1, "u=1"), MAX_CONTROL_FRAMES),
    "WINDOW_UPDATE of the connection": (wire.window_update_frame(0, 1), MAX_CONTROL_FRAMES),
    "WINDOW_UPDATE of a stream": (wire.window_update_frame(1, 1), MAX_CONTROL_FRAMES),
    "of an unknown type": (wire.frame(0x42, 0, 0, b"x"), MAX_CONTROL_FRAMES),
    "empty DATA": (wire.data_frame(1), MAX_EMPTY_DATA),
    "DATA that is all padding": (wire.data_frame(1, pad=100), MAX_EMPTY_DATA),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_row_07_frames_that_carry_nothing(watch: Watch, kind: str) -> None:
    """A tenth under the budget is fine; beyond it the connection ends, read from or not."""
    frame, budget = FLOODS[kind]
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.write_bytes(frame * (budget * 9 // 10))
        client.want_idle(RstStreamFrame)
        client.try_write(frame * 10 * budget)
        answers = want_calm(watch, client)
    size = sum(len(answer.serialize()) for answer in answers)
    watch.note(answers=kib(size))
    assert size < ANSWERS_LIMIT


def test_row_07_priorities_of_idle_streams(watch: Watch) -> None:
    """As many are kept as there may be streams; one more ends the connection."""
    with RawClient(watch.server).greet() as client:
        for stream_id in range(1_001, 1_001 + 2 * MAX_STREAMS, 2):
            client.priority_update(stream_id, "u=1")
        want_well(client)
        client.priority_update(1_001 + 2 * MAX_STREAMS, "u=1")
        want_end(client, ErrorCode.PROTOCOL_ERROR)


# -- resets -------------------------------------------------------------------------------------


def test_row_14_rapid_reset(watch: Watch) -> None:
    """HEADERS and RST_STREAM at once, again and again: few of them reach the application."""
    count = 10_000 if LONG else 2_000
    tag = f"rapid-{watch.server.tls}"
    with RawClient(watch.server).greet() as client:
        requests = [
            wire.headers_frames(stream_id, client.encode(client.request_fields(path=called(tag))))
            + wire.rst_stream_frame(stream_id)
            for stream_id in range(1, 2 * count, 2)
        ]
        client.try_write(b"".join(requests))
        want_calm(watch, client)
    calls = application_calls(watch, tag)
    watch.note(application_calls=calls)
    assert calls <= MAX_STREAMS + 4 * MAX_STREAMS


def test_row_14_a_browser_cancels_a_hundred_tiles(watch: Watch) -> None:
    """Scrolling on twice is no attack."""
    with RawClient(watch.server).greet() as client:
        for first in (1, 201):
            stream_ids = range(first, first + 2 * MAX_STREAMS - 2, 2)
            with client.one_write():
                for stream_id in stream_ids:
                    client.headers(stream_id, path="/stream?n=3&delay=0.01")
            with client.one_write():
                for stream_id in stream_ids:
                    client.rst(stream_id)
        assert client.request(path="/hello", stream_id=9_001).status == 200


def called(tag: str) -> str:
    """Of the path of a request that is counted."""
    return f"/wsgi/list?{tag}"


def application_calls(watch: Watch, tag: str) -> int:
    watch.target.want_idle_pool()
    with RawClient(watch.server).greet() as client:
        return int(client.request(path="/wsgi/called", extra=[("x-tag", tag)]).body)


Provoke = Callable[[RawClient, int], None]


def overflow_window(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, method="POST", end_stream=False)
    client.window_update(stream_id, MAX_WINDOW)


def empty_window_update(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, method="POST", end_stream=False)
    client.window_update(stream_id, 0)


def data_after_the_end(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, path="/sleep?s=0.05")
    client.data(stream_id, b"x")


def headers_after_the_end(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, path="/sleep?s=0.05")
    client.headers(stream_id, [("x", "y")])


def bad_priority(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, method="POST", end_stream=False)
    client.write_bytes(wire.frame(FrameType.PRIORITY, 0, stream_id, b"x"))


def depend_on_itself(client: RawClient, stream_id: int) -> None:
    client.headers(stream_id, method="POST", end_stream=False)
    client.priority(stream_id, (stream_id, 16, False))


def malformed(*extra: FieldInput) -> Provoke:
    def provoke(client: RawClient, stream_id: int) -> None:
        client.headers(stream_id, extra=extra)

    return provoke


PROVOCATIONS: dict[str, Provoke] = {
    "window overflow": overflow_window,
    "WINDOW_UPDATE of 0": empty_window_update,
    "DATA after the end": data_after_the_end,
    "HEADERS after the end": headers_after_the_end,
    "PRIORITY of a bad length": bad_priority,
    "PRIORITY on itself": depend_on_itself,
    "a wrong Content-Length": malformed(("content-length", "5")),
    "an uppercase name": malformed(("Upper", "1")),
    "Connection": malformed(("connection", "close")),
}


@pytest.mark.parametrize("how", PROVOCATIONS)
def test_row_15_provoked_resets(watch: Watch, how: str) -> None:
    """It is us who send RST_STREAM, for the peer's fault: the same budget."""
    provoke = PROVOCATIONS[how]
    with RawClient(watch.server).greet() as client:
        with client.one_write():
            for stream_id in range(1, 6 * MAX_RESETS, 2):
                provoke(client, stream_id)
        frames = want_calm(watch, client)
    resets = sum(isinstance(frame, RstStreamFrame) for frame in frames)
    watch.note(resets=resets)
    assert resets <= MAX_RESETS + 1


def test_row_15_a_few_are_forgiven(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        for provoke in PROVOCATIONS.values():
            stream_id = client.next_stream_id
            provoke(client, stream_id)
            client.want_rst(stream_id)
        want_well(client)
