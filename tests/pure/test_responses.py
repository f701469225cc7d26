"""Responses on their way out: how they are framed, and who may send when."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, Frame, HeadersFrame, RstStreamFrame, WindowUpdateFrame

from gunicorn_h2.responses import _MAX_DATA_FRAME
from tests.support.core import UNLIMITED, CorePeer, greeted_peer
from tests.support.wire import DEFAULT_WINDOW, ErrorCode, Setting

#: Windows that hold nothing back.
OPEN = {Setting.INITIAL_WINDOW_SIZE: 2**31 - 1}
#: A stream window that lets nothing through.
SHUT = {Setting.INITIAL_WINDOW_SIZE: 0}


def wide_peer() -> CorePeer:
    peer = greeted_peer(OPEN)
    peer.window_update(0, 2**30)
    return peer


def written(peer: CorePeer, room: int = UNLIMITED) -> list[tuple[str, int, int, bool]]:
    """One turn: (kind, stream, length, END_STREAM) of each frame of a response."""
    return [describe(frame) for frame in peer.turn(room)]


def describe(frame: Frame) -> tuple[str, int, int, bool]:
    assert isinstance(frame, (HeadersFrame, DataFrame))
    if isinstance(frame, HeadersFrame):
        return "HEADERS", frame.stream_id, 0, "END_STREAM" in frame.flags
    return "DATA", frame.stream_id, len(frame.data), "END_STREAM" in frame.flags


def order(peer: CorePeer, room: int = UNLIMITED) -> list[int]:
    """One turn: the streams whose DATA came, one after the other."""
    ids = [frame.stream_id for frame in peer.turn(room) if isinstance(frame, DataFrame)]
    return [each for index, each in enumerate(ids) if index == 0 or ids[index - 1] != each]


# -- one response ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([], id="empty"),
        pytest.param([b"x"], id="one byte"),
        pytest.param([b"x" * 16_384], id="exactly a frame"),
        pytest.param([b"x" * 16_385], id="a frame and a byte"),
        pytest.param([b"x" * DEFAULT_WINDOW], id="exactly the window"),
        pytest.param([b"x" * (DEFAULT_WINDOW + 1)], id="a byte more than the window"),
        pytest.param([b"x" * 8_000_000], id="8 MB at once"),
        pytest.param([b"x" * 80_000] * 100, id="8 MB in parts"),
        pytest.param([b"x"] * 5_000, id="bytes"),
        pytest.param([b"", b"x", b"", b""], id="empty parts"),
        pytest.param([b"x" * 16_384, b"y" * 16_384], id="two frames"),
    ],
)
@pytest.mark.parametrize("late_end", [False, True])
@pytest.mark.parametrize("trailers", [False, True])
def test_every_response_comes_whole_and_ends(
    parts: list[bytes], late_end: bool, trailers: bool
) -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, *parts, trailers=((b"x-sum", b"1"),) * trailers, end=not late_end)
    if late_end:
        peer.connection.responses.fill(UNLIMITED, peer.now)
        peer.connection.responses.end(peer.stream(1), [(b"x-sum", b"1")] * trailers)
    response = peer.response(1)
    assert response.body == b"".join(parts)
    assert response.trailers == [(b"x-sum", b"1")] * trailers
    assert peer.connection.streams == {}
    assert peer.turn() == []


def test_a_small_response_is_two_frames() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, b"Hello, ", b"world!")
    assert written(peer) == [("HEADERS", 1, 0, False), ("DATA", 1, 13, True)]


def test_an_empty_response_is_one_frame() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1)
    assert written(peer) == [("HEADERS", 1, 0, True)]


def test_an_end_that_comes_later_is_an_empty_frame() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, b"x", end=False)
    assert written(peer) == [("HEADERS", 1, 0, False), ("DATA", 1, 1, False)]
    peer.connection.responses.end(peer.stream(1), [])
    assert written(peer) == [("DATA", 1, 0, True)]


def test_an_end_needs_no_window() -> None:
    peer = greeted_peer({Setting.INITIAL_WINDOW_SIZE: 1})
    peer.headers(1)
    peer.respond(1, b"x", end=False)
    assert len(written(peer)) == 2
    peer.settings(SHUT)
    peer.turn()
    peer.connection.responses.end(peer.stream(1), [])
    assert written(peer) == [("DATA", 1, 0, True)]


def test_trailers_end_the_stream_with_and_without_a_body() -> None:
    peer = greeted_peer()
    for stream_id, parts in ((1, [b"x"]), (3, [])):
        peer.headers(stream_id)
        peer.respond(stream_id, *parts, trailers=((b"a", b"b"),))
    frames = written(peer)
    assert [frame for frame in frames if frame[1] == 1] == [
        ("HEADERS", 1, 0, False),
        ("DATA", 1, 1, False),
        ("HEADERS", 1, 0, True),
    ]
    assert [frame for frame in frames if frame[1] == 3] == [
        ("HEADERS", 3, 0, False),
        ("HEADERS", 3, 0, True),
    ]


def test_fields_arrive_as_they_were_given() -> None:
    peer = greeted_peer()
    peer.headers(1)
    fields = ((b"x", b"1"), (b"set-cookie", b"a=b"), (b"set-cookie", b"c=d"))
    peer.respond(1, fields=fields)
    assert peer.response(1).headers == [(b":status", b"200"), *fields]


def test_a_head_larger_than_a_frame_is_continued() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, fields=((b"x", b"~" * 40_000),))
    assert peer.response(1).header("x") == "~" * 40_000


def test_what_was_sent_is_reported() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, bytes(20_000))
    peer.turn()
    assert peer.handler.sent == {1: 20_000}


# -- informational responses ----------------------------------------------------------


def test_informational_responses_come_before_the_head() -> None:
    peer = greeted_peer()
    peer.headers(1)
    responses, stream = peer.connection.responses, peer.stream(1)
    responses.add_informational(stream, [(b":status", b"100")])
    assert written(peer) == [("HEADERS", 1, 0, False)]
    responses.add_informational(stream, [(b":status", b"103"), (b"link", b"a")])
    responses.add_informational(stream, [(b":status", b"103"), (b"link", b"b")])
    peer.respond(1, b"x")
    response = peer.response(1)
    assert [dict(fields)[b"link"] for fields in response.interim] == [b"a", b"b"]
    assert (response.status, response.body) == (200, b"x")


def test_an_informational_response_after_the_head_is_dropped() -> None:
    """A 100 for an application that reads only once it has begun to answer."""
    peer = greeted_peer()
    peer.headers(1, end_stream=False)
    peer.respond(1, b"x", end=False)
    peer.turn()
    peer.connection.responses.add_informational(peer.stream(1), [(b":status", b"100")])
    assert peer.turn() == []
    peer.connection.responses.end(peer.stream(1), [])
    assert written_data_ends(peer)


def written_data_ends(peer: CorePeer) -> bool:
    return any("END_STREAM" in frame.flags for frame in peer.turn())


# -- the transport's room ---------------------------------------------------------------


def test_no_room_holds_responses_back_but_not_control_frames() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, b"x")
    peer.ping(b"12345678")
    (ack,) = peer.turn(0)
    assert "ACK" in ack.flags
    assert peer.connection.bytes_to_send(-5, 0.0) == b""
    assert len(peer.turn()) == 2


def test_no_more_than_the_room_is_framed_at_a_time() -> None:
    peer = wide_peer()
    peer.headers(1)
    peer.respond(1, bytes(100_000))
    sizes = [sum(size for _, _, size, _ in written(peer, 10_000)) for _ in range(9)]
    assert all(9_900 <= size <= 10_000 for size in sizes)


def test_a_frame_is_no_larger_than_the_peer_takes() -> None:
    peer = wide_peer()
    peer.headers(1)
    peer.respond(1, bytes(100_000))
    assert {size for _, _, size, _ in written(peer)} == {0, 16_384, 100_000 % 16_384}


def test_a_frame_is_no_larger_than_is_fair() -> None:
    peer = wide_peer()
    peer.settings({Setting.MAX_FRAME_SIZE: 2**24 - 1})
    peer.turn()
    peer.headers(1)
    peer.respond(1, bytes(_MAX_DATA_FRAME + 1))
    assert [size for _, _, size, _ in written(peer)] == [0, _MAX_DATA_FRAME, 1]


def test_small_parts_are_joined() -> None:
    peer = wide_peer()
    peer.headers(1)
    peer.respond(1, b"a" * 3, b"b" * 16_000, b"c" * 400, b"d")
    assert [size for _, _, size, _ in written(peer)] == [0, 16_003, 401]


def test_the_rest_of_a_part_is_joined_with_the_next() -> None:
    peer = wide_peer()
    peer.headers(1)
    peer.respond(1, b"a" * 16_390, b"b" * 10)
    data = [frame.data for frame in peer.turn() if isinstance(frame, DataFrame)]
    assert data == [b"a" * 16_384, b"a" * 6 + b"b" * 10]


# -- windows ------------------------------------------------------------------------------


def test_a_stream_waits_for_its_own_window_only() -> None:
    peer = greeted_peer({Setting.INITIAL_WINDOW_SIZE: 10})
    for stream_id in (1, 3):
        peer.headers(stream_id)
        peer.respond(stream_id, bytes(15))
    assert [size for _, _, size, _ in written(peer)] == [0, 10, 0, 10]
    peer.window_update(3, 5)
    assert written(peer) == [("DATA", 3, 5, True)]
    peer.window_update(1, 1)
    assert written(peer) == [("DATA", 1, 1, False)]
    peer.window_update(1, 100)
    assert written(peer) == [("DATA", 1, 4, True)]


def test_a_stream_without_a_window_holds_no_other_up() -> None:
    peer = greeted_peer(SHUT)
    for stream_id in (1, 3, 5):
        peer.headers(stream_id, extra=[("priority", f"u={stream_id}")])
        peer.respond(stream_id, b"x")
    peer.turn()
    peer.window_update(5, 1)
    assert written(peer) == [("DATA", 5, 1, True)]


def test_the_connection_window_is_shared() -> None:
    peer = greeted_peer(OPEN)
    for stream_id in (1, 3):
        peer.headers(stream_id)
        peer.respond(stream_id, bytes(DEFAULT_WINDOW))
    assert sum(size for _, _, size, _ in written(peer)) == DEFAULT_WINDOW
    # Fields are no data (RFC 9113 section 5.2.1): they go out all the same.
    peer.headers(5)
    peer.respond(5)
    assert written(peer) == [("HEADERS", 5, 0, True)]
    peer.window_update(0, DEFAULT_WINDOW)
    assert sum(size for _, _, size, _ in written(peer)) == DEFAULT_WINDOW
    assert peer.connection.streams == {}


@pytest.mark.parametrize("credit", [1_000, 16_384])
def test_a_download_does_not_take_all_that_the_connection_window_lets_through(
    credit: int,
) -> None:
    peer = greeted_peer(OPEN)
    peer.headers(1)
    peer.respond(1, bytes(10 * DEFAULT_WINDOW))
    peer.turn()
    for stream_id in (3, 5):
        peer.headers(stream_id)
        peer.respond(stream_id, b"small")
        assert written(peer) == [("HEADERS", stream_id, 0, False)]
    peer.window_update(0, credit)
    assert written(peer) == [("DATA", 1, credit, False)]
    peer.window_update(0, credit)
    data = [("DATA", 3, 5, True), ("DATA", 5, 5, True), ("DATA", 1, credit - 10, False)]
    assert written(peer) == data


def test_downloads_share_a_connection_window_that_opens_a_little_at_a_time() -> None:
    peer = greeted_peer(OPEN)
    for stream_id in (1, 3, 5):
        peer.headers(stream_id)
        peer.respond(stream_id, bytes(10 * DEFAULT_WINDOW))
    peer.turn()
    sizes = dict.fromkeys((1, 3, 5), 0)
    for _ in range(30):
        peer.window_update(0, 5_000)
        for _, stream_id, size, _ in written(peer):
            sizes[stream_id] += size
    assert set(sizes.values()) == {50_000}


def test_who_waits_for_the_connection_window_and_is_reset_gets_nothing_of_it() -> None:
    peer = greeted_peer(OPEN)
    for stream_id in (1, 3, 5):
        peer.headers(stream_id)
        peer.respond(stream_id, bytes(2 * DEFAULT_WINDOW))
    peer.turn()
    peer.rst(3)
    peer.window_update(0, DEFAULT_WINDOW)
    assert set(order(peer)) == {1, 5}


def test_both_windows_are_needed_in_whatever_order_they_open() -> None:
    for first, second in ((0, 1), (1, 0)):
        peer = greeted_peer(SHUT)
        peer.headers(1)
        peer.respond(1, b"x")
        peer.headers(3)
        peer.respond(3, bytes(DEFAULT_WINDOW))
        peer.window_update(3, DEFAULT_WINDOW)
        peer.turn()
        assert list(peer.connection.streams) == [1]
        peer.window_update(first, 5)
        assert peer.turn() == []
        peer.window_update(second, 5)
        assert written(peer) == [("DATA", 1, 1, True)]


def test_a_larger_initial_window_opens_streams() -> None:
    peer = greeted_peer(SHUT)
    for stream_id in (1, 3):
        peer.headers(stream_id)
        peer.respond(stream_id, b"xy")
    peer.turn()
    peer.settings({Setting.INITIAL_WINDOW_SIZE: 2})
    sent = [frame for frame in peer.turn() if isinstance(frame, DataFrame)]
    assert [(frame.stream_id, len(frame.data)) for frame in sent] == [(1, 2), (3, 2)]


def test_a_smaller_initial_window_leaves_windows_below_zero() -> None:
    """RFC 9113 section 6.9.2."""
    peer = greeted_peer()
    peer.headers(1)
    peer.respond(1, bytes(1_000), end=False)
    peer.turn()
    peer.settings({Setting.INITIAL_WINDOW_SIZE: 100})
    peer.connection.responses.add_data(peer.stream(1), [b"abc"], 0.0)
    peer.turn()
    peer.window_update(1, 900)
    assert peer.turn() == []
    peer.window_update(1, 2)
    assert written(peer) == [("DATA", 1, 2, False)]


def test_a_window_that_opens_wakes_nobody_who_has_nothing_to_send() -> None:
    peer = greeted_peer()
    peer.headers(1)
    peer.window_update(1, 5)
    peer.window_update(0, 5)
    assert peer.turn() == []


# -- turns ------------------------------------------------------------------------------


def test_responses_of_one_urgency_share_the_way() -> None:
    peer = wide_peer()
    for stream_id in (1, 3, 5):
        peer.headers(stream_id)
        peer.respond(stream_id, bytes(2 * 16_384))
    assert order(peer) == [1, 3, 5, 1, 3, 5]


def test_the_urgent_one_comes_first() -> None:
    peer = wide_peer()
    for stream_id, urgency in ((1, 5), (3, 0), (5, 3)):
        peer.headers(stream_id, extra=[("priority", f"u={urgency}, i")])
        peer.respond(stream_id, bytes(2 * 16_384))
    assert order(peer) == [3, 5, 1]


def test_urgency_is_decided_late() -> None:
    peer = wide_peer()
    peer.headers(1)
    peer.respond(1, bytes(100_000))
    assert order(peer, 20_000) == [1]
    peer.headers(3, extra=[("priority", "u=0")])
    peer.respond(3, bytes(100_000))
    assert order(peer, 20_000) == [3]
    peer.priority_update(1, "u=0")
    peer.priority_update(3, "u=1")
    assert order(peer) == [1, 3]


def test_what_is_not_incremental_comes_whole() -> None:
    peer = wide_peer()
    for stream_id in (1, 3):
        peer.headers(stream_id, extra=[("priority", "u=3")])
        peer.respond(stream_id, bytes(3 * 16_384))
    assert order(peer) == [1, 3]


def test_what_is_not_incremental_passes_its_turn_on_while_it_has_nothing() -> None:
    peer = wide_peer()
    for stream_id in (1, 3):
        peer.headers(stream_id, extra=[("priority", "u=3")])
    peer.respond(1, b"begun", end=False)
    peer.respond(3, b"whole")
    assert order(peer) == [1, 3]
    peer.connection.responses.end(peer.stream(1), [])
    assert written_data_ends(peer)


def test_a_client_without_priorities_is_served_in_turns() -> None:
    peer = wide_peer()
    peer.headers(1)
    assert peer.stream(1).incremental
    peer.headers(3, extra=[("priority", "")])
    assert peer.stream(3).incremental


# -- the write timeout -------------------------------------------------------------------


def test_progress_is_noted_when_there_is_something_to_send_and_when_it_goes() -> None:
    peer = greeted_peer({Setting.INITIAL_WINDOW_SIZE: 10})
    peer.headers(1)
    stream, responses = peer.stream(1), peer.connection.responses
    responses.add_head(stream, [(b":status", b"200")])
    peer.now = 50.0
    responses.add_data(stream, [bytes(15)], peer.now)
    assert stream.last_progress == 50.0
    peer.now = 60.0
    peer.turn()
    assert (stream.last_progress, stream.queued) == (60.0, 5)
    peer.now = 70.0
    responses.add_data(stream, [b"more"], peer.now)
    peer.turn()
    assert stream.last_progress == 60.0


# -- failures ----------------------------------------------------------------------------


def test_a_response_that_fails_is_sent_as_far_as_it_goes_and_then_reset() -> None:
    peer = greeted_peer({Setting.INITIAL_WINDOW_SIZE: 10})
    peer.headers(1, end_stream=False)
    peer.respond(1, bytes(15), end=False)
    peer.connection.responses.fail(peer.stream(1))
    assert written(peer) == [("HEADERS", 1, 0, False), ("DATA", 1, 10, False)]
    peer.window_update(1, 10)
    data, reset = peer.turn()
    assert describe(data) == ("DATA", 1, 5, False)
    assert isinstance(reset, RstStreamFrame)
    assert reset.error_code == ErrorCode.INTERNAL_ERROR
    # The peer could not know: what it still sends is dropped.
    peer.data(1, b"late")
    assert peer.turn() == []


@pytest.mark.parametrize("head", [False, True])
def test_a_response_that_fails_before_its_body(head: bool) -> None:
    peer = greeted_peer()
    peer.headers(1)
    if head:
        peer.respond(1, end=False)
    peer.connection.responses.fail(peer.stream(1))
    frames = peer.turn()
    assert [type(frame) for frame in frames] == [HeadersFrame] * head + [RstStreamFrame]
    assert not any("END_STREAM" in frame.flags for frame in frames)
    assert peer.connection.streams == {}


# -- the end -----------------------------------------------------------------------------


def test_what_a_stream_had_still_to_send_goes_with_it() -> None:
    peer = greeted_peer(SHUT)
    peer.headers(1)
    peer.respond(1, bytes(1_000))
    peer.turn()
    peer.rst(1)
    assert peer.stream(1).queued == 0
    peer.window_update(0, 1_000)
    assert not [frame for frame in peer.turn() if not isinstance(frame, WindowUpdateFrame)]
