"""Rows 9, 16, 20, 21, 22, 29, 30 and 31: windows, limits and frames that do not fit the stream."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.support import LONG, wire
from tests.support.apps import HELLO
from tests.support.frames import RawClient
from tests.support.wire import ErrorCode, FrameType, Setting

from .conftest import TIMER_MARGIN
from .peers import MAX_WINDOW, want_end, want_well
from .watch import Watch

MAX_STREAMS = 100
CONNECTION_WINDOW = 1 << 20
#: After a response, the rest of its request is taken for so long (RFC 9113 section 8.1).
DISCARD_TIMEOUT = 2.0

WINDOW_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "connection window overflow": (
        wire.window_update_frame(0, MAX_WINDOW),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "increment 0 for the connection": (wire.window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE of a bad length": (
        wire.frame(FrameType.WINDOW_UPDATE, 0, 0, b"123"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "INITIAL_WINDOW_SIZE beyond 2^31-1": (
        wire.settings_frame({Setting.INITIAL_WINDOW_SIZE: 2**31}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
    "INITIAL_WINDOW_SIZE that overflows a stream's window": (
        wire.window_update_frame(1, 2**30)
        + wire.settings_frame({Setting.INITIAL_WINDOW_SIZE: MAX_WINDOW}),
        ErrorCode.FLOW_CONTROL_ERROR,
    ),
}


@pytest.fixture
def tls() -> bool:
    """Cleartext: what frames mean does not depend on what carries them."""
    return False


@pytest.mark.parametrize("kind", WINDOW_FAULTS)
def test_row_09_window_faults_of_the_connection(watch: Watch, kind: str) -> None:
    raw, code = WINDOW_FAULTS[kind]
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.write_bytes(raw)
        want_end(client, code)


@pytest.mark.parametrize(
    ("increment", "code"),
    [(MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR), (0, ErrorCode.PROTOCOL_ERROR)],
)
def test_row_09_window_faults_of_a_stream(watch: Watch, increment: int, code: ErrorCode) -> None:
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.window_update(1, increment)
        client.want_rst(1, code)
        want_well(client)


@pytest.mark.parametrize("acknowledged", [False, True], ids=["before-the-ack", "after-it"])
def test_row_16_a_stream_too_many(watch: Watch, acknowledged: bool) -> None:
    windows = {Setting.INITIAL_WINDOW_SIZE: 0}
    with RawClient(watch.server).greet(windows, ack=acknowledged) as client:
        # The answers cannot leave, so that the streams stay open.
        for stream_id in range(1, 2 * MAX_STREAMS, 2):
            client.headers(stream_id, path="/hello")
        for stream_id in (201, 203, 205):
            client.headers(stream_id, path="/hello")
            client.want_rst(stream_id, ErrorCode.REFUSED_STREAM)
        client.rst(1)
        client.headers(207, path="/hello")
        client.window_update(207, 100)
        assert client.response(207).body == HELLO


def test_row_16_streams_too_many_are_counted(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        with client.one_write():
            for stream_id in range(1, 2 * MAX_STREAMS, 2):
                client.headers(stream_id, method="POST", path="/echo", end_stream=False)
            for stream_id in range(201, 1_201, 2):
                client.headers(stream_id, path="/hello")
        frames = want_end(client, ErrorCode.ENHANCE_YOUR_CALM)
        resets = [frame for frame in frames if isinstance(frame, RstStreamFrame)]
        watch.note(refused=len(resets))
        assert len(resets) <= 201


def test_row_20_data_on_a_stream_that_was_reset(watch: Watch) -> None:
    """More than the connection's window of it: dropped, and credited."""
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.window_update(1, 0)
        client.want_rst(1, ErrorCode.PROTOCOL_ERROR)
        for _ in range(3 * CONNECTION_WINDOW // wire.DEFAULT_FRAME_SIZE):
            while client.send_window(0) < wire.DEFAULT_FRAME_SIZE:
                client.want_idle(RstStreamFrame)
            client.data(1, bytes(wire.DEFAULT_FRAME_SIZE))
        want_well(client)


@pytest.mark.parametrize("stream_window", [True, False], ids=["of-the-stream", "of-all"])
def test_row_20_data_beyond_the_window(watch: Watch, stream_window: bool) -> None:
    with RawClient(watch.server).greet() as client:
        stream_ids = [1] if stream_window else range(1, 65, 2)
        with client.one_write():
            for stream_id in stream_ids:
                client.headers(stream_id, method="POST", path="/sleep?s=0.2", end_stream=False)
                for _ in range(5 if stream_window else 4):
                    size = min(wire.DEFAULT_FRAME_SIZE, client.send_window(stream_id))
                    client.data(stream_id, bytes(size or 1))
        want_end(client, ErrorCode.FLOW_CONTROL_ERROR)


def test_row_20_an_upload_with_all_the_padding_there_is(watch: Watch) -> None:
    size = (100 << 20) if LONG else (4 << 20)
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/read", end_stream=False)
        client.upload(1, bytes(size), pad=255)
        assert f'"count": {size}'.encode() in client.response(1).body


def test_row_21_resets_with_unread_bodies_leak_no_window(watch: Watch) -> None:
    """More bytes than the connection's window, within the budget of resets."""
    count = 150
    with RawClient(watch.server).greet() as client:
        for stream_id in range(1, 2 * count, 2):
            client.headers(stream_id, method="POST", path="/sleep?s=0.001", end_stream=False)
            client.data(stream_id, bytes(10_000))
            client.rst(stream_id)
            client.want_idle(GoAwayFrame)
        assert count * 10_000 > CONNECTION_WINDOW
        response = client.request("POST", "/read", body=bytes(CONNECTION_WINDOW + 1))
        assert f'"count": {CONNECTION_WINDOW + 1}'.encode() in response.body


def test_row_22_a_body_goes_on_after_the_response(watch: Watch) -> None:
    """It is dropped and credited; RST_STREAM(NO_ERROR) comes after the END_STREAM."""
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/hello", end_stream=False)
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1, data=HELLO, end_stream=True)
        sent = client.upload(1, bytes(3 * CONNECTION_WINDOW), end_stream=False)
        assert sent == 3 * CONNECTION_WINDOW
        start = time.monotonic()
        client.want_rst(1, ErrorCode.NO_ERROR, timeout=DISCARD_TIMEOUT + TIMER_MARGIN)
        watch.note(reset_after=f"{time.monotonic() - start:.1f} s")
        want_well(client)


ENDS = (RstStreamFrame, GoAwayFrame)
Break = Callable[[RawClient], None]

MESSAGE_FAULTS: dict[str, Break] = {
    "pseudo-header in trailers": lambda client: client.headers(1, [(":path", "/")]),
    "trailers without END_STREAM": lambda client: client.headers(1, [("x", "y")], end_stream=False),
    "a second request": lambda client: client.headers(
        1, client.request_fields("POST", "/echo"), end_stream=False
    ),
    "uppercase in trailers": lambda client: client.headers(1, [("X", "y")]),
}


@pytest.mark.parametrize("kind", MESSAGE_FAULTS)
def test_row_29_what_may_follow_a_request(watch: Watch, kind: str) -> None:
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        client.headers(3, method="POST", path="/echo", end_stream=False)
        client.data(1, b"x")
        MESSAGE_FAULTS[kind](client)
        client.want_rst(1, ErrorCode.PROTOCOL_ERROR)
        client.data(3, b"sibling", end_stream=True)
        assert client.response(3).body == b"sibling"


#: On a connection on which stream 5 was the last, and is closed, as is 3, never used.
STATE_FAULTS: dict[str, tuple[bytes, ErrorCode]] = {
    "RST_STREAM when idle": (wire.rst_stream_frame(99), ErrorCode.PROTOCOL_ERROR),
    "WINDOW_UPDATE when idle": (wire.window_update_frame(99, 1), ErrorCode.PROTOCOL_ERROR),
    "DATA when idle": (wire.data_frame(99, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even id": (wire.headers_frames(2, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on an even id": (wire.rst_stream_frame(2), ErrorCode.PROTOCOL_ERROR),
    "DATA on an even id": (wire.data_frame(2, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA on stream 0": (wire.data_frame(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on stream 0": (wire.headers_frames(0, b"\x82"), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM on stream 0": (wire.rst_stream_frame(0), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY on stream 0": (wire.priority_frame(0, (1, 1, False)), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS on a stream": (wire.frame(FrameType.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    "PING on a stream": (wire.frame(FrameType.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "PING of a bad length": (wire.frame(FrameType.PING, 0, 0, b"x"), ErrorCode.FRAME_SIZE_ERROR),
    "RST_STREAM of a bad length": (
        wire.frame(FrameType.RST_STREAM, 0, 5, b"x"),
        ErrorCode.FRAME_SIZE_ERROR,
    ),
    "naked CONTINUATION": (
        wire.frame(FrameType.CONTINUATION, 0, 5, b"\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
    "PUSH_PROMISE": (
        wire.frame(FrameType.PUSH_PROMISE, 4, 5, b"\0\0\0\2\x82"),
        ErrorCode.PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("kind", STATE_FAULTS)
def test_row_30_frames_on_streams_that_are_not_there(watch: Watch, kind: str) -> None:
    raw, code = STATE_FAULTS[kind]
    with RawClient(watch.server).greet() as client:
        assert client.request(path="/hello", stream_id=5).status == 200
        client.write_bytes(raw)
        want_end(client, code)


HARMLESS: dict[str, bytes] = {
    "PRIORITY when idle": wire.priority_frame(99, (0, 1, False)),
    "PRIORITY when closed": wire.priority_frame(5, (0, 1, False)),
    "RST_STREAM when closed": wire.rst_stream_frame(5),
    "WINDOW_UPDATE when closed": wire.window_update_frame(5, 1),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_row_30_frames_that_may_come_late(watch: Watch, kind: str) -> None:
    with RawClient(watch.server).greet() as client:
        assert client.request(path="/hello", stream_id=5).status == 200
        client.write_bytes(HARMLESS[kind])
        want_well(client)


@pytest.mark.parametrize("kind", ["DATA", "HEADERS"])
@pytest.mark.parametrize("stream_id", [3, 5], ids=["lower", "closed"])
def test_row_30_closed_streams_stay_closed(watch: Watch, kind: str, stream_id: int) -> None:
    """RFC 9113 section 5.1 leaves it open whether that is an error of the stream or of all."""
    with RawClient(watch.server).greet() as client:
        assert client.request(path="/hello", stream_id=5).status == 200
        if kind == "DATA":
            client.data(stream_id, b"x", end_stream=True)
        else:
            client.headers(stream_id, path="/hello")
        frame = next(f for f in iter(client.read_frame, None) if isinstance(f, ENDS))
        assert frame.error_code in (ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR)


def test_row_31_goaway_with_requests_in_flight(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        stream_ids = range(1, 20, 2)
        for stream_id in stream_ids:
            client.headers(stream_id, path="/sleep?s=0.1")
        client.goaway()
        answers = client.responses(stream_ids)
        assert {each.body for each in answers.values()} == {b"slept"}
        assert all(not frame.stream_id for frame in client.want_closed())
