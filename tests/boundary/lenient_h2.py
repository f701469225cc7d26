"""h2's client, without what it minds although RFC 9113 allows servers to do it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event

_HEADER_LENGTH = 9
_EMPTY_DATA = b"\0\0\0\0"
_HEADERS = 0x1
_GOAWAY = 0x7


class LenientClient(H2Connection):
    """A client that takes a GOAWAY for what it says, not for the end of everything."""

    def __init__(self) -> None:
        super().__init__(H2Configuration(client_side=True, header_encoding="latin-1"))
        #: The server has said that it takes no new streams.
        self.going_away = False
        self._reset_by_us: set[int] = set()
        self._received = bytearray()

    def reset_stream(self, stream_id: int, error_code: Any = 0) -> None:
        self._reset_by_us.add(stream_id)
        super().reset_stream(stream_id, error_code)

    def take(self, data: bytes) -> Iterator[Event]:
        """What the server's bytes mean."""
        self._received += data
        for raw in self._frames():
            stream_id = int.from_bytes(raw[5:9], "big")
            if raw[3] == _GOAWAY:
                self.going_away = True
            elif raw[3] == _HEADERS and stream_id in self._reset_by_us:
                # h2 minds an informational response that crossed our reset.
                self.decoder.decode(raw[_HEADER_LENGTH:])
            else:
                if raw[:4] == _EMPTY_DATA:
                    self._allow_empty_data(stream_id)
                yield from self.receive_data(raw)

    def _allow_empty_data(self, stream_id: int) -> None:
        """Section 6.9.1: no window is needed; h2 minds one that has gone negative."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            manager = stream._inbound_window_manager
            manager.current_window_size = max(0, manager.current_window_size)

    def _frames(self) -> Iterator[bytes]:
        buffer = self._received
        while len(buffer) >= _HEADER_LENGTH:
            end = _HEADER_LENGTH + int.from_bytes(buffer[:3], "big")
            if len(buffer) < end:
                break
            raw = bytes(buffer[:end])
            del buffer[:end]
            yield raw
