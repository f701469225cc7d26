"""An HTTP/2 peer that does random but legal things, and judges what it gets for it.

The peer's own state is h2's client: it sends nothing that it may not send, and
raises where the server breaks the protocol.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    PingAckReceived,
    ResponseReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes, Settings

from gunicorn_h2.protocol import Link
from tests.boundary.bench import Bench, MemoryTransport
from tests.boundary.http2_judge import Request, check_request, check_window
from tests.boundary.lenient_h2 import LenientClient
from tests.boundary.plans import Plan, PlannedApp

_LARGE = 1 << 20
_WINDOW = 65_535
#: Later than every deadline.
_DEADLINES = 3_600.0
#: The server takes its input in turns: with the answer it has seen all that came before.
_LAST_PING = b"all sent"


class Http2Peer:
    """One connection's random life."""

    def __init__(self, bench: Bench, app: PlannedApp, rng: random.Random) -> None:
        self.bench = bench
        self.app = app
        self.rng = rng
        self.link: Link
        self.transport: MemoryTransport
        self.link, self.transport = bench.connect()
        self.h2 = LenientClient()
        window = rng.choice((0, 100, _WINDOW, _WINDOW, _WINDOW))
        self.h2.local_settings = Settings(
            client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.h2.initiate_connection()
        #: h2 takes an ACK for that of all the SETTINGS it has sent: one at a time.
        self._settings_under_way = True
        self._widen_by_settings = False
        self.requests: list[Request] = []
        #: The connection is not to survive: who caused that, or "".
        self.cut = ""
        self._server_may_close = False
        self._owed = 0
        self._all_seen = False
        self._flush()

    def __repr__(self) -> str:
        lines = [f"{'cut by ' + self.cut if self.cut else 'whole'}", *map(repr, self.requests)]
        session: Any = self.link._session
        for name, value in vars(self.transport).items():
            lines.append(f"transport {name}: {value!r:.80}")
        lines.append(f"open: {list(session._connection.streams) if session else None}")
        lines.append(f"running: {self.bench.running(self.link)}")
        return "\n".join(lines)

    async def run(self) -> None:
        """Live, end, and see whether everything is as it should be."""
        await self.live()
        await self.wind_down()
        self.check()
        if not self.transport.lost:
            self.transport.disconnect()

    # -- what a peer may do --------------------------------------------------------------

    async def live(self) -> None:
        """A number of random actions with the loop turning in between, or not."""
        rng = self.rng
        actions = [
            (6, self._open),
            (8, self._send_data),
            (2, self._end_body),
            (1, self._reset),
            (3, self._open_window),
            (1, self._change_settings),
            (1, self._reprioritize),
            (1, self._ping),
            (8, self._receive),
            (5, self._open_a_gate),
            (0.15, self._miss_deadlines),
            (0.1, self._let_server_drain),
            (0.2, self._disconnect),
            (0.15, self._eof),
            (0.1, self._break_protocol),
        ]
        weights = [weight for weight, _ in actions]
        chosen = rng.choices([action for _, action in actions], weights, k=rng.randint(5, 30))
        for action in [self._open, *chosen]:
            if self.cut:
                break
            action()
            if rng.random() < 0.7:
                self._flush()
            for _ in range(rng.choice((0, 0, 1, 1, 3))):
                await asyncio.sleep(0)

    def _open(self) -> None:
        rng = self.rng
        allowed = self.h2.remote_settings.max_concurrent_streams
        full = len(self.requests) >= 6 or self.h2.open_outbound_streams >= allowed
        if full or self.h2.going_away:
            return
        body_size = rng.choice((0, 0, 0, 1, 100, 5_000, 30_000))
        plan = Plan(rng, body_size)
        path = self.app.add(plan)
        has_body = body_size > 0 or rng.random() < 0.1
        length = body_size if has_body and rng.random() < 0.4 else None
        if length and rng.random() < 0.05:
            length += 1
        head_only = rng.random() < 0.08
        fields = [
            (":method", "HEAD" if head_only else "POST" if has_body else "GET"),
            (":scheme", "http"),
            (":authority", "example.test"),
            (":path", path),
        ]
        if length is not None:
            fields.append(("content-length", str(length)))
        if has_body and rng.random() < 0.2:
            fields.append(("expect", "100-continue"))
        if rng.random() < 0.2:
            fields.append(("priority", rng.choice(("u=0", "u=7, i", "i", "u=1, i=?0"))))
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, fields, end_stream=not has_body)
        request = Request(stream_id, plan, path, head_only, body_size, length)
        request.body_ended = not has_body
        self.requests.append(request)

    def _sending(self) -> list[Request]:
        return [r for r in self.requests if not r.over and not r.body_ended]

    def _send_data(self) -> None:
        sending = [request for request in self._sending() if request.left]
        if sending:
            self._send_part(self.rng.choice(sending))

    def _send_part(self, request: Request) -> None:
        rng = self.rng
        padding = rng.choice((None, None, None, 0, 30))
        room = self.h2.local_flow_control_window(request.id) - (
            0 if padding is None else padding + 1
        )
        size = min(request.left, room, rng.choice((1, 50, 4_000, 16_000)))
        if size <= 0:
            return
        data = rng.randbytes(size)
        request.left -= size
        request.sent += data
        ends = not request.left and rng.random() < 0.5
        request.body_ended = ends
        self.h2.send_data(request.id, data, end_stream=ends, pad_length=padding)
        self._note_length(request)

    def _end_body(self) -> None:
        if sending := self._sending():
            self._end(self.rng.choice(sending))

    def _end(self, request: Request) -> None:
        request.body_ended = True
        # With trailers h2 forgets that it has asked by HEAD.
        if not request.head_only and self.rng.random() < 0.2:
            self.h2.send_headers(request.id, [("checksum", "7")], end_stream=True)
        else:
            self.h2.end_stream(request.id)
        self._note_length(request)

    def _note_length(self, request: Request) -> None:
        """A body that does not fit its Content-Length is the peer's fault."""
        if request.body_ended and request.length not in (None, len(request.sent)):
            request.disturbed = True

    def _reset(self) -> None:
        if running := [request for request in self.requests if not request.over]:
            self._reset_one(self.rng.choice(running))

    def _reset_one(self, request: Request) -> None:
        self.h2.reset_stream(request.id, ErrorCodes.CANCEL)
        request.reset_by_us = True

    def _open_window(self) -> None:
        running = [request for request in self.requests if not request.over]
        increment = self.rng.choice((1, 100, 20_000, 70_000))
        if running and self.rng.random() < 0.6:
            self.h2.increment_flow_control_window(increment, self.rng.choice(running).id)
        else:
            self.h2.increment_flow_control_window(increment)

    def _change_settings(self) -> None:
        rng = self.rng
        codes = SettingCodes
        if self._settings_under_way:
            return
        self._settings_under_way = True
        choices: dict[SettingCodes | int, tuple[int, ...]] = {
            codes.INITIAL_WINDOW_SIZE: (0, 1, 100, _WINDOW, 200_000),
            codes.MAX_FRAME_SIZE: (16_384, 100_000),
            codes.HEADER_TABLE_SIZE: (0, 100, 4_096),
        }
        code = rng.choice(list(choices))
        self.h2.update_settings({code: rng.choice(choices[code])})

    def _reprioritize(self) -> None:
        if self.requests:
            stream_id = self.rng.choice(self.requests).id
            value = self.rng.choice((b"u=0", b"u=6, i", b"i=?0", b""))
            payload = stream_id.to_bytes(4, "big") + value
            self._flush()
            self._send(len(payload).to_bytes(3, "big") + b"\x10\0\0\0\0\0" + payload)

    def _ping(self) -> None:
        self.h2.ping(b"whatever")

    def _open_a_gate(self) -> None:
        closed = [g for r in self.requests for g in r.plan.gates if not g.is_set()]
        if closed:
            self.rng.choice(closed).set()

    def _miss_deadlines(self) -> None:
        self._server_may_close = True
        self._flush()
        for request in self.requests:
            request.disturbed = True
        self.link.tick(self.bench.server.now() + _DEADLINES)
        session: Any = self.link._session
        if session is None or not session._connection.settings_acknowledged:
            self.cut = "deadline"

    def _let_server_drain(self) -> None:
        self._server_may_close = True
        self._flush()
        self.link.drain()

    def _disconnect(self) -> None:
        self.cut = "disconnect"
        self.transport.disconnect()

    def _eof(self) -> None:
        self._flush()
        self.cut = "eof"
        self.transport.send_eof()

    def _break_protocol(self) -> None:
        self._flush()
        self.cut = "fault"
        self._send(b"\0\0\1\x06\0\0\0\0\0\0")

    # -- bytes ---------------------------------------------------------------------------

    def _flush(self) -> None:
        if data := self.h2.data_to_send():
            self._send(data)

    def _send(self, data: bytes) -> None:
        while data:
            size = len(data) if self.rng.random() < 0.7 else self.rng.randint(1, len(data))
            self.transport.send(data[:size])
            data = data[size:]

    def _receive(self) -> None:
        self.take(self.rng.choice((1, 100, 10_000, _LARGE)))

    def take(self, size: int = _LARGE) -> int:
        """Read what the server has sent, ``size`` bytes at most."""
        data = self.transport.take(size)
        for event in self.h2.take(data):
            self._take_event(event)
        return len(data)

    def _take_event(self, event: Any) -> None:
        if isinstance(event, SettingsAcknowledged):
            self._settings_under_way = False
        if isinstance(event, PingAckReceived):
            self._all_seen |= event.ping_data == _LAST_PING
        if isinstance(event, (ResponseReceived, DataReceived, StreamEnded, StreamReset)):
            request = next(r for r in self.requests if r.id == event.stream_id)
            if isinstance(event, ResponseReceived):
                fields: dict[Any, Any] = dict(event.headers or ())
                request.status = int(fields[":status"])
            elif isinstance(event, DataReceived):
                request.received += event.data or b""
                self._owed += event.flow_controlled_length or 0
            elif isinstance(event, StreamEnded):
                request.ended = True
            else:
                request.reset_code = event.error_code

    # -- the end -------------------------------------------------------------------------

    async def wind_down(self) -> None:
        """Let everything come to its end: windows open, bodies complete, gates open."""
        for request in self.requests:
            request.plan.open_gates()
        self._open_windows()
        asked = False
        while True:
            self.transport.news.clear()
            moved = self.take()
            if self.transport.lost or self.cut:
                if self.transport.lost and not self.bench.running(self.link):
                    return
                if self.cut == "eof" and not moved and not self.transport.is_closing():
                    # Whoever shuts down for writing closes at last.
                    self.transport.disconnect()
            else:
                moved += self._push_on()
                pending = self.transport.get_write_buffer_size()
                if not pending and not self.bench.running(self.link) and self._all_over():
                    if self._all_seen:
                        return
                    if not asked:
                        asked = True
                        self.h2.ping(_LAST_PING)
                        self._flush()
            if not moved and not self.transport.news.is_set():
                await self.transport.news.wait()

    def _open_windows(self) -> None:
        """Wide enough for everything: every stream's, then the connection's, or in turn."""
        if self.cut:
            return
        self._widen_by_settings = self.rng.random() < 0.4
        running = [r for r in self.requests if not r.over and not self._widen_by_settings]
        grants = [None, *(request.id for request in running)]
        if self.rng.random() < 0.5:
            grants.reverse()
        for stream_id in grants:
            self.h2.increment_flow_control_window(_LARGE, stream_id)
            self._flush()

    def _all_over(self) -> bool:
        return all(request.over for request in self.requests)

    def _push_on(self) -> int:
        """Send what may be sent; bytes of bodies."""
        if self._widen_by_settings and not self._settings_under_way:
            self._widen_by_settings = False
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: _LARGE})
        if self._owed:
            self.h2.increment_flow_control_window(self._owed)
            self._owed = 0
        before = sum(request.left for request in self._sending())
        for request in self._sending():
            if request.left:
                self._send_part(request)
            else:
                self._end(request)
        self._flush()
        return before - sum(request.left for request in self._sending())

    def check(self) -> None:
        """Whether everything is as it should be once all is over."""
        session: Any = self.link._session
        if self.transport.lost:
            assert self.cut or self._server_may_close
            assert session is None
        else:
            connection = session._connection
            assert connection.streams == {}
            if not connection.failed:
                assert not any(connection.responses._scheduler._rings)
            if not self.cut:
                check_window(self.h2, connection._h2)
        for request in self.requests:
            check_request(request, certain=not self.cut and not self.transport.lost)
            del self.app.plans[request.path]
