"""Windows that grow for uploads whose applications keep up, and for no others."""

from __future__ import annotations

import pytest
from hyperframe.frame import WindowUpdateFrame

from gunicorn_h2.settings import Settings
from tests.support.core import CorePeer, greeted_peer
from tests.support.wire import DEFAULT_WINDOW, ErrorCode

CONNECTION_WINDOW = Settings().connection_window_size
#: As far as the streams of a connection may grow.
GROWN = CONNECTION_WINDOW // 2
#: Of windows that are used up and read at once, until they grow no more.
ROUNDS = 5


@pytest.fixture
def peer() -> CorePeer:
    return greeted_peer()


def upload(peer: CorePeer, stream_id: int, rounds: int = ROUNDS, *, waits: bool = True) -> int:
    """Use the window up and have it read, again and again; what it is then."""
    if stream_id not in peer.handler.streams:
        peer.headers(stream_id, end_stream=False)
    for _ in range(rounds):
        peer.send_body(stream_id, peer.send_window(stream_id))
        peer.read_body(stream_id, waits=waits)
        peer.turn()
    return peer.send_window(stream_id)


def test_a_window_grows_each_time_it_is_used_while_the_application_waits(peer: CorePeer) -> None:
    windows = [upload(peer, 1, 1) for _ in range(3)]
    assert windows == [16 * DEFAULT_WINDOW, GROWN, GROWN]


def test_the_window_of_the_connection_grows_with_those_of_its_streams(peer: CorePeer) -> None:
    assert peer.send_window(0) == 1_048_576
    upload(peer, 1, 1)
    assert peer.send_window(0) == 1_048_576 + 2 * 15 * DEFAULT_WINDOW - DEFAULT_WINDOW
    upload(peer, 1)
    assert peer.send_window(0) + GROWN > CONNECTION_WINDOW - GROWN
    assert peer.send_window(0) <= CONNECTION_WINDOW


def test_the_window_of_the_connection_grows_while_part_of_it_is_in_use(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW)
    upload(peer, 3, 2)
    peer.read_body(1)
    peer.send_body(3, GROWN)
    peer.read_body(3)
    peer.turn()
    # All was read, more than half of the window since h2 last gave credit: all of it is open.
    assert peer.send_window(0) == CONNECTION_WINDOW


@pytest.mark.parametrize(
    ("stream", "connection", "first"),
    [
        (65_535, 65_535, 65_535),
        (65_535, 100_000, 100_000),
        (65_535, 4_000_000, 1_048_576),
        (2_000_000, 4_000_000, 2_000_000),
        (4_000_000, 4_000_000, 4_000_000),
    ],
)
def test_the_window_that_a_connection_begins_with(stream: int, connection: int, first: int) -> None:
    peer = greeted_peer(initial_window_size=stream, connection_window_size=connection)
    assert peer.send_window(0) == first


def test_half_of_the_window_is_enough(peer: CorePeer) -> None:
    """What comes steadily, and is credited as it comes, never uses a window up."""
    peer.headers(1, end_stream=False)
    for _ in range(4):
        peer.data(1, bytes(16_384))
        peer.read_body(1, waits=True)
        peer.turn()
    assert peer.send_window(1) > 2 * DEFAULT_WINDOW


def test_less_than_half_of_the_window_is_not_enough(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, 30_000)
    peer.read_body(1, waits=True)
    assert peer.turn() == []


def test_no_window_grows_while_the_application_is_at_work(peer: CorePeer) -> None:
    assert upload(peer, 1, waits=False) == DEFAULT_WINDOW


def test_no_window_grows_for_what_is_not_read(peer: CorePeer) -> None:
    upload(peer, 1)
    for stream_id in (3, 5):
        peer.headers(stream_id, end_stream=False)
        peer.send_body(stream_id, DEFAULT_WINDOW)
    assert peer.turn() == []
    peer.data(3, b"x")
    peer.want_fault(ErrorCode.FLOW_CONTROL_ERROR)


def test_no_window_grows_for_what_nobody_reads(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.connection.discard_body(peer.stream(1))
    for _ in range(ROUNDS):
        peer.send_body(1, peer.send_window(1))
        peer.turn()
        assert peer.send_window(1) == DEFAULT_WINDOW


def test_no_window_grows_for_a_peer_that_sends_slowly(peer: CorePeer) -> None:
    """What is held back by a window uses half of it within a round trip."""
    peer.headers(1, end_stream=False)
    for _ in range(ROUNDS):
        peer.now += 1.1
        assert upload(peer, 1, 1) == DEFAULT_WINDOW
    # It has become faster.
    peer.now += 0.9
    assert upload(peer, 1, 1) == 16 * DEFAULT_WINDOW


def test_no_window_grows_after_the_end_of_the_body(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW - 1)
    peer.data(1, b"x", end_stream=True)
    peer.read_body(1, waits=True)
    updates = [frame for frame in peer.turn() if isinstance(frame, WindowUpdateFrame)]
    assert sum(frame.window_increment for frame in updates if frame.stream_id) <= DEFAULT_WINDOW


def test_nothing_is_granted_on_a_connection_that_has_failed(peer: CorePeer) -> None:
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW)
    peer.window_update(0, 0)
    peer.read_body(1, waits=True)
    peer.want_fault(ErrorCode.PROTOCOL_ERROR)


def test_no_window_grows_while_smaller_settings_are_under_way() -> None:
    peer = CorePeer(initial_window_size=1_000).greet(ack=False)
    peer.headers(1, end_stream=False)
    peer.send_body(1, DEFAULT_WINDOW)
    peer.read_body(1, waits=True)
    peer.settings(ack=True)
    peer.turn()
    assert peer.send_window(1) == 1_000
    assert upload(peer, 1, 1) == 16_000


def test_the_streams_of_a_connection_share_what_they_may_grow_by(peer: CorePeer) -> None:
    spare = GROWN - DEFAULT_WINDOW
    assert upload(peer, 1, 1) == 16 * DEFAULT_WINDOW
    assert upload(peer, 3) == DEFAULT_WINDOW + spare - 15 * DEFAULT_WINDOW
    assert upload(peer, 1) == 16 * DEFAULT_WINDOW
    assert upload(peer, 5) == DEFAULT_WINDOW


@pytest.mark.parametrize("how", ["the peer resets", "the response ends"])
def test_a_stream_that_ends_leaves_its_growth_to_others(peer: CorePeer, how: str) -> None:
    assert upload(peer, 1) == GROWN
    if how == "the peer resets":
        peer.rst(1)
    else:
        peer.data(1, end_stream=True)
        peer.respond(1)
        peer.response(1)
    assert upload(peer, 3) == GROWN


def test_all_that_a_connection_holds_is_bounded(peer: CorePeer) -> None:
    """Also when every application stops reading after its window has grown."""
    stream_ids = range(1, 200, 2)
    for stream_id in stream_ids:
        upload(peer, stream_id, 3)
    held = 0
    for stream_id in stream_ids:
        size = min(peer.send_window(stream_id), peer.send_window(0))
        peer.send_body(stream_id, size)
        held += size
    assert not peer.connection.failed
    assert held <= CONNECTION_WINDOW
    assert peer.turn() == []


def test_a_grown_window_leaves_room_for_the_other_streams(peer: CorePeer) -> None:
    assert upload(peer, 1) == GROWN
    peer.send_body(1, GROWN)
    # Its application has stopped reading.
    for stream_id in (3, 5, 7):
        assert upload(peer, stream_id) == DEFAULT_WINDOW


@pytest.mark.parametrize("size", [DEFAULT_WINDOW, 80_000])
def test_a_connection_with_a_small_window_has_none_to_spare(size: int) -> None:
    peer = greeted_peer(connection_window_size=size)
    assert upload(peer, 1) == DEFAULT_WINDOW
