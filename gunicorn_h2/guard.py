"""The gate in front of h2: cuts the byte stream into frames and bounds them.

Pure, called on the loop thread, for every byte that arrives. It looks at frame
headers only, as soon as the ninth byte is there, and refuses what would make
h2 hold or compute too much: oversize frames, header blocks that go on for ever,
floods of frames that cost the peer nothing. It knows no streams.
"""

from __future__ import annotations

from collections.abc import Iterator

from h2.errors import ErrorCodes

from .frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADER,
    HEADER_LENGTH,
    HEADERS,
    PADDED,
    PUSH_PROMISE,
    SETTINGS,
    ConnectionFault,
    Frame,
)
from .limits import Budget

#: A header block may take this many CONTINUATION frames: with frames of the
#: least size a peer must accept, 8 carry more than any header list we take.
MAX_CONTINUATIONS = 8


class Guard:
    """Cuts received bytes into frames; every field is owned by L.

    :param max_frame_size: bytes of payload (SETTINGS_MAX_FRAME_SIZE).
    :param max_block_size: bytes of one compressed header block.
    :param control: budget of frames that carry nothing for an application.
    :param empty_data: budget of DATA frames without data.
    """

    __slots__ = (
        "_block_size",
        "_block_stream",
        "_continuations",
        "_control",
        "_empty_data",
        "_max_block_size",
        "_max_frame_size",
        "_needed",
        "_rest",
        "_settings_seen",
        "block_started",
    )

    def __init__(
        self,
        max_frame_size: int,
        max_block_size: int,
        control: Budget,
        empty_data: Budget,
    ) -> None:
        self._max_frame_size = max_frame_size
        self._max_block_size = max_block_size
        self._control = control
        self._empty_data = empty_data
        #: The beginning of a frame, and how many bytes it takes to go on with it.
        self._rest = bytearray()
        self._needed = HEADER_LENGTH
        self._settings_seen = False
        #: The stream whose header block is not complete yet, or 0.
        self._block_stream = 0
        self._block_size = 0
        self._continuations = 0
        #: When the header block now being received began, or None.
        self.block_started: float | None = None

    def frames(self, data: bytes, now: float) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes.

        :raises ConnectionFault: the connection must end; what was yielded
            before stands.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._needed:
                return
            data = bytes(rest)
            rest.clear()
        position, end = 0, len(data)
        self._needed = HEADER_LENGTH
        while end - position >= HEADER_LENGTH:
            high, low, frame_type, flags, stream_id = HEADER.unpack_from(data, position)
            length = high << 16 | low
            stream_id &= 0x7FFFFFFF
            self._check_header(length, frame_type, flags, stream_id)
            following = position + HEADER_LENGTH + length
            if following > end:
                self._needed = following - position
                if frame_type == HEADERS and self.block_started is None:
                    self.block_started = now
                break
            frame = Frame(frame_type, flags, stream_id, data[position + HEADER_LENGTH : following])
            self._account(frame, length, now)
            position = following
            yield frame
        rest += data[position:]

    def _check_header(self, length: int, frame_type: int, flags: int, stream_id: int) -> None:
        """Refuse a frame by its header alone (RFC 9113 sections 3.4, 4.2, 6.10)."""
        if length > self._max_frame_size:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "frame larger than advertised")
        if not self._settings_seen and (frame_type != SETTINGS or flags & ACK):
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "the preface has no SETTINGS")
        if self._block_stream:
            if frame_type != CONTINUATION or stream_id != self._block_stream:
                raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "frame inside a header block")
            if (
                self._continuations >= MAX_CONTINUATIONS
                or self._block_size + length > self._max_block_size
            ):
                raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "endless header block")
        elif frame_type == CONTINUATION:
            raise ConnectionFault(
                ErrorCodes.PROTOCOL_ERROR, "CONTINUATION outside of a header block"
            )
        elif frame_type == PUSH_PROMISE:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        elif frame_type == HEADERS and length > self._max_block_size:
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "header block too large")
        elif not stream_id and frame_type in (DATA, HEADERS):
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "DATA or HEADERS on no stream")

    def _account(self, frame: Frame, length: int, now: float) -> None:
        """Follow header blocks and charge the budgets for a whole frame."""
        frame_type = frame.type
        if frame_type in (HEADERS, CONTINUATION):
            if frame.flags & END_HEADERS:
                self._block_stream = self._block_size = self._continuations = 0
                self.block_started = None
            elif frame_type == HEADERS:
                self._block_stream = frame.stream_id
                self._block_size = length
                if self.block_started is None:
                    self.block_started = now
            else:
                self._block_size += length
                self._continuations += 1
        elif frame_type == DATA:
            padding = frame.payload[0] + 1 if frame.flags & PADDED and length else 0
            empty = length <= padding and not frame.flags & END_STREAM
            if empty and not self._empty_data.spend(now):
                raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "flood of empty DATA")
        else:
            self._settings_seen = True
            if not self._control.spend(now):
                raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "flood of control frames")
