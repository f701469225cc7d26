"""Accepting: what is in the backlog of a worker that leaves, and a process without descriptors."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from gunicorn_h2.acceptor import Acceptor
from tests.support.boundary import on_loop, until


class Worker:
    """An acceptor that is paused, its listener, and what it takes and logs."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listener.setblocking(False)
        self._address = self.listener.getsockname()
        self.taken: list[Any] = []
        self.errors: list[str] = []
        self.acceptor = Acceptor(
            asyncio.get_running_loop(), [self.listener], self, self._take, True, "starting"
        )

    def connect(self) -> Any:
        """A connection that waits in the backlog; the client's own address."""
        client = self._stack.enter_context(socket.create_connection(self._address))
        return client.getsockname()

    def error(self, message: str, *arguments: object) -> None:
        self.errors.append(message % arguments)

    def _take(self, sock: socket.socket, client: Any, listener: socket.socket) -> None:
        assert listener is self.listener
        assert not self._stack.enter_context(sock).getblocking()
        self.taken.append(client)


@pytest.mark.parametrize("private", [False, True])
def test_a_backlog_that_no_other_worker_could_take_is_taken_before_the_end(private: bool) -> None:
    async def scenario() -> None:
        with ExitStack() as stack:
            worker = Worker(stack)
            waiting = [worker.connect() for _ in range(3)]
            worker.acceptor.close("draining", private=private)
            assert worker.taken == (waiting if private else [])
            with pytest.raises(ConnectionRefusedError):
                worker.connect()

    on_loop(scenario())


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """The process may have as many as it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_without_descriptors_connections_wait_in_the_backlog(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gunicorn_h2.acceptor._EXHAUSTED_PAUSE", 0.2)

    async def scenario() -> None:
        with ExitStack() as stack:
            worker = Worker(stack)
            waiting = [worker.connect() for _ in range(3)]
            with no_more_descriptors():
                worker.acceptor.resume("starting")
                await until(lambda: bool(worker.errors))
                # The loop is not kept busy with what cannot be done.
                for _ in range(100):
                    await asyncio.sleep(0)
                assert len(worker.errors) < 50
                # Nothing has changed when it tries again.
                seen = len(worker.errors)
                await until(lambda: len(worker.errors) > seen)
            assert not worker.taken
            assert worker.errors[0].startswith("Cannot accept connections: [Errno 24]")
            await until(lambda: worker.taken == waiting)
            worker.acceptor.close("draining", private=False)

    on_loop(scenario())


def test_another_reason_not_to_accept_holds_when_there_are_descriptors_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gunicorn_h2.acceptor._EXHAUSTED_PAUSE", 0.01)

    async def scenario() -> None:
        with ExitStack() as stack:
            worker = Worker(stack)
            waiting = worker.connect()
            with no_more_descriptors():
                worker.acceptor.resume("starting")
                await until(lambda: bool(worker.errors))
                worker.acceptor.pause("full")
            resumed = asyncio.Event()
            asyncio.get_running_loop().call_later(0.05, resumed.set)
            await resumed.wait()
            assert not worker.taken
            worker.acceptor.resume("full")
            await until(lambda: worker.taken == [waiting])
            worker.acceptor.close("draining", private=False)

    on_loop(scenario())
