"""A `Connection` against a peer that may send anything at all."""

from __future__ import annotations

import itertools

import pytest
from h2.errors import ErrorCodes
from hyperframe.frame import (
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import wire
from tests.support.core import UNLIMITED, CorePeer
from tests.support.wire import ErrorCode, Flag

MAX_WINDOW = 2**31 - 1

#: Header blocks, good and bad, that need no dynamic table: any order will do.
GET = b"\x82\x86\x84\x01\x01a"
POST = b"\x83\x86\x84\x01\x01a"
BLOCKS = [
    GET,
    POST,
    POST + b"\x0f\x0d\x013",  # content-length: 3
    POST + b"\x0f\x0d\x02+3",
    GET + b"\x00\x08priority\x05u=1,i",
    GET + b"\x00\x01a\x03 b ",
    GET + b"\x00\x01A\x01b",
    b"\x00\x01a\x01b",  # trailers
    b"\x00\x02:a\x01b",
    b"",
    b"\x20" + GET,
    b"\x20\x20\x20" + GET,
    b"\x3f" + GET,
    b"\xff\xff",
]
stream_ids = st.sampled_from([1, 1, 1, 3, 3, 5, 7, 9, 0, 2])
increments = st.sampled_from([0, 1, 100, 65_535, MAX_WINDOW, 2**31 + 5])
setting_values = st.sampled_from([0, 1, 100, 4_096, 16_384, 65_535, MAX_WINDOW, 2**32 - 1])
well_formed = st.one_of(
    st.builds(
        wire.headers_frames,
        stream_ids,
        st.sampled_from(BLOCKS),
        end_stream=st.booleans(),
        end_headers=st.sampled_from([True, True, True, False]),
        priority=st.none() | st.tuples(st.integers(0, 3), st.just(16), st.booleans()),
        pad=st.none() | st.integers(0, 5),
        split=st.none() | st.integers(1, 6),
    ),
    st.builds(
        wire.data_frame,
        stream_ids,
        st.sampled_from([b"", b"abc", bytes(2_000), bytes(16_000)]),
        end_stream=st.booleans(),
        pad=st.none() | st.integers(0, 255),
    ),
    st.builds(wire.rst_stream_frame, stream_ids),
    st.builds(wire.window_update_frame, stream_ids, increments),
    st.builds(wire.priority_frame, stream_ids, st.tuples(stream_ids, st.just(1), st.booleans())),
    st.builds(wire.priority_update_frame, stream_ids, st.sampled_from(["", "u=0", "i", "u=9,,"])),
    st.builds(wire.ping_frame, st.just(b"12345678"), ack=st.booleans()),
    st.builds(
        wire.settings_frame, st.lists(st.tuples(st.integers(0, 9), setting_values), max_size=3)
    ),
    st.builds(wire.settings_frame, ack=st.just(True)),
    st.builds(wire.goaway_frame),
)
ill_formed = st.builds(
    wire.frame,
    st.integers(0, 0x11),
    st.integers(0, 255) | st.sampled_from(list(Flag)),
    stream_ids,
    st.binary(max_size=12),
)
frames = st.one_of(well_formed, well_formed, well_formed, ill_formed)
#: What the application does next, and on which of its streams.
actions = st.tuples(
    st.sampled_from(
        ["head", "hint", "data", "end", "trailers", "fail", "reset", "credit", "discard"]
    ),
    st.integers(0, 3),
)
rooms = st.sampled_from([0, 1, 10_000, UNLIMITED])


class Application:
    """Does what it is told, as the session would let it."""

    def __init__(self, peer: CorePeer) -> None:
        self.peer = peer
        self.heads: set[int] = set()
        self.ends: set[int] = set()

    def act(self, action: str, choice: int) -> None:
        connection, responses = self.peer.connection, self.peer.connection.responses
        open_streams = list(connection.streams.values())
        if not open_streams:
            return
        stream = open_streams[choice % len(open_streams)]
        if action == "reset":
            connection.reset(stream, ErrorCodes.CANCEL)
        elif action == "credit":
            self.peer.read_body(stream.id)
        elif action == "discard":
            connection.discard_body(stream)
        elif stream.id in self.ends:
            return
        elif action == "fail":
            self.ends.add(stream.id)
            responses.fail(stream)
        elif action == "hint":
            responses.add_informational(stream, [(b":status", b"103")])
        elif stream.id not in self.heads:
            self.heads.add(stream.id)
            responses.add_head(stream, [(b":status", b"200")])
        elif action == "data":
            responses.add_data(stream, [bytes(9_000)], self.peer.now)
        elif action in ("end", "trailers"):
            self.ends.add(stream.id)
            responses.end(stream, [(b"x", b"y")] if action == "trailers" else [])


class Output:
    """What a peer can check of all that it is sent."""

    def __init__(self, peer: CorePeer) -> None:
        self.peer = peer
        self.closed: set[int] = set()

    def check(self, room: int) -> None:
        sent = self.peer.turn(room)
        for frame in sent:
            self.check_frame(frame)
        if self.peer.connection.failed:
            assert isinstance(sent[-1], GoAwayFrame)
            assert sent[-1].error_code != ErrorCode.NO_ERROR
            self.peer.write_bytes(wire.ping_frame())
            assert self.peer.turn() == []
        else:
            assert not any(isinstance(frame, GoAwayFrame) for frame in sent)

    def check_frame(self, frame: Frame) -> None:
        if isinstance(frame, (HeadersFrame, DataFrame)) or (
            isinstance(frame, WindowUpdateFrame) and frame.stream_id
        ):
            assert frame.stream_id not in self.closed
        if isinstance(frame, RstStreamFrame) or "END_STREAM" in frame.flags:
            self.closed.add(frame.stream_id)


@settings(max_examples=300, deadline=None)
@given(
    requests=st.lists(st.tuples(st.sampled_from([GET, POST]), st.booleans()), max_size=4),
    steps=st.lists(
        st.one_of(
            st.tuples(frames, st.none() | st.none() | st.integers(0, 40)),
            actions,
            st.tuples(rooms, st.none()),
        ),
        max_size=30,
    ),
)
def test_whatever_comes_the_connection_lives_or_ends_cleanly(
    requests: list[tuple[bytes, bool]], steps: list[tuple[object, object]]
) -> None:
    peer = CorePeer(max_concurrent_streams=3, initial_window_size=30_000).greet()
    application, output = Application(peer), Output(peer)
    for block, end_stream in requests:
        peer.headers(peer.next_stream_id, block=block, end_stream=end_stream)
    on_its_way = b""
    for what, how in steps:
        if peer.connection.failed:
            break
        if isinstance(what, bytes):
            on_its_way += what
            cut = len(on_its_way) if how is None else how
            assert isinstance(cut, int)
            peer.write_bytes(on_its_way[:cut])
            on_its_way = on_its_way[cut:]
        elif isinstance(what, int):
            output.check(what)
        else:
            assert isinstance(what, str)
            assert isinstance(how, int)
            application.act(what, how)
    output.check(UNLIMITED)


@settings(max_examples=150, deadline=None)
@given(
    sent=st.lists(frames, max_size=15).map(b"".join) | st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 400), max_size=20),
    preface=st.booleans(),
)
def test_where_the_bytes_are_cut_makes_no_difference(
    sent: bytes, cuts: list[int], preface: bool
) -> None:
    if preface:
        sent = wire.PREFACE + wire.settings_frame() + sent
    whole, parts = CorePeer(), CorePeer()
    whole.write_bytes(sent)
    marks = sorted({0, len(sent), *(cut for cut in cuts if cut < len(sent))})
    for start, end in itertools.pairwise(marks):
        parts.write_bytes(sent[start:end])
    assert parts.connection.failed == whole.connection.failed
    assert parts.connection.bytes_to_send(0, 0) == whole.connection.bytes_to_send(0, 0)
    assert parts.take_events() == whole.take_events()


@pytest.mark.parametrize("greeted", [False, True])
@settings(max_examples=100, deadline=None)
@given(sent=st.lists(st.binary(max_size=100), max_size=10))
def test_random_bytes(greeted: bool, sent: list[bytes]) -> None:
    peer = CorePeer()
    if greeted:
        peer.greet()
    for each in sent:
        peer.write_bytes(each)
    Output(peer).check(UNLIMITED)
