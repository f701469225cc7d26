"""Every frame that we send, read as strictly as RFC 9113 sections 4 and 6 allow."""

from __future__ import annotations

import struct

import pytest

from tests.support.core import CorePeer
from tests.support.wire import (
    DEFAULT_FRAME_SIZE,
    HEADER_LENGTH,
    PREFACE,
    Flag,
    FrameType,
    Setting,
)

RESERVED_BIT = 1 << 31

#: The flags that a frame of ours may have, by type; what is not here is never sent.
FLAGS = {
    FrameType.DATA: Flag.END_STREAM,
    FrameType.HEADERS: Flag.END_STREAM | Flag.END_HEADERS,
    FrameType.RST_STREAM: Flag.NONE,
    FrameType.SETTINGS: Flag.ACK,
    FrameType.PING: Flag.ACK,
    FrameType.GOAWAY: Flag.NONE,
    FrameType.WINDOW_UPDATE: Flag.NONE,
    FrameType.CONTINUATION: Flag.END_HEADERS,
}
OF_THE_CONNECTION = {FrameType.SETTINGS, FrameType.PING, FrameType.GOAWAY}
OF_STREAMS = {FrameType.DATA, FrameType.HEADERS, FrameType.CONTINUATION, FrameType.RST_STREAM}


class Audit:
    """Reads our bytes; an assertion fails at the first that may not be."""

    def __init__(self, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self.seen: list[tuple[int, int, int]] = []
        self._open_block = 0
        #: Streams on which we have sent the last frame there may be.
        self._ended: set[int] = set()
        self._last_stream_id = RESERVED_BIT - 1

    def read(self, data: bytes) -> None:
        while data:
            length = int.from_bytes(data[:3], "big")
            frame_type, flags, stream_id = struct.unpack(">BBI", data[3:HEADER_LENGTH])
            payload = data[HEADER_LENGTH : HEADER_LENGTH + length]
            assert len(payload) == length, "cut off"
            self._frame(frame_type, flags, stream_id, payload)
            data = data[HEADER_LENGTH + length :]

    def _frame(self, frame_type: int, flags: int, stream_id: int, payload: bytes) -> None:
        assert self.seen or (frame_type == FrameType.SETTINGS and not flags)
        assert len(payload) <= self._max_frame_size
        assert not flags & ~FLAGS[FrameType(frame_type)]
        assert not stream_id & RESERVED_BIT
        if frame_type in OF_THE_CONNECTION:
            assert stream_id == 0
        else:
            assert stream_id % 2 or (frame_type == FrameType.WINDOW_UPDATE and not stream_id)
        assert bool(self._open_block) == (frame_type == FrameType.CONTINUATION)
        if frame_type in (FrameType.HEADERS, FrameType.CONTINUATION):
            assert self._open_block in (0, stream_id)
            self._open_block = 0 if flags & Flag.END_HEADERS else stream_id
        if frame_type in OF_STREAMS and frame_type != FrameType.CONTINUATION:
            assert stream_id not in self._ended, "after the end"
            if frame_type == FrameType.RST_STREAM or flags & Flag.END_STREAM:
                self._ended.add(stream_id)
        self._payload(frame_type, flags, payload)
        self.seen.append((frame_type, flags, stream_id))

    def _payload(self, frame_type: int, flags: int, payload: bytes) -> None:
        match frame_type:
            case FrameType.SETTINGS:
                assert len(payload) % 6 == 0
                assert not (flags & Flag.ACK and payload)
                assert Setting.ENABLE_PUSH not in [
                    identifier for identifier, _ in struct.iter_unpack(">HI", payload)
                ]
            case FrameType.PING:
                assert len(payload) == 8
            case FrameType.RST_STREAM:
                assert len(payload) == 4
            case FrameType.WINDOW_UPDATE:
                (increment,) = struct.unpack(">I", payload)
                assert 0 < increment < RESERVED_BIT
            case FrameType.GOAWAY:
                last_stream_id = int.from_bytes(payload[:4], "big")
                assert last_stream_id <= self._last_stream_id
                self._last_stream_id = last_stream_id


@pytest.mark.parametrize("max_frame_size", [DEFAULT_FRAME_SIZE, 20_000])
@pytest.mark.parametrize("room", [1 << 40, 100])
def test_every_frame_that_we_send_is_as_it_must_be(max_frame_size: int, room: int) -> None:
    peer = CorePeer(initial_window_size=40_000)
    audit = Audit(max_frame_size)

    def flush() -> None:
        while data := peer.connection.bytes_to_send(room, peer.now):
            audit.read(data)

    flush()
    peer.write_bytes(PREFACE)
    peer.settings({Setting.MAX_FRAME_SIZE: max_frame_size})
    peer.settings(ack=True)
    peer.window_update(0, 1 << 20)
    flush()
    # A head, a body and trailers that take several frames each, with another stream between.
    peer.headers(1, end_stream=False)
    peer.headers(3)
    peer.window_update(1, 1 << 20)
    responses = peer.connection.responses
    responses.add_informational(peer.stream(1), [(b":status", b"103")])
    large = ((b"x", b"~" * 50_000),)
    peer.respond(1, bytes(100_000), fields=large, trailers=large)
    peer.respond(3, b"x")
    peer.send_body(1, 30_000)
    peer.read_body(1)
    peer.ping()
    peer.connection.ping(b"question")
    flush()
    peer.data(1, end_stream=True)
    # Streams that end by a reset of either side.
    peer.headers(5)
    peer.rst(5)
    peer.headers(7)
    peer.respond(7, b"begun", end=False)
    peer.connection.responses.fail(peer.stream(7))
    peer.headers(9, extra=[("Bad", "1")])
    flush()
    peer.connection.announce_goaway(last=False)
    peer.connection.announce_goaway(last=True)
    peer.headers(11)
    peer.data(0, b"x")
    flush()
    assert peer.connection.failed
    assert {frame_type for frame_type, _, _ in audit.seen} == set(FLAGS)
    # RST_STREAM above all is of streams that the peer has opened.
    assert {stream_id for _, _, stream_id in audit.seen} == {0, *range(1, 13, 2)} - {5}
