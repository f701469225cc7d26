"""A WSGI application that does what a random plan says, and remembers what came of it."""

from __future__ import annotations

import io
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

from gunicorn_h2.errors import ClientDisconnected, RequestTimeout
from tests.support.boundary import wait


class Planned(Exception):
    """What a plan raises as an ordinary error."""


class PlannedEscape(BaseException):
    """What a plan raises that no ``except Exception`` stops."""


PLANNED = (Planned, PlannedEscape)

Step = tuple[str, Any]


class Plan:
    """What the application does with one request; written by P, read by L once P is done."""

    def __init__(self, rng: random.Random, body_size: int) -> None:
        self.form = rng.choice(("generator", "generator", "list", "write", "file", "iterable"))
        self.gates: list[threading.Event] = []
        self.before = self._steps(rng, rng.choice((0, 0, 1, 2)), body_size, parts=False)
        count = rng.choice((0, 1, 1, 2, 4))
        self.after = self._steps(rng, count, body_size, parts=True)
        self.in_close = self._steps(rng, rng.choice((0, 0, 0, 1)), body_size, parts=False)
        if self.form in ("list", "file"):
            self.after = [step for step in self.after if step[0] == "part"]
        self.parts = [argument for step, argument in self.after if step == "part"]
        self.declares_length = rng.random() < 0.3
        self.shortfall = rng.choice((0, 0, 0, 7)) if self.declares_length else 0
        self.swallows = rng.random() < 0.2

        self.read = bytearray()
        self.produced = bytearray()
        self.started = False
        #: The application has returned all of its response.
        self.completed = False
        #: What it raised last.
        self.error: BaseException | None = None

    def _steps(self, rng: random.Random, count: int, body_size: int, parts: bool) -> list[Step]:
        steps: list[Step] = []
        for _ in range(count):
            kind = rng.random()
            if parts and kind < 0.6:
                size = rng.choice((0, 1, 10, 1_000, 16_384, 70_000))
                steps.append(("part", _pattern(rng, size)))
            elif kind < 0.75:
                steps.append(("read", rng.choice((1, 100, body_size or 1, None))))
            elif kind < 0.92:
                self.gates.append(threading.Event())
                steps.append(("gate", self.gates[-1]))
            elif kind < 0.94:
                steps.append(("hints", None))
            elif kind < 0.98:
                steps.append(("raise", Planned))
            else:
                steps.append(("raise", PlannedEscape))
        return steps

    def open_gates(self) -> None:
        """Let the application go on to its end."""
        for gate in self.gates:
            gate.set()

    def __repr__(self) -> str:
        steps = {
            name: [(kind, len(arg) if isinstance(arg, bytes) else arg) for kind, arg in steps]
            for name, steps in vars(self).items()
            if name in ("before", "after", "in_close")
        }
        state = {"started": self.started, "completed": self.completed, "error": self.error}
        return f"<Plan {self.form} {steps} short of {self.shortfall} bytes; {state}>"

    # -- on P -------------------------------------------------------------------------

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.started = True
        self._environ = environ
        try:
            for step in self.before:
                self._do(step)
            headers = [("X-Plan", self.form)]
            if self.declares_length:
                length = sum(map(len, self.parts)) + self.shortfall
                headers.append(("Content-Length", str(length)))
            write = start_response("200 OK", headers)
            return self._respond(write)
        except BaseException as error:
            self.error = error
            raise

    def _respond(self, write: Callable[[bytes], None]) -> Any:
        if self.form in ("list", "file"):
            for part in self.parts:
                self.produced += part
            self.completed = True
            if self.form == "list":
                return [*self.parts]
            return self._environ["wsgi.file_wrapper"](io.BytesIO(self.produced), 1_000)
        if self.form == "write":
            for step in self.after:
                if step[0] == "part":
                    write(self._produce(step[1]))
                else:
                    self._do(step)
            self.completed = True
            return []
        parts = self._generate()
        return parts if self.form == "generator" else _Iterable(parts, self._close)

    def _generate(self) -> Iterator[bytes]:
        try:
            for step in self.after:
                if step[0] == "part":
                    yield self._produce(step[1])
                else:
                    self._do(step)
            self.completed = True
        except (Exception, PlannedEscape) as error:
            self.error = error
            raise

    def _produce(self, part: bytes) -> bytes:
        self.produced += part
        return part

    def _close(self) -> None:
        try:
            for step in self.in_close:
                self._do(step)
        except BaseException as error:
            self.error = error
            raise

    def _do(self, step: Step) -> None:
        kind, argument = step
        if kind == "read":
            try:
                stream = self._environ["wsgi.input"]
                self.read += stream.read() if argument is None else stream.read(argument)
            except (ClientDisconnected, RequestTimeout):
                if not self.swallows:
                    raise
        elif kind == "gate":
            wait(argument)
        elif kind == "hints":
            hints = self._environ.get("wsgi.early_hints")
            if hints is not None:
                hints([("Link", "</style.css>")])
        else:
            raise argument("as planned")


class _Iterable:
    """An iterable with a `close` that is the application's, as middleware has it."""

    def __init__(self, parts: Iterator[bytes], close: Callable[[], None]) -> None:
        self._parts = parts
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return self._parts


class PlannedApp:
    """The application: finds a request's plan by its path."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self._count = 0

    def add(self, plan: Plan) -> str:
        """The path to ask for."""
        self._count += 1
        path = f"/{self._count}"
        self.plans[path] = plan
        return path

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return self.plans[environ["PATH_INFO"]](environ, start_response)


def _pattern(rng: random.Random, size: int) -> bytes:
    """Bytes of which no part looks like another, to see a part lost or out of order."""
    return rng.randbytes(size)
