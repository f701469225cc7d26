"""SETTINGS and windows (RFC 9113 sections 6.5 and 6.9)."""

from __future__ import annotations

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    HeadersFrame,
    PingFrame,
    SettingsFrame,
)

from gunicorn_h2.connection import DISCARD_TIMEOUT
from tests.support.core import CorePeer, greeted_peer
from tests.support.wire import DEFAULT_WINDOW, ErrorCode, Setting

MAX_WINDOW = 2**31 - 1


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


# -- 6.5: SETTINGS ---------------------------------------------------------------------


def test_settings_are_acknowledged_in_turn(peer: CorePeer) -> None:
    with peer.one_write():
        peer.settings({Setting.INITIAL_WINDOW_SIZE: 1})
        peer.ping(b"12345678")
        peer.settings()
    assert [type(frame) for frame in peer.turn()] == [SettingsFrame, PingFrame, SettingsFrame]


@pytest.mark.parametrize(
    ("setting", "value", "code"),
    [
        (Setting.ENABLE_PUSH, 2, ErrorCode.PROTOCOL_ERROR),
        (Setting.INITIAL_WINDOW_SIZE, 2**31, ErrorCode.FLOW_CONTROL_ERROR),
        (Setting.INITIAL_WINDOW_SIZE, 2**32 - 1, ErrorCode.FLOW_CONTROL_ERROR),
        (Setting.MAX_FRAME_SIZE, 16_383, ErrorCode.PROTOCOL_ERROR),
        (Setting.MAX_FRAME_SIZE, 2**24, ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_settings_out_of_range(peer: CorePeer, setting: Setting, value: int, code: int) -> None:
    peer.settings({setting: value})
    peer.want_fault(code)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        (Setting.ENABLE_PUSH, 0),
        (Setting.ENABLE_PUSH, 1),
        (Setting.MAX_CONCURRENT_STREAMS, 0),
        (Setting.INITIAL_WINDOW_SIZE, MAX_WINDOW),
        (Setting.MAX_FRAME_SIZE, 2**24 - 1),
        (Setting.MAX_HEADER_LIST_SIZE, 0),
        (Setting.ENABLE_CONNECT_PROTOCOL, 7),
        (0xFFFF, 2**32 - 1),
    ],
)
def test_settings_that_may_be(peer: CorePeer, setting: int, value: int) -> None:
    peer.settings({setting: value})
    peer.is_well()


def test_too_many_settings(peer: CorePeer) -> None:
    peer.settings([(0x1000 + number, 1) for number in range(33)])
    peer.want_fault(ErrorCode.ENHANCE_YOUR_CALM)


def test_the_encoder_table_stays_small(peer: CorePeer) -> None:
    """Row 8: no more entries than 4,096 bytes hold, however large a table is offered."""
    peer.settings({Setting.HEADER_TABLE_SIZE: 2**32 - 1})
    for stream_id in range(1, 401, 2):
        peer.headers(stream_id)
        peer.respond(stream_id, fields=((b"x-%d" % stream_id, b"y" * 40),))
        peer.response(stream_id)
    table = peer.decoder.header_table.dynamic_entries
    assert sum(len(name) + len(value) + 32 for name, value in table) <= 4_096


def table_sizes_told(peer: CorePeer, stream_id: int) -> list[int]:
    """The table size updates at the beginning of a response's block."""
    peer.headers(stream_id)
    peer.respond(stream_id, fields=((b"x", b"y"),))
    # The client's own decoder sees that they are right: it knows what it has asked for.
    (frame,) = [frame for frame in peer.turn() if isinstance(frame, HeadersFrame)]
    sizes, block = [], frame.data
    while block[0] & 0xE0 == 0x20:
        size, length = block[0] & 0x1F, 1
        if size == 0x1F:
            size, length = 0x1F + (block[1] & 0x7F) + (block[2] << 7), 3
        sizes.append(size)
        block = block[length:]
    return sizes


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], []),
        ([4_096], []),
        ([0], [0]),
        ([0, 0], [0]),
        ([0, 0, 0, 0], [0]),
        ([0, 4_096], [0, 4_096]),
        ([0, 2**20], [0, 4_096]),
        ([0, 2**20, 2**20], [0, 4_096]),
        ([1_000, 500, 2_000, 600, 1_500], [500, 1_500]),
        ([0, 4_096] * 200, [0, 4_096]),
    ],
)
def test_the_smallest_and_the_last_table_size_are_told(
    peer: CorePeer, asked: list[int], told: list[int]
) -> None:
    """RFC 7541 section 4.2."""
    for size in asked:
        peer.settings({Setting.HEADER_TABLE_SIZE: size})
    assert table_sizes_told(peer, 1) == told
    assert table_sizes_told(peer, 3) == []


@pytest.mark.parametrize("ack_first", [False, True])
def test_a_window_below_the_default_holds_from_the_ack_on(ack_first: bool) -> None:
    peer = CorePeer(initial_window_size=1_000).greet(ack=ack_first)
    peer.headers(1, end_stream=False)
    if ack_first:
        peer.data(1, bytes(1_000))
    else:
        peer.send_body(1, DEFAULT_WINDOW)
        peer.settings(ack=True)
    assert not peer.connection.failed
    # The application reads, and the peer may go on within the smaller window.
    peer.read_body(1)
    peer.turn()
    assert peer.send_window(1) == 1_000
    peer.headers(3, end_stream=False)
    for stream_id in (1, 3):
        peer.data(stream_id, bytes(1_000))
    peer.ping()
    peer.want(PingFrame)
    peer.data(3, b"x")
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_what_was_read_before_the_ack_of_a_smaller_window_is_given_back_with_it() -> None:
    """h2 holds less than half of a window back, which is more than all of the smaller one."""
    peer = CorePeer(initial_window_size=1_000).greet(ack=False)
    peer.headers(1, end_stream=False)
    peer.send_body(1, 20_000)
    peer.read_body(1)
    peer.turn()
    peer.settings(ack=True)
    peer.turn()
    assert peer.send_window(1) == 1_000


@pytest.mark.parametrize("ack_first", [False, True])
def test_a_window_above_the_default(ack_first: bool) -> None:
    peer = CorePeer(initial_window_size=200_000).greet(ack=ack_first)
    peer.headers(1, end_stream=False)
    peer.send_body(1, 200_000)
    assert not peer.connection.failed
    peer.data(1, b"x")
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


# -- 6.9: windows ----------------------------------------------------------------------


def test_a_window_overflow_of_the_connection(peer: CorePeer) -> None:
    peer.window_update(0, MAX_WINDOW)
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_a_window_overflow_of_a_stream(peer: CorePeer) -> None:
    peer.headers(1)
    peer.window_update(1, MAX_WINDOW)
    peer.want_rst(1, ErrorCode.FLOW_CONTROL_ERROR)
    assert peer.told(1) == ["started", "ended", "aborted"]
    peer.is_well()


def test_what_was_under_way_when_a_window_overflowed_is_dropped(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.window_update(1, MAX_WINDOW)
    peer.data(1, b"abc", end_stream=True)
    peer.want_rst(1, ErrorCode.FLOW_CONTROL_ERROR)
    assert peer.turn() == []
    assert peer.told(1) == ["started", "aborted"]


def test_windows_of_the_largest_size(peer: CorePeer) -> None:
    peer.headers(1)
    for stream_id in (0, 1):
        peer.window_update(stream_id, MAX_WINDOW - DEFAULT_WINDOW)
    peer.respond(1, b"x")
    assert peer.response(1, auto_window=False).body == b"x"


def test_an_initial_window_that_makes_a_stream_overflow(peer: CorePeer) -> None:
    peer.headers(1)
    peer.window_update(1, MAX_WINDOW - DEFAULT_WINDOW)
    peer.settings({Setting.INITIAL_WINDOW_SIZE: DEFAULT_WINDOW + 1})
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_an_increment_of_nothing(peer: CorePeer) -> None:
    peer.headers(1)
    peer.window_update(1, 0)
    peer.want_rst(1, ErrorCode.PROTOCOL_ERROR)
    assert peer.told(1) == ["started", "ended", "aborted"]
    peer.is_well()
    peer.window_update(0, 0)
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


@pytest.mark.parametrize("size", [1_000, DEFAULT_WINDOW])
def test_data_beyond_the_window_of_the_stream(size: int) -> None:
    peer = greeted_peer(initial_window_size=size)
    peer.headers(1, end_stream=False)
    peer.send_body(1, size)
    assert not peer.connection.failed
    peer.data(1, b"x")
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_data_beyond_the_window_of_the_connection() -> None:
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW)
    for stream_id in (1, 3):
        peer.headers(stream_id, end_stream=False)
    peer.send_body(1, 50_000)
    peer.send_body(3, DEFAULT_WINDOW - 50_000)
    assert not peer.connection.failed
    peer.data(3, b"x")
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_what_the_application_does_not_read_is_not_given_back(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, 50_000)
    assert peer.turn() == []
    assert len(peer.read_body(1)) == 50_000
    peer.turn()
    assert peer.send_window(1) == DEFAULT_WINDOW


@pytest.mark.parametrize("pad", [None, 0, 255])
@pytest.mark.parametrize("size", [0, 1, 1_000])
def test_uploads_complete_whatever_their_padding(pad: int | None, size: int) -> None:
    """Row 20."""
    peer = greeted_peer(
        initial_window_size=3_000, connection_window_size=DEFAULT_WINDOW, max_empty_data=1_000
    )
    peer.headers(1, end_stream=False)
    overhead = 0 if pad is None else pad + 1
    for _ in range(500):
        peer.data(1, b"x" * size, pad=pad)
        peer.read_body(1)
        peer.turn()
        assert min(peer.send_window(0), peer.send_window(1)) >= size + overhead
    peer.data(1, end_stream=True)
    assert peer.told(1)[-1] == "ended"
    peer.is_well()


def test_a_body_that_nobody_reads_is_given_back(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW)
    peer.take_events()
    peer.connection.discard_body(peer.stream(1))
    peer.turn()
    assert peer.send_window(1) == DEFAULT_WINDOW
    for _ in range(200):
        peer.data(1, bytes(16_000), pad=9)
        peer.turn()
    peer.data(1, end_stream=True)
    assert peer.told(1) == ["ended"]
    peer.is_well()


def test_what_was_given_back_when_it_was_discarded_is_not_given_back_again() -> None:
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW)
    peer.headers(1, end_stream=False)
    peer.send_body(1, 30_000)
    peer.connection.discard_body(peer.stream(1))
    # The application had taken it in the meantime, and says so now.
    peer.read_body(1)
    assert peer.turn() == []


@pytest.mark.parametrize("how", ["peer resets", "we reset", "response ends", "fault"])
def test_unread_bodies_do_not_use_the_connection_window_up(how: str) -> None:
    """Row 21."""
    peer = greeted_peer(connection_window_size=DEFAULT_WINDOW)
    for stream_id in range(1, 401, 2):
        peer.now += 1.0
        peer.headers(stream_id, end_stream=False, extra=[("content-length", "5000")])
        peer.data(stream_id, bytes(5_000), pad=3)
        if how == "peer resets":
            peer.rst(stream_id)
        elif how == "we reset":
            peer.connection.reset(peer.stream(stream_id), ErrorCodes.CANCEL)
        elif how == "response ends":
            peer.respond(stream_id)
        else:
            peer.data(stream_id, b"x")
        peer.turn()
        peer.connection.tick(peer.now)
    peer.now += DISCARD_TIMEOUT + 0.1
    peer.connection.tick(peer.now)
    peer.turn()
    assert peer.connection.streams == {}
    assert peer.send_window(0) > DEFAULT_WINDOW // 2
    peer.headers(1_001, end_stream=False)
    for _ in range(20):
        peer.data(1_001, bytes(10_000))
        peer.read_body(1_001)
        peer.turn()
        assert peer.send_window(0) > 10_000
    peer.is_well(1_003)
