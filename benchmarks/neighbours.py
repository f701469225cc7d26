"""What a small request waits for that shares its connection with slow and with large ones.

On one connection there are eight streams that are slow and a download of 100 MB, each
begun anew when it has ended, while small requests are made one after another. The
client gives credit for what it has read and no more: the download fills the window.
It looks at no more of a frame than it must: what it takes for the download, the
small requests wait for.
"""

from __future__ import annotations

import struct
import time

from tests.support.frames import RawClient
from tests.support.wire import HEADER_LENGTH, FrameType, window_update_frame

from .servers import Target

SLOW_STREAMS = 8
SLOW = "/sleep?s=0.5"
LARGE = "/100mb"
SMALL = "/hello"
#: Seconds of silence that are taken for "no answer".
_PATIENCE = 10.0
_WARM_UP = 20
_READ_SIZE = 1 << 18
#: Length (in two parts), type, flags, stream.
_HEADER = struct.Struct(">BHBBL")
_END_STREAM = 0x1


class Requests:
    """The requests on one connection.

    :param client: it has greeted the server, and reads no more itself.
    """

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._background: dict[int, str] = {}
        self._read = bytearray()
        client.sock.settimeout(_PATIENCE)

    def begin(self, path: str) -> None:
        """Open a stream that is opened again whenever it ends."""
        self._background[self._send(path)] = path

    def small(self) -> float:
        """Seconds that one small request takes."""
        start = time.perf_counter()
        stream_id = self._send(SMALL)
        while self._next_end() != stream_id:
            pass
        return time.perf_counter() - start

    def _send(self, path: str) -> int:
        stream_id = self._client.next_stream_id
        self._client.headers(stream_id, path=path)
        return stream_id

    def _next_end(self) -> int:
        """Read until a stream ends; its id."""
        while True:
            frame_type, flags, stream_id, payload = self._next_frame()
            ends = flags & _END_STREAM and frame_type in (FrameType.DATA, FrameType.HEADERS)
            if frame_type == FrameType.HEADERS:
                fields = list(self._client.decoder.decode(payload, raw=True))
                assert (b":status", b"200") in fields
            elif frame_type == FrameType.DATA and payload:
                updates = window_update_frame(0, len(payload))
                if not ends:
                    updates += window_update_frame(stream_id, len(payload))
                self._client.sock.sendall(updates)
            elif frame_type in (FrameType.RST_STREAM, FrameType.GOAWAY):
                raise AssertionError(f"{FrameType(frame_type).name} on {stream_id}")
            if ends:
                path = self._background.pop(stream_id, None)
                if path is not None:
                    self.begin(path)
                return stream_id

    def _next_frame(self) -> tuple[int, int, int, bytes]:
        """Type, flags, stream and payload."""
        high, low, frame_type, flags, stream_id = _HEADER.unpack(self._take(HEADER_LENGTH))
        return frame_type, flags, stream_id, self._take(high << 16 | low)

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            received = self._client.sock.recv(_READ_SIZE)
            assert received, "closed by the server"
            self._read += received
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken


def p99(requests: Requests, seconds: float) -> float:
    """The 99th percentile of small requests that follow one another for so long, in ms."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        times.append(requests.small())
    return 1000 * sorted(times)[int(0.99 * len(times))]


def measure(target: Target, seconds: float) -> tuple[float, float]:
    """The 99th percentile beside the others, in ms, and how many times the one alone it is."""
    with target.client() as client:
        requests = Requests(client)
        for _ in range(_WARM_UP):
            requests.small()
        alone = p99(requests, seconds / 2)
        for path in [SLOW] * SLOW_STREAMS + [LARGE]:
            requests.begin(path)
        beside = p99(requests, seconds / 2)
        return beside, beside / alone
