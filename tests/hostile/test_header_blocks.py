"""Rows 10 to 13: header blocks that do not end, cannot be decoded, or grow when they are."""

from __future__ import annotations

import pytest
from hpack.hpack import encode_integer
from hyperframe.frame import GoAwayFrame

from tests.support import wire
from tests.support.frames import RawClient
from tests.support.wire import ErrorCode, Flag, FrameType

from .peers import reading_nothing, want_end
from .watch import RSS_SLACK, SLOW_FACTOR, Watch, crowd, kib

#: Seconds of the loop's time that one connection may cost by one header block.
CPU_LIMIT = 0.05
HELD_LIMIT = 256 << 10
#: What the loop reads of one TLS connection at once, and may keep for the next.
TLS_BUFFER = 256 << 10
#: Connections that do the same, so that what each costs can be told.
ATTACKERS = 5
#: "aaaaaaaa" in Huffman code, of five bits each.
EIGHT_A = b"\x18\xc6\x31\x8c\x63"
#: With fields of 4 KB that are a byte each on the wire.
BOMB_LIMIT = 2 << 20


def literal(name: bytes, value: bytes, kind: int = 0x00) -> bytes:
    """A field with its name and value in it, neither Huffman-coded; by default not indexed."""
    return bytes([kind]) + string(name) + string(value)


def string(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text


def huffman_literal(size: int) -> bytes:
    """A field whose value takes so many bytes, a multiple of 5, and is longer when decoded."""
    length = encode_integer(size, 7)
    length[0] |= 0x80
    return b"\x00" + string(b"x") + bytes(length) + EIGHT_A * (size // 5)


def request_block(client: RawClient, path: bytes = b"/hello") -> bytes:
    """A request that leaves the dynamic table alone."""
    scheme = b"\x87" if client.scheme == "https" else b"\x86"
    return b"\x82" + scheme + b"\x01" + string(b"localhost") + b"\x04" + string(path)


CONTINUATION = wire.frame(FrameType.CONTINUATION, 0, 1, b"\x82")
ENDLESS: dict[str, bytes] = {
    "nine CONTINUATION frames": wire.headers_frames(1, b"\x82", end_headers=False)
    + CONTINUATION * 9,
    "empty CONTINUATION frames": wire.headers_frames(1, b"\x82", end_headers=False)
    + wire.frame(FrameType.CONTINUATION, 0, 1) * 1_000,
    "more than the header list may hold": wire.headers_frames(1, literal(b"x", bytes(70_000))),
    "a Huffman literal of a megabyte": wire.headers_frames(1, huffman_literal(1_000_000)),
    "64 KiB of one-byte fields": wire.headers_frames(1, b"\x82" * 65_536),
    "64 KiB of three-byte fields": wire.headers_frames(1, b"\x00\x00\x00" * 21_845),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_row_10_endless_header_blocks(watch: Watch, kind: str) -> None:
    with crowd(watch.server, ATTACKERS) as clients:
        cpu = watch.loop_cpu
        for client in clients:
            client.try_write(ENDLESS[kind])
        for client in clients:
            want_end(client, ErrorCode.ENHANCE_YOUR_CALM)
        cpu = (watch.loop_cpu - cpu) / ATTACKERS
        watch.note(loop_cpu=f"{cpu * 1e3:.1f} ms", held=kib(watch.growth // ATTACKERS))
        held = ATTACKERS * (HELD_LIMIT + TLS_BUFFER * watch.server.tls)
        assert watch.growth < held + RSS_SLACK
    assert cpu < max(CPU_LIMIT, SLOW_FACTOR * watch.target.idle_p99)


def test_row_10_huffman_within_the_limits(watch: Watch) -> None:
    """The largest literal that is decoded: the answer is 431."""
    with crowd(watch.server, ATTACKERS) as clients:
        cpu = watch.loop_cpu
        for client in clients:
            client.headers(1, block=request_block(client) + huffman_literal(60_000))
        for client in clients:
            assert client.response(1).status == 431
        cpu = (watch.loop_cpu - cpu) / ATTACKERS
    watch.expects_warnings = True
    watch.note(loop_cpu=f"{cpu * 1e3:.1f} ms")
    assert cpu < max(CPU_LIMIT, SLOW_FACTOR * watch.target.idle_p99)


INSIDE: dict[str, bytes] = {
    "PING": wire.ping_frame(),
    "SETTINGS": wire.settings_frame(),
    "DATA": wire.data_frame(1, b"x"),
    "WINDOW_UPDATE": wire.window_update_frame(0, 1),
    "RST_STREAM": wire.rst_stream_frame(1),
    "HEADERS of another stream": wire.headers_frames(3, b"\x82"),
    "CONTINUATION of another stream": wire.frame(FrameType.CONTINUATION, Flag.END_HEADERS, 3),
    "an unknown type": wire.frame(0x42, 0, 1),
}


@pytest.mark.parametrize("kind", INSIDE)
def test_row_11_another_frame_inside_a_header_block(watch: Watch, kind: str) -> None:
    with RawClient(watch.server).greet() as client:
        client.headers(1, end_headers=False)
        client.write_bytes(INSIDE[kind])
        want_end(client, ErrorCode.PROTOCOL_ERROR)


UNDECODABLE: dict[str, bytes] = {
    "three table size updates": b"\x20\x20\x20\x82",
    "a thousand table size updates": b"\x20" * 1_000,
    "a table size beyond ours": b"\x3f\xe2\x1f\x82",
    "a size update after a field": b"\x82\x20",
    "index 0": b"\x80",
    "an index beyond the table": b"\xff\xff\xff\x7f",
    "an index into the empty table": b"\xbe",
    "a name cut short": b"\x00\x05ab",
    "an integer without an end": b"\xff" + b"\xff" * 60,
    "wrong Huffman padding": b"\x00\x01a\x81\x00",
}


@pytest.mark.parametrize("kind", UNDECODABLE)
def test_row_12_header_block_that_cannot_be_decoded(watch: Watch, kind: str) -> None:
    with RawClient(watch.server).greet() as client:
        client.headers(1, block=UNDECODABLE[kind])
        want_end(client, ErrorCode.COMPRESSION_ERROR)


@pytest.mark.parametrize("references", [101, 1_900, 16_000])
def test_row_13_hpack_bomb(watch: Watch, references: int) -> None:
    """One entry of 4 KB in the table, named so often in one request: 431, and on it goes."""
    watch.expects_warnings = True
    with RawClient(watch.server).greet() as client:
        arm(client)
        cpu = watch.loop_cpu
        client.headers(3, block=request_block(client) + b"\xbe" * references)
        assert client.response(3).status == 431
        cpu = watch.loop_cpu - cpu
        watch.note(loop_cpu=f"{cpu * 1e3:.1f} ms", held=kib(watch.growth))
        assert watch.growth < BOMB_LIMIT
        client.headers(5, block=request_block(client))
        assert client.response(5).status == 200


def test_row_13_hpack_bombs_on_every_stream(watch: Watch) -> None:
    """None of the answers can leave: the requests must not be what is held."""
    watch.expects_warnings = True
    with reading_nothing(watch.server) as client:
        client.headers(1, block=request_block(client) + literal(b"x", b"v" * 4_000, 0x40))
        stream_ids = range(3, 201, 2)
        with client.one_write():
            for stream_id in stream_ids:
                client.headers(stream_id, block=request_block(client) + b"\xbe" * 1_900)
        client.want_idle(GoAwayFrame)
        watch.note(held=kib(watch.growth))
        assert watch.growth < BOMB_LIMIT
        client.window_update(1, 1_000)
        assert client.response(1).status == 200


def arm(client: RawClient) -> None:
    """Put a field of 4 KB into the server's table, where its index is 62."""
    client.headers(1, block=request_block(client) + literal(b"x", b"v" * 4_000, 0x40))
    assert client.response(1).status == 200
