"""Races between an HTTP/2 connection and the threads that serve it, step by step."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    InformationalResponseReceived,
    PingAckReceived,
    ResponseReceived,
    StreamEnded,
    WindowUpdated,
)
from h2.settings import SettingCodes
from hyperframe.frame import GoAwayFrame

from gunicorn_h2 import http2
from gunicorn_h2.errors import ClientDisconnected
from gunicorn_h2.protocol import Link
from gunicorn_h2.settings import Settings
from tests.boundary.bench import CLIENT, LISTENER, Bench
from tests.boundary.clients import FIELDS, Body, Client, with_bench
from tests.boundary.jobs import LOOPS
from tests.support.boundary import until, wait


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
        await until(lambda: client.has(StreamEnded) and client.idle)
        assert [type(error) for error in errors] == [ClientDisconnected]

    with_bench(app, test)


@pytest.mark.parametrize("ending", ["short", "long", "trailers"])
def test_a_wrong_end_of_a_body_after_its_response_ends_only_the_stream(ending: str) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("403 Forbidden", [])
        return [b"response"]

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request("/", "POST", **{"content-length": "5"})
        await until(lambda: client.has(StreamEnded) and client.idle)
        if ending == "trailers":
            client.h2.send_data(1, b"body ")
            client.h2.send_headers(1, [("te", "chunked")], end_stream=True)
        else:
            client.h2.send_data(1, b"bod" if ending == "short" else b"too much", end_stream=True)
        client.flush()
        assert client.request("/next") == 3
        await until(lambda: client.has(StreamEnded, 3))

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


def test_an_unread_body_holds_no_window_while_its_response_waits_for_the_peer() -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("403 Forbidden", [])
        return [b"response"]

    async def test(bench: Bench) -> None:
        client = Client(bench, window=0)
        client.request(method="POST")
        for _ in range(4):
            client.h2.send_data(1, b"x" * 10_000)
        client.flush()
        assert client.h2.outbound_flow_control_window == 25_535
        await until(lambda: client.has(ResponseReceived) and client.idle)
        client.receive()
        assert client.h2.outbound_flow_control_window == 65_535
        assert not client.of(DataReceived)

    with_bench(app, test, settings=Settings(threads=1, connection_window_size=65_535))


def test_no_window_grows_while_the_application_is_at_work() -> None:
    """It reads, and all that came; but it never waits for the peer."""
    arrived = threading.Semaphore(0)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        while arrived.acquire(timeout=10) and environ["wsgi.input"].read(65_535):
            pass
        start_response("200 OK", [])
        return []

    def received(client: Client) -> bool:
        client.receive()
        return any(isinstance(event, PingAckReceived) for event in client.events)

    def window(client: Client) -> int:
        return client.h2.local_flow_control_window(1)

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request(method="POST")
        for _ in range(5):
            client.events.clear()
            for size in (16_384, 16_384, 16_384, 16_383):
                client.h2.send_data(1, bytes(size))
            client.h2.ping(b"received")
            client.flush()
            await until(lambda: received(client))
            arrived.release()
            await until(lambda: bool(client.has(WindowUpdated) and window(client)))
            assert window(client) == 65_535
        client.h2.end_stream(1)
        client.flush()
        arrived.release()
        await until(lambda: client.has(StreamEnded))

    with_bench(app, test)


def test_an_empty_frame_ends_a_body_though_the_window_has_shrunk_since() -> None:
    """RFC 9113 section 6.9.1: it needs no window, and curl ends its bodies so."""
    ended = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        wait(ended)
        start_response("200 OK", [])
        return [b"%d" % len(environ["wsgi.input"].read())]

    async def test(bench: Bench) -> None:
        client = Client(bench)
        client.request(method="POST")
        client.h2.send_data(1, b"x" * 4_000)
        client.flush()
        client.receive()
        assert client.h2.local_flow_control_window(1) < 0
        client.h2.end_stream(1)
        client.flush()
        ended.set()
        await until(lambda: client.has(StreamEnded))
        assert client.of(DataReceived)[0].data == b"4000"

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
        for gate in gates.values():
            gate.set()
            bench.server.tick()
        await until(lambda: client.idle)
        assert bench.escaped == []

    with_bench(app, test)


@LOOPS
def test_a_real_socket_that_breaks_while_a_thread_writes(kind: str) -> None:
    """With the loop's own transport: uvloop's raises where asyncio's shrugs."""
    began, ended = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        began.set()
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
        await until(lambda: began.is_set() and bench.running(link) == 3)
        theirs.close()
        await until(lambda: not bench.running(link))
        assert ended.is_set() and not errors

    with_bench(app, test, kind)


def test_a_connection_with_much_to_take_in_leaves_turns_to_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http2, "_TURN", 0.0)

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return []

    async def test(bench: Bench) -> None:
        client, other = Client(bench), Client(bench)
        for number in range(60):
            stream_id = client.h2.get_next_available_stream_id()
            head = [(":method", "GET"), (":path", f"/{number:01000}"), *FIELDS]
            client.h2.send_headers(stream_id, head, end_stream=True)
        client.flush()
        # Not read further, until it has been taken in.
        await until(lambda: not client.transport._reading)
        other.request("/other")
        await until(lambda: other.has(StreamEnded))
        await until(lambda: client.has(StreamEnded, 119))
        assert client.transport._reading

    with_bench(app, test)


def frame_types(data: bytes) -> Iterator[int]:
    while data:
        yield data[3]
        data = data[9 + int.from_bytes(data[:3], "big") :]


def test_connections_that_were_made_together_are_not_drained_together() -> None:
    """`h2_max_connection_age`, give or take a tenth."""

    async def test(bench: Bench) -> None:
        clients = [Client(bench) for _ in range(100)]
        made = bench.server.now()

        going: set[Client] = set()

        def drained(age: float) -> int:
            for client in set(clients) - going:
                client.link.tick(made + age)
                # Not to h2, which minds what follows a GOAWAY.
                if GoAwayFrame.type in frame_types(client.transport.take()):
                    going.add(client)
            return len(going)

        assert drained(89) == 0
        assert 0 < drained(100) < 100
        assert drained(111) == 100
        for client in clients:
            client.link.abort()

    # They have nothing to say for all that time.
    settings = Settings(max_connection_age=100.0, idle_timeout=0.0, handshake_timeout=600.0)
    with_bench(lambda environ, start_response: [], test, settings=settings)
