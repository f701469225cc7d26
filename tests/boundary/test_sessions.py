"""Races between a connection and the threads that serve it, step by step on whole sessions."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.settings import SettingCodes

from gunicorn_h2.handoff import ClientDisconnected
from gunicorn_h2.protocol import Link
from gunicorn_h2.settings import Settings
from tests.support.boundary import (
    CLIENT,
    LISTENER,
    Bench,
    on_loop,
    until,
    wait,
)

LOOPS = pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
App = Callable[[dict[str, Any], Callable[..., Any]], Any]
FIELDS = [(":scheme", "http"), (":authority", "example.test")]


class Client:
    """An HTTP/2 client on a connection in memory; it gives no credit unless told."""

    def __init__(self, bench: Bench, window: int | None = None) -> None:
        self.bench = bench
        self.link, self.transport = bench.connect()
        self.h2 = H2Connection(H2Configuration(client_side=True, header_encoding="latin-1"))
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: window})
        self.events: list[Event] = []
        self.flush()

    def request(self, path: str = "/", method: str = "GET", **fields: str) -> int:
        """Send a request's head; GET and HEAD have no body."""
        stream_id = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":path", path), *FIELDS, *fields.items()]
        self.h2.send_headers(stream_id, head, end_stream=method != "POST")
        self.flush()
        return stream_id

    def flush(self) -> None:
        self.transport.send(self.h2.data_to_send())

    def receive(self, answer: bool = True) -> None:
        """Read everything that has come; ACK what is to be ACKed unless told not to."""
        self.events += self.h2.receive_data(self.transport.take())
        if answer:
            self.flush()

    def has(self, kind: type[Event], stream_id: int = 1) -> bool:
        """Whether an event has come for the stream."""
        self.receive()
        return any(type(e) is kind and vars(e).get("stream_id") == stream_id for e in self.events)

    def of(self, kind: type[Any], stream_id: int = 1) -> list[Any]:
        """The events of a kind that have come for the stream."""
        return [e for e in self.events if type(e) is kind and e.stream_id == stream_id]

    @property
    def idle(self) -> bool:
        """Whether no thread has a request of this connection."""
        return not self.bench.running(self.link)


def with_bench(
    app: App,
    test: Callable[[Bench], Any],
    kind: str = "asyncio",
    settings: Settings | None = None,
    **config: Any,
) -> None:
    """Run a test with a server for ``app``; in the end no thread may be busy."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        bench = Bench(loop, app, settings or Settings(threads=4), **config)
        try:
            await test(bench)
            await bench.check_pool()
        finally:
            bench.close()

    on_loop(scenario(), kind)


class Body:
    """A response body whose `close` is the application's."""

    def __init__(self, parts: Iterable[bytes], close: Callable[[], Any]) -> None:
        self._parts = parts
        self.close = close

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._parts)


# -- HTTP/2 ---------------------------------------------------------------------------


def test_an_exception_that_nothing_stops_ends_its_stream_and_no_other() -> None:
    class Escape(BaseException):
        pass

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/fine":
            start_response("200 OK", [])
            return [b"fine"]
        raise Escape

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request("/escape")
        await until(lambda: client.has(StreamEnded))
        assert dict(client.of(ResponseReceived)[0].headers)[":status"] == "500"
        assert bench.escaped == []
        assert client.request("/fine") == 3
        await until(lambda: client.has(StreamEnded, 3))

    with_bench(app, test)


def test_an_application_that_reads_after_its_response_does_not_wait_for_ever() -> None:
    errors: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        def close() -> None:
            try:
                environ["wsgi.input"].read()
            except OSError as error:
                errors.append(error)

        start_response("200 OK", [])
        return Body([b"response"], close)

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request(method="POST")
        await until(lambda: client.has(StreamReset))
        assert client.of(StreamReset)[0].error_code == ErrorCodes.NO_ERROR
        await until(lambda: client.idle)
        assert [type(error) for error in errors] == [ClientDisconnected]

    with_bench(app, test)


def test_the_end_of_a_response_does_not_wait_for_what_the_application_does_in_close() -> None:
    sent, gate = threading.Event(), threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        def parts() -> Iterator[bytes]:
            yield b"response"
            wait(sent)

        start_response("200 OK", [])
        return Body(parts(), lambda: wait(gate))

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request()
        await until(lambda: client.has(DataReceived))
        sent.set()
        await until(lambda: client.has(StreamEnded))
        assert not client.idle
        gate.set()

    with_bench(app, test)


def test_a_peer_that_closes_before_its_body_is_complete_wakes_the_reader() -> None:
    errors: list[BaseException] = []
    reading = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        assert environ["wsgi.input"].read(4) == b"half"
        reading.set()
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
            raise

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request(method="POST")
        client.h2.send_data(1, b"half")
        client.flush()
        await until(reading.is_set)
        client.transport.send_eof()
        await until(lambda: client.idle)
        assert [type(error) for error in errors] == [ClientDisconnected]
        await until(lambda: client.transport.take() == b"" and client.transport.lost)

    with_bench(app, test)


def test_100_continue_comes_before_the_response_or_not_at_all() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/late":
            start_response("200 OK", [])
            yield b"begun "
            yield environ["wsgi.input"].read()
        else:
            body = environ["wsgi.input"].read()
            start_response("200 OK", [])
            yield body

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request("/late", "POST", expect="100-continue")
        await until(lambda: client.has(DataReceived, 1))
        client.h2.send_data(1, b"body", end_stream=True)
        client.flush()
        await until(lambda: client.has(StreamEnded, 1))
        assert b"".join(e.data for e in client.of(DataReceived, 1)) == b"begun body"
        assert not client.of(InformationalResponseReceived, 1)

        assert client.request("/early", "POST", expect="100-continue") == 3
        await until(lambda: client.has(InformationalResponseReceived, 3))
        client.h2.send_data(3, b"body", end_stream=True)
        client.flush()
        await until(lambda: client.has(StreamEnded, 3))

    with_bench(app, test)


def test_credit_is_given_back_though_the_window_has_shrunk_since() -> None:
    """Data of a peer that had not seen our SETTINGS, and read before these were ACKed."""
    read = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        assert len(environ["wsgi.input"].read(4_000)) == 4_000
        read.set()
        rest = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"%d" % len(rest)]

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request(method="POST")
        client.h2.send_data(1, b"x" * 4_000)
        client.flush()
        await until(read.is_set)
        # The credit has reached h2 with what the thread posted last.
        stream = client.link._session._connection.streams[1]  # type: ignore[union-attr]
        await until(lambda: not stream.uncredited)
        client.receive()
        assert client.h2.local_flow_control_window(1) < 0
        await until(lambda: client.has(WindowUpdated))
        client.h2.send_data(1, b"x" * 500, end_stream=True)
        client.flush()
        await until(lambda: client.has(StreamEnded))
        assert client.of(DataReceived)[0].data == b"500"

    with_bench(app, test, settings=Settings(threads=4, initial_window_size=1_024))


def test_encoder_table_sizes_that_were_overtaken_are_not_announced() -> None:
    """RFC 7541 section 4.2: the smallest and the last, of which none exceeds the limit."""

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"fine"]

    async def test(bench: Bench) -> None:
        client = Client(bench)
        for size in (2_000, 0):
            client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
            client.flush()
            client.receive()
        client.request()
        await until(lambda: client.has(StreamEnded))

    with_bench(app, test)


def test_what_threads_still_say_of_a_lost_connection_is_dropped() -> None:
    gates = {f"/{number}": threading.Event() for number in range(3)}

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield b"x" * 100_000
        wait(gates[environ["PATH_INFO"]])
        yield b"more"

    async def test(bench: Bench) -> None:
        client = Client(bench, window=1_000_000)
        client.h2.increment_flow_control_window(1_000_000)
        client.flush()
        for path in gates:
            client.request(path)
        await until(lambda: client.transport.get_write_buffer_size() > 65_536)
        session: Any = client.link._session
        client.transport.disconnect()
        await until(lambda: client.transport.lost)
        assert session._connection.streams == {}
        assert not any(session._connection.responses._scheduler._rings)
        for gate in gates.values():
            gate.set()
            bench.server.tick()
        await until(lambda: client.idle)
        assert bench.escaped == []

    with_bench(app, test)


@LOOPS
def test_a_real_socket_that_breaks_while_a_thread_writes(kind: str) -> None:
    """With the loop's own transport: uvloop's raises where asyncio's shrugs."""
    ended = threading.Event()
    errors: list[BaseException] = []

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        try:
            while True:
                yield b"x" * 50_000
        except GeneratorExit:
            ended.set()
            raise

    async def test(bench: Bench) -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        link = Link(bench.server, CLIENT, LISTENER, 2)
        bench.server.count_connection()
        bench.server.news[link] = asyncio.Event()
        await loop.connect_accepted_socket(lambda: link, ours)
        h2 = H2Connection(H2Configuration(client_side=True))
        h2.initiate_connection()
        head = [(":method", "GET"), (":path", "/"), *FIELDS]
        for stream_id in (1, 3, 5):
            h2.send_headers(stream_id, head, end_stream=True)
        theirs.sendall(h2.data_to_send())
        await until(lambda: bench.running(link) == 3)
        theirs.close()
        await until(lambda: not bench.running(link))
        assert ended.is_set() and not errors

    with_bench(app, test, kind)


# -- HTTP/1.1 -------------------------------------------------------------------------

GET = b"GET / HTTP/1.1\r\nHost: example.test\r\n\r\n"


def test_pipelined_requests_wait_until_the_peer_reads_their_answers() -> None:
    """Or a few kilobytes of requests would have any number of answers held in memory."""
    calls: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "60000")])
        return [b"x" * 60_000]

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET * 100)
        await until(lambda: transport.get_write_buffer_size() > 65_536)
        # As long as it goes on by itself.
        for _ in range(20):
            await until(lambda: not bench.running(link))
            await asyncio.sleep(0)
        assert len(calls) < 8
        received = [0]

        def complete() -> bool:
            received[0] += len(transport.take())
            return len(calls) == 100 and not bench.running(link)

        await until(complete)
        assert received[0] > 100 * 60_000
        assert len(calls) == 100
        transport.disconnect()

    with_bench(app, test)


def test_a_pipelined_request_of_a_peer_that_is_gone_is_not_run() -> None:
    calls: list[str] = []
    gate = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        calls.append(environ["PATH_INFO"])
        start_response("200 OK", [("Content-Length", "2")])
        return Body([b"ok"], lambda: wait(gate))

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET * 5)
        # The response is complete when the peer goes, and its thread has nothing
        # more to read or to write that could tell it so.
        await until(lambda: transport.get_write_buffer_size() > 0)
        transport.disconnect()
        await until(lambda: transport.lost)
        gate.set()
        await until(lambda: not bench.running(link))
        assert len(calls) == 1

    with_bench(app, test)


def test_no_100_continue_in_the_middle_of_an_http1_response() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        yield b"begun "
        yield environ["wsgi.input"].read()

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(
            b"POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        received = bytearray()
        await until(lambda: received.__iadd__(transport.take()).endswith(b"begun "))
        transport.send(b"body")
        await until(lambda: received.__iadd__(transport.take()).endswith(b"body"))
        assert received.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"100" not in received
        await until(lambda: not bench.running(link))
        transport.disconnect()

    with_bench(app, test)


def test_with_a_mark_of_0_a_100_continue_does_not_count_as_response() -> None:
    written = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.input"].read()
        write = start_response("200 OK", [("Content-Length", "2")])
        write(b"ok")
        written.set()
        return []

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(
            b"POST / HTTP/1.1\r\nHost: example.test\r\nExpect: 100-continue\r\n"
            b"Content-Length: 4\r\n\r\n"
        )
        await until(lambda: transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n")
        session: Any = link._session
        exchange = session._exchange
        assert exchange._sent == exchange._written == 0
        transport.send(b"body")
        await until(lambda: b"200 OK" in transport.take())
        await until(written.is_set)
        await until(lambda: not bench.running(link))
        transport.disconnect()

    with_bench(app, test, settings=Settings(threads=1, high_water_mark=0))


def test_a_drained_connection_closes_though_its_request_took_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gunicorn_h2.http1._LINGER", 0.01)
    gate = threading.Event()

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ok"
        wait(gate)

    async def test(bench: Bench) -> None:
        link, transport = bench.connect()
        transport.send(GET)
        await until(lambda: transport.get_write_buffer_size() > 0)
        link.drain()
        # Later than the moment at which an idle connection would have been closed.
        passed = asyncio.Event()
        bench.loop.call_later(0.05, passed.set)
        await passed.wait()
        assert not transport.is_closing()
        gate.set()
        transport.take()
        await until(lambda: transport.ended or transport.lost)

    with_bench(app, test, keepalive=3_600)
