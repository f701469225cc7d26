"""An HTTP/1.1 peer that pipelines random requests, in random pieces, and judges the answers."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from gunicorn_h2.protocol import Link
from tests.boundary.bench import Bench, MemoryTransport
from tests.boundary.plans import PLANNED, Plan, PlannedApp

_LARGE = 1 << 20
_DEADLINES = 3_600.0


@dataclass
class Answer:
    """One response, as far as it has come."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool

    @property
    def framed(self) -> bool:
        """Whether it says by itself where it ends."""
        return b"content-length" in self.headers or b"transfer-encoding" in self.headers

    @property
    def closes(self) -> bool:
        return self.headers.get(b"connection", b"").lower() == b"close"


@dataclass
class Asked:
    """One request."""

    plan: Plan
    path: str
    method: str
    sent: bytes = field(repr=False)


class Http1Peer:
    """One connection's random life."""

    def __init__(self, bench: Bench, app: PlannedApp, rng: random.Random) -> None:
        self.bench = bench
        self.app = app
        self.rng = rng
        self.link: Link
        self.transport: MemoryTransport
        self.link, self.transport = bench.connect()
        self.asked: list[Asked] = []
        self.received = bytearray()
        self.cut = ""
        self._disturbed = False
        self._to_send = bytearray()
        for _ in range(rng.randint(1, 6)):
            self._ask()

    def __repr__(self) -> str:
        lines = [f"cut: {self.cut}, to send: {len(self._to_send)}", *map(repr, self.asked)]
        lines += [f"{answer!r:.300}" for answer in self.answers()]
        lines += [f"{name}: {value!r:.80}" for name, value in vars(self.transport).items()]
        if session := self.link._session:
            lines += [f"{name}: {value!r:.80}" for name, value in vars(session).items()]
        return "\n".join([*lines, f"running: {self.bench.running(self.link)}"])

    def _ask(self) -> None:
        rng = self.rng
        size = rng.choice((0, 0, 0, 1, 100, 5_000, 30_000))
        plan = Plan(rng, size)
        # Whether Gunicorn minds is Gunicorn's business.
        plan.shortfall = 0
        path = self.app.add(plan)
        body = rng.randbytes(size)
        method = "POST" if size else rng.choice(("GET", "GET", "GET", "HEAD"))
        head = f"{method} {path} HTTP/1.{0 if rng.random() < 0.03 else 1}\r\nHost: example.test\r\n"
        if rng.random() < 0.03:
            head += "Connection: close\r\n"
        chunked = size and rng.random() < 0.5 and "HTTP/1.1" in head
        if chunked:
            head += "Transfer-Encoding: chunked\r\n"
        elif size:
            head += f"Content-Length: {size}\r\n"
        self._to_send += head.encode() + b"\r\n" + (self._chunks(body) if chunked else body)
        self.asked.append(Asked(plan, path, method, body))

    def _chunks(self, body: bytes) -> bytes:
        coded = bytearray()
        while body:
            size = self.rng.randint(1, len(body))
            coded += b"%x\r\n%s\r\n" % (size, body[:size])
            body = body[size:]
        return bytes(coded + b"0\r\n\r\n")

    # -- what a peer may do ----------------------------------------------------------------

    async def run(self) -> None:
        """Live, end, and see whether everything is as it should be."""
        rng = self.rng
        actions = [
            (6, self._send_some),
            (6, self._receive),
            (4, self._open_a_gate),
            (0.1, self._miss_deadlines),
            (0.1, self._let_server_drain),
            (0.3, self._disconnect),
            (0.2, self._eof),
        ]
        weights = [weight for weight, _ in actions]
        chosen = rng.choices([action for _, action in actions], weights, k=rng.randint(3, 25))
        for action in [self._send_some, *chosen]:
            if self.cut:
                break
            action()
            for _ in range(rng.choice((0, 0, 1, 1, 3))):
                await asyncio.sleep(0)
        await self._wind_down()
        self._check()
        if not self.transport.lost:
            self.transport.disconnect()

    def _send_some(self) -> None:
        size = self.rng.choice((1, 3, 50, 1_000, 10_000, _LARGE))
        data = bytes(self._to_send[:size])
        del self._to_send[:size]
        self.transport.send(data)

    def _receive(self) -> None:
        self._take(self.rng.choice((1, 100, 10_000, _LARGE)))

    def _take(self, size: int = _LARGE) -> int:
        data = self.transport.take(size)
        self.received += data
        return len(data)

    def _open_a_gate(self) -> None:
        closed = [g for asked in self.asked for g in asked.plan.gates if not g.is_set()]
        if closed:
            self.rng.choice(closed).set()

    def _miss_deadlines(self) -> None:
        self._disturbed = True
        self.link.tick(self.bench.server.now() + _DEADLINES)

    def _let_server_drain(self) -> None:
        self._disturbed = True
        self.link.drain()

    def _disconnect(self) -> None:
        self.cut = "disconnect"
        self.transport.disconnect()

    def _eof(self) -> None:
        self.cut = "eof"
        self.transport.send_eof()

    # -- the end -----------------------------------------------------------------------------

    async def _wind_down(self) -> None:
        for asked in self.asked:
            asked.plan.open_gates()
        if not self.cut:
            self.transport.send(bytes(self._to_send))
            self._to_send.clear()
        while True:
            self.transport.news.clear()
            moved = self._take()
            idle = not self.bench.running(self.link) and not moved
            if idle and (self.transport.ended or self._answered()):
                return
            if idle and self.cut:
                self.transport.disconnect()
            if not moved and not self.transport.news.is_set():
                await self.transport.news.wait()

    def _answered(self) -> bool:
        answers = self.answers()
        return len(answers) == len(self.asked) and answers[-1].whole

    def answers(self) -> list[Answer]:
        """What has come, response by response; the last one may not be whole."""
        answers: list[Answer] = []
        rest = bytes(self.received)
        for asked in self.asked:
            answer, rest = _parse(rest, asked.method == "HEAD", self.transport.ended)
            if answer is None:
                break
            answers.append(answer)
        assert not answers or answers[-1].whole or not rest
        if len(answers) == len(self.asked):
            assert not rest, "more answers than requests"
        return answers

    def _check(self) -> None:
        session: Any = self.link._session
        if session is not None:
            assert session._exchange is None
            assert self.transport.lost or self.cut or not session._outbox
        may_end = bool(self.cut) or self._disturbed
        answers: list[Answer | None] = [*self.answers()]
        answers += [None] * (len(self.asked) - len(answers))
        for asked, answer in zip(self.asked, answers, strict=True):
            del self.app.plans[asked.path]
            plan = asked.plan
            assert asked.sent.startswith(plan.read), "the body was not read in order"
            if answer is None or not answer.whole:
                assert may_end or plan.error is not None, asked
            elif answer.status == 200:
                expected = b"" if asked.method == "HEAD" else bytes(plan.produced)
                assert expected.startswith(answer.body), asked
                if answer.framed or not (self.cut or self._disturbed):
                    assert answer.body == expected, asked
                if asked.method != "HEAD" and b"transfer-encoding" in answer.headers:
                    assert plan.completed, asked
            else:
                assert may_end or (answer.status == 500 and isinstance(plan.error, PLANNED)), asked
            if answer is None or not answer.whole or answer.closes or plan.error is not None:
                may_end = True


def _parse(data: bytes, to_head: bool, ended: bool) -> tuple[Answer | None, bytes]:
    """Take one response off ``data``, interim ones before it included."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        return None, data
    status_line, *lines = head.split(b"\r\n")
    status = int(status_line.split(b" ")[1])
    if status < 200:
        return _parse(rest, to_head, ended)
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(b":") for x in lines)}
    if to_head and status == 200:  # Gunicorn's error pages come with a body even so.
        return Answer(status, headers, b"", True), rest
    if b"content-length" in headers:
        size = int(headers[b"content-length"])
        return Answer(status, headers, rest[:size], len(rest) >= size), rest[size:]
    if headers.get(b"transfer-encoding") == b"chunked":
        body = bytearray()
        while True:
            line, separator, after = rest.partition(b"\r\n")
            size = int(line, 16) if separator else 0
            if not separator or len(after) < size + 2:
                return Answer(status, headers, bytes(body), False), b""
            assert after[size : size + 2] == b"\r\n", "chunks are out of order"
            body += after[:size]
            rest = after[size + 2 :]
            if not size:
                return Answer(status, headers, bytes(body), True), rest
    return Answer(status, headers, rest, ended), b""
