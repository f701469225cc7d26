"""Fuzzed bytes read as a series of choices, and as what a peer sends by them.

Any bytes mean something: where they have run out, every choice is the first one. So a
fuzzer may cut, join and change inputs as it likes, and a file of bytes is all that it
takes to run one again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import hpack

from gunicorn_h2.stream import Field
from tests.support import wire
from tests.support.wire import Flag, Setting

from .ledger import Ledger

T = TypeVar("T")

MAX_WINDOW = 2**31 - 1

_GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/")]
_POST = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/")]
_CONNECT = [(b":method", b"CONNECT"), (b":authority", b"localhost")]
_FIELDS = [
    (b"a", b"b"),
    (b"content-length", b"3"),
    (b"content-length", b"2000"),
    (b"content-length", b"0"),
    (b"priority", b"u=1, i"),
    (b"priority", b"u=7,,i=?0"),
    (b"te", b"trailers"),
    (b"cookie", b"c" * 50),
]
#: What costs a request its stream, or gets it a 431.
_BAD_FIELDS = [
    (b"content-length", b"+3"),
    (b"te", b"gzip"),
    (b"connection", b"close"),
    (b"x-long", b"v" * 5_000),
    (b"x-large", b"w" * 60_000),
    (b"A", b"b"),
    (b"", b"b"),
    (b"x", b" b"),
    (b"x", b"a\nb"),
    (b":path", b"/twice"),
    (b":protocol", b"websocket"),
    (b":unknown", b"x"),
]
#: Blocks that hpack would not write: size updates, bad indexes, half an integer.
_RAW_BLOCKS = [
    b"",
    b"\x20\x82\x86\x84",
    b"\x20\x20\x20\x82",
    b"\x3f\xe1\x1f\x82",
    b"\x3f\xff\xff\xff",
    b"\xff\xff",
    b"\x7f",
]
_STREAM_IDS = [0, 2, 101, MAX_WINDOW]
_INCREMENTS = [1, 100, 30_000, 65_535]
_BAD_INCREMENTS = [0, MAX_WINDOW, 2**31 + 5]
_SETTINGS = [
    (Setting.HEADER_TABLE_SIZE, (0, 100, 4_096, 2**32 - 1)),
    (Setting.INITIAL_WINDOW_SIZE, (0, 1, 20_000, 65_535, 1_000_000)),
    (Setting.MAX_FRAME_SIZE, (16_384, 20_000, 2**24 - 1)),
    (Setting.MAX_CONCURRENT_STREAMS, (0, 100)),
    (Setting.ENABLE_PUSH, (0,)),
    (Setting.NO_RFC7540_PRIORITIES, (1,)),
]
_BAD_SETTING_VALUES = [0, 1, 100, MAX_WINDOW, 2**31, 2**32 - 1]
_SIZES = [0, 1, 3, 100, 2_000, 16_384]
_BAD_SIZES = [16_384, 16_385, 20_001]


class Choices:
    """Reads choices off ``data``, from its start to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> bool:
        return self._position < len(self._data)

    def below(self, limit: int) -> int:
        """A number of at least 0, of one byte up to a limit of 256 and of two above."""
        size = 1 if limit <= 256 else 2
        return int.from_bytes(self.bytes(size), "big") % limit

    def one_in(self, count: int) -> bool:
        """True about once in ``count`` times; never where the bytes have run out."""
        return self.below(count) == count - 1

    def pick(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def bytes(self, size: int) -> bytes:
        taken = self._data[self._position : self._position + size]
        self._position += size
        return taken


class Sender:
    """Makes the bytes of frames, one choice after the other.

    :param ledger: where it sees what the windows hold.

    How often it breaks a rule is a choice too: a connection that ends at the third frame
    shows nothing of what comes later.
    """

    def __init__(self, choices: Choices, ledger: Ledger) -> None:
        self._choices = choices
        self._ledger = ledger
        self._encoder = hpack.Encoder()
        self._next_stream_id = 1
        #: It breaks a rule once in so many times; 0 is never.
        self.rudeness = choices.pick([0, 250, 100, 25])
        self._makers = [
            self._request,
            self._request,
            self._data,
            self._data,
            self._window_update,
            self._window_update,
            self._settings,
            self._reset,
            self._trailers,
            self._priority,
            self._priority_update,
            self._ping,
            self._goaway,
        ]

    def frames(self) -> bytes:
        """One frame, or a header block, and now and then a damaged one."""
        if self.rude():
            return self._choices.pick([self._any_frame, self._any_headers])()
        make = self._choices.pick(self._makers) if self._next_stream_id > 1 else self._request
        return self._damaged(make()) if self.rude() else make()

    def noise(self) -> bytes:
        """Bytes that are as they come."""
        return self._choices.bytes(self._choices.below(40))

    def rude(self) -> bool:
        """Whether the peer breaks a rule now."""
        return self.rudeness > 0 and self._choices.one_in(self.rudeness)

    def _damaged(self, sent: bytes) -> bytes:
        choices = self._choices
        position = choices.below(max(1, min(len(sent), 256)))
        kind = choices.below(4)
        if kind == 0:
            return sent[:position] + choices.bytes(1) + sent[position + 1 :]
        if kind == 1:
            return sent[:position]
        if kind == 2:
            return sent[:position] + choices.bytes(choices.below(8)) + sent[position:]
        return sent + sent

    def _stream_id(self) -> int:
        """Mostly one of the latest streams: they are the ones that are open."""
        if self.rude():
            return self._choices.pick([*_STREAM_IDS, self._next_stream_id])
        return max(1, self._next_stream_id - 2 - 2 * self._choices.below(5))

    def _unfinished_id(self) -> int:
        """A stream on which more may be sent, or 0: there is none."""
        stream_id = self._stream_id()
        if self.rude():
            return stream_id
        while stream_id in self._ledger.finished or stream_id % 2 == 0:
            stream_id += 1
        return stream_id if stream_id < self._next_stream_id else 0

    def _request(self) -> bytes:
        stream_id, self._next_stream_id = self._next_stream_id, self._next_stream_id + 2
        choices = self._choices
        fields = list(choices.pick([_POST, _POST, _GET, _CONNECT]))
        fields += [choices.pick(_FIELDS) for _ in range(choices.below(3))]
        fields += [choices.pick(_BAD_FIELDS)] if self.rude() else []
        return self._block(stream_id, self._encode(fields), choices.one_in(3))

    def _trailers(self) -> bytes:
        choices = self._choices
        stream_id = self._unfinished_id()
        if not stream_id:
            return self._request()
        fields = [choices.pick(_FIELDS[:4])]
        fields += [choices.pick(_BAD_FIELDS)] if self.rude() else []
        return self._block(stream_id, self._encode(fields), not self.rude())

    def _any_headers(self) -> bytes:
        choices = self._choices
        if choices.one_in(3):
            block = choices.pick([*_RAW_BLOCKS, choices.bytes(choices.below(30))])
        else:
            fields = list(choices.pick([[], _POST, _GET[1:], _GET + _CONNECT]))
            fields += [choices.pick(_FIELDS + _BAD_FIELDS) for _ in range(choices.below(6))]
            block = self._encode(fields)
        stream_id = choices.pick([self._next_stream_id, self._stream_id()])
        if stream_id % 2 and self._next_stream_id <= stream_id < 1_000:
            self._next_stream_id = stream_id + 2
        return self._block(stream_id, block, choices.one_in(2))

    def _encode(self, fields: list[Field]) -> bytes:
        # hpack takes long to compress long values; that server and peer do is enough.
        short = sum(len(value) for _, value in fields) < 1_000
        return self._encoder.encode(fields, huffman=short and self._choices.one_in(2))

    def _block(self, stream_id: int, block: bytes, end_stream: bool) -> bytes:
        choices = self._choices
        return wire.headers_frames(
            stream_id,
            block,
            end_stream=end_stream,
            end_headers=not self.rude(),
            priority=choices.pick([None, None, (0, 16, False), (3, 1, True)]),
            pad=choices.pick([None, None, 0, 5, 255]),
            # Two more fit than are taken.
            split=choices.pick([None, None, None, 1 + len(block) // (1 + choices.below(10))]),
        )

    def _data(self) -> bytes:
        choices = self._choices
        stream_id = self._unfinished_id()
        if not stream_id:
            return self._request()
        pad = choices.pick([None, None, None, 0, 10, 255])
        size = choices.pick(_SIZES)
        if self.rude():
            size = choices.pick(_BAD_SIZES)
        else:
            padding = 0 if pad is None else pad + 1
            room = self._ledger.receive_window(stream_id) - padding
            if room < 0:
                pad = None
            size = max(0, min(size, room, wire.DEFAULT_FRAME_SIZE - padding))
        return wire.data_frame(stream_id, bytes(size), end_stream=choices.one_in(6), pad=pad)

    def _window_update(self) -> bytes:
        stream_id = self._choices.pick([0, self._stream_id()])
        increments = _BAD_INCREMENTS if self.rude() else _INCREMENTS
        return wire.window_update_frame(stream_id, self._choices.pick(increments))

    def _settings(self) -> bytes:
        choices = self._choices
        if choices.one_in(3):
            return wire.settings_frame(ack=True)
        if self.rude():
            count = choices.pick([1, 2, 33])
            return wire.settings_frame(
                [(choices.below(10), choices.pick(_BAD_SETTING_VALUES)) for _ in range(count)]
            )
        pairs = []
        for _ in range(choices.below(4)):
            setting, values = choices.pick(_SETTINGS)
            pairs.append((setting, choices.pick(values)))
        return wire.settings_frame(pairs)

    def _reset(self) -> bytes:
        return wire.rst_stream_frame(self._stream_id(), self._choices.below(16))

    def _priority(self) -> bytes:
        stream_id = self._stream_id()
        depends_on = stream_id if self.rude() else stream_id ^ 1
        return wire.priority_frame(stream_id, (depends_on, 1, False))

    def _priority_update(self) -> bytes:
        value = self._choices.pick(["", "u=0", "i", "u=9,,", "u=7, i=?0"])
        return wire.priority_update_frame(self._stream_id(), value)

    def _ping(self) -> bytes:
        return wire.ping_frame(b"draining", ack=self._choices.one_in(3))

    def _goaway(self) -> bytes:
        return wire.goaway_frame(self._stream_id(), self._choices.below(16))

    def _any_frame(self) -> bytes:
        choices = self._choices
        return wire.frame(
            choices.below(0x12),
            choices.pick([*Flag, choices.below(256)]),
            choices.pick([self._stream_id(), self._stream_id(), choices.pick(_STREAM_IDS)]),
            choices.bytes(choices.below(16)),
        )
