"""What a small request waits for that shares its connection with slow and with large ones.

On one connection there are eight streams that are slow and a download of 100 MB, each
begun anew when it has ended, while small requests are made one after another. The
client gives credit for what it has read and no more: the download fills the window.
"""

from __future__ import annotations

import time

from hyperframe.frame import DataFrame, HeadersFrame

from tests.support.frames import RawClient
from tests.support.wire import window_update_frame

from .servers import Target

SLOW_STREAMS = 8
SLOW = "/sleep?s=0.5"
LARGE = "/100mb"
SMALL = "/hello"
#: Seconds of silence that are taken for "no answer".
_PATIENCE = 10.0
_WARM_UP = 20


class Requests:
    """The requests on one connection."""

    def __init__(self, client: RawClient) -> None:
        self._client = client
        self._background: dict[int, str] = {}

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
            frame = self._client.read_frame(_PATIENCE)
            if isinstance(frame, HeadersFrame):
                assert (b":status", b"200") in self._client.fields(frame)
            if isinstance(frame, DataFrame) and (size := frame.flow_controlled_length):
                updates = window_update_frame(0, size)
                if "END_STREAM" not in frame.flags:
                    updates += window_update_frame(frame.stream_id, size)
                self._client.write_bytes(updates)
            if frame.stream_id and "END_STREAM" in frame.flags:
                path = self._background.pop(frame.stream_id, None)
                if path is not None:
                    self.begin(path)
                return frame.stream_id


def p99(requests: Requests, seconds: float) -> float:
    """The 99th percentile of small requests that follow one another for so long, in ms."""
    times = []
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
