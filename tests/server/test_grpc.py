"""gRPC: connectrpc's WSGI application under the worker, called by grpcio.

Server and client are other people's implementations, with protobuf libraries of
their own. connectrpc speaks gRPC-Web and the Connect protocol as well: curl and
httpx call those, over HTTP/1.1 too.
"""

from __future__ import annotations

import base64
import gzip
import json
import queue
import struct
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Serve
from tests.support import http_client, require_tool
from tests.support.certs import Certs
from tests.support.frames import RawClient
from tests.support.http_client import WIRES, Wire
from tests.support.server import Server, wait_until

if sys.version_info < (3, 11):
    pytest.skip("connectrpc needs Python 3.11", allow_module_level=True)

pytest.importorskip("connectrpc")
grpc: Any = pytest.importorskip("grpc")
wrappers: Any = pytest.importorskip("google.protobuf.wrappers_pb2")
any_pb2: Any = pytest.importorskip("google.protobuf.any_pb2")

APP = "tests.support.grpc_app:app"
SERVICE = "/tests.Everything"

#: Seconds for a call; generous, as only a server that hangs reaches it.
PATIENCE = 60.0

Text: Any = wrappers.StringValue
Bytes: Any = wrappers.BytesValue
Number: Any = wrappers.Int32Value

OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Not the machine's settings, and no connection that another test has used.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
]


@pytest.fixture(scope="module")
def servers(module_serve: Serve) -> dict[bool, Server]:
    return {tls: module_serve(APP, tls=tls, threads=8) for tls in (False, True)}


@pytest.fixture
def server(servers: dict[bool, Server], tls: bool) -> Server:
    return servers[tls]


@pytest.fixture
def channel(server: Server) -> Iterator[Any]:
    with open_channel(server) as channel:
        yield channel


def open_channel(server: Server, *options: tuple[str, int]) -> Any:
    target = f"{server.host}:{server.port}"
    if not server.tls:
        return grpc.insecure_channel(target, [*OPTIONS, *options])
    assert server.certs is not None
    credentials = grpc.ssl_channel_credentials(server.certs.ca.read_bytes())
    return grpc.secure_channel(target, credentials, [*OPTIONS, *options])


def call(channel: Any, kind: str, name: str, message: Any) -> Callable[..., Any]:
    """A method of the service, to be called; ``kind`` is grpcio's name for it."""
    method: Callable[..., Any] = getattr(channel, kind)(
        f"{SERVICE}/{name}",
        request_serializer=message.SerializeToString,
        response_deserializer=message.FromString,
    )
    return method


class Feed:
    """The messages of a client stream, one when a test sends one."""

    def __init__(self, message: Any) -> None:
        self._message = message
        self._queue: queue.Queue[Any] = queue.Queue()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)

    def send(self, value: object) -> None:
        self._queue.put(self._message(value=value))

    def end(self) -> None:
        self._queue.put(None)


def events(server: Server, name: str) -> list[str]:
    with open_channel(server) as channel:
        answer = call(channel, "unary_unary", "Events", Text)(Text(value=name), timeout=PATIENCE)
    told: str = answer.value
    return told.splitlines()


# -- the four kinds of calls ----------------------------------------------------


def test_unary(channel: Any) -> None:
    echo = call(channel, "unary_unary", "Echo", Bytes)
    for value in (b"message", b"", bytes(range(256))):
        assert echo(Bytes(value=value), timeout=PATIENCE).value == value


@pytest.mark.parametrize("number", [0, 1, 1000])
def test_server_streaming(channel: Any, number: int) -> None:
    count = call(channel, "unary_stream", "Count", Number)
    answers = count(Number(value=number), timeout=PATIENCE)
    assert [each.value for each in answers] == list(range(number))
    assert answers.code() == grpc.StatusCode.OK


def test_server_streaming_is_not_held_back(channel: Any) -> None:
    forever = call(channel, "unary_stream", "Forever", Text)
    answers = forever(Text(value="at-once"), timeout=PATIENCE)
    # Were any of it held back until the end, there would be none.
    assert [next(answers).value for _ in range(3)] == ["at-once"] * 3
    answers.cancel()


@pytest.mark.parametrize("number", [0, 1, 1000])
def test_client_streaming(channel: Any, number: int) -> None:
    join = call(channel, "stream_unary", "Join", Bytes)
    messages = [Bytes(value=b"%d;" % each) for each in range(number)]
    answer = join(iter(messages), timeout=PATIENCE)
    assert answer.value == b"".join(each.value for each in messages)


def test_client_stream_larger_than_the_windows(channel: Any) -> None:
    join = call(channel, "stream_unary", "Join", Bytes)
    messages = [Bytes(value=bytes([each]) * 100_000) for each in range(40)]
    answer = join(iter(messages), timeout=PATIENCE)
    assert answer.value == b"".join(each.value for each in messages)


def test_bidirectional_streaming_each_answer_before_the_next_message(channel: Any) -> None:
    feed = Feed(Text)
    answers = call(channel, "stream_stream", "Upper", Text)(iter(feed), timeout=PATIENCE)
    for number in range(100):
        feed.send(f"message {number}")
        assert next(answers).value == f"MESSAGE {number}"
    feed.end()
    assert list(answers) == []
    assert answers.code() == grpc.StatusCode.OK


@pytest.mark.parametrize("size", [1, 4091, 4092, 70_000])
def test_bidirectional_streaming_of_any_size(channel: Any, size: int) -> None:
    # connectrpc reads 4096 bytes at a time.
    feed = Feed(Text)
    answers = call(channel, "stream_stream", "Upper", Text)(iter(feed), timeout=PATIENCE)
    for _ in range(3):
        feed.send("a" * size)
        assert next(answers).value == "A" * size
    feed.end()
    assert list(answers) == []


def test_bidirectional_streaming_that_the_server_begins(channel: Any) -> None:
    feed = Feed(Text)
    answers = call(channel, "stream_stream", "UpperGreets", Text)(iter(feed), timeout=PATIENCE)
    assert next(answers).value == "hello"
    feed.send("a")
    assert next(answers).value == "A"
    feed.end()
    assert list(answers) == []


def test_calls_on_one_channel_do_not_wait_for_each_other(channel: Any) -> None:
    feeds = [Feed(Text) for _ in range(4)]
    upper = call(channel, "stream_stream", "Upper", Text)
    streams = [upper(iter(feed), timeout=PATIENCE) for feed in feeds]
    for word in ("one", "two"):
        for feed, answers in zip(reversed(feeds), reversed(streams), strict=True):
            feed.send(word)
            assert next(answers).value == word.upper()
    for feed, answers in zip(feeds, streams, strict=True):
        feed.end()
        assert list(answers) == []


# -- errors ---------------------------------------------------------------------


@pytest.mark.parametrize("message", ["plain", "", "with % and ünïcödé, \r\n and all"])
def test_error_with_details(channel: Any, message: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "unary_unary", "Fail", Text)(Text(value=message), timeout=PATIENCE)
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert caught.value.details() == message
    status = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
    # A google.rpc.Status, which holds each detail as an Any.
    for detail in (Text(value="first"), Number(value=2)):
        packed = any_pb2.Any()
        packed.Pack(detail)
        assert packed.SerializeToString() in status


def test_error_after_a_message(channel: Any) -> None:
    answers = call(channel, "unary_stream", "FailLate", Text)(Text(value="1"), timeout=PATIENCE)
    assert next(answers).value == "1"
    with pytest.raises(grpc.RpcError) as caught:
        next(answers)
    assert caught.value.code() == grpc.StatusCode.DATA_LOSS
    assert caught.value.details() == "after the first message"


def test_error_while_the_client_still_sends(channel: Any) -> None:
    feed = Feed(Bytes)
    future = call(channel, "stream_unary", "RefuseAll", Bytes).future(iter(feed), timeout=PATIENCE)
    feed.send(b"1")
    assert future.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert future.details() == "enough"
    feed.end()
    # The channel is none the worse for it.
    test_unary(channel)


def test_unknown_method(channel: Any) -> None:
    # connectrpc answers 404, which gRPC reads as "unimplemented".
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "unary_unary", "NoSuchThing", Text)(Text(), timeout=PATIENCE)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_trailers_only_response(server: Server) -> None:
    # What is wrong with the head of a call is answered by one block of fields.
    with RawClient(server).greet() as client:
        fields = [("content-type", "application/grpc"), ("te", "trailers")]
        client.headers(
            1,
            method="POST",
            path=f"{SERVICE}/Echo",
            extra=[*fields, ("grpc-timeout", "soon")],
        )
        response = client.response(1)
    assert (response.status, response.chunks, response.trailers) == (200, [], [])
    assert response.header("grpc-status") == "3"


def test_status_ends_the_stream(server: Server) -> None:
    with RawClient(server).greet() as client:
        client.headers(
            1,
            method="POST",
            path=f"{SERVICE}/Echo",
            extra=[("content-type", "application/grpc"), ("te", "trailers")],
            end_stream=False,
        )
        client.data(1, bytes(5), end_stream=True)
        response = client.response(1)
    assert (response.status, response.body) == (200, bytes(5))
    assert response.trailers == [(b"grpc-status", b"0")]


# -- metadata -------------------------------------------------------------------


def test_metadata_both_ways(channel: Any) -> None:
    ask, ask_bin = "an ASCII value", bytes(range(256))
    answer, rpc = call(channel, "unary_unary", "Metadata", Text).with_call(
        Text(value="ask"), metadata=[("ask", ask), ("ask-bin", ask_bin)], timeout=PATIENCE
    )
    assert answer.value == ask
    leading, trailing = dict(rpc.initial_metadata()), dict(rpc.trailing_metadata())
    assert (leading["header-ask"], leading["header-ask-bin"]) == (ask, ask_bin)
    assert (trailing["trailer-ask"], trailing["trailer-ask-bin"]) == (ask, ask_bin)


def test_repeated_metadata_is_joined(channel: Any) -> None:
    answer = call(channel, "unary_unary", "Metadata", Text)(
        Text(value="ask"), metadata=[("ask", "1"), ("ask", "2")], timeout=PATIENCE
    )
    assert answer.value == "1,2"


# -- deadlines and cancelling ---------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "report"),
    [
        ("unary_unary", "Wait", "returns, client gone: True"),
        ("unary_stream", "Forever", "closed, client gone: True"),
    ],
)
def test_deadline(server: Server, channel: Any, kind: str, name: str, report: str) -> None:
    key = uuid.uuid4().hex
    with pytest.raises(grpc.RpcError) as caught:
        answer = call(channel, kind, name, Text)(Text(value=key), timeout=1)
        list(answer)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: events(server, key) == ["deadline known: True", report], what=report)


@pytest.mark.parametrize("whole_channel", [False, True], ids=["call", "channel"])
def test_cancelling(server: Server, whole_channel: bool) -> None:
    key = uuid.uuid4().hex
    with open_channel(server) as channel:
        answers = call(channel, "unary_stream", "Forever", Text)(Text(value=key))
        assert next(answers).value == key
        if whole_channel:
            channel.close()
        else:
            answers.cancel()
    report = "closed, client gone: True"
    wait_until(lambda: events(server, key) == ["deadline known: False", report], what=report)


def test_cancelling_wakes_a_handler_that_waits_for_a_message(serve: Serve) -> None:
    server = serve(APP, threads=2)
    with open_channel(server) as channel:
        feed = Feed(Text)
        answers = call(channel, "stream_stream", "Upper", Text)(iter(feed), timeout=PATIENCE)
        feed.send("a")
        assert next(answers).value == "A"
        answers.cancel()
        wait_until(lambda: events(server, "Upper") == ["ClientDisconnected"], what="the end")
        feed.end()


# -- sizes, numbers, compression ------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
def test_large_messages(channel: Any, compressed: bool) -> None:
    value = bytes(range(256)) * (4 * 1024 * 4)
    compression = grpc.Compression.Gzip if compressed else grpc.Compression.NoCompression
    echo = call(channel, "unary_unary", "Echo", Bytes)
    answer = echo(Bytes(value=value), timeout=PATIENCE, compression=compression)
    assert len(value) == 4 * 1024 * 1024
    assert answer.value == value


def test_gzip_is_announced(channel: Any) -> None:
    answer = call(channel, "unary_unary", "Metadata", Text)(
        Text(value="grpc-encoding"), timeout=PATIENCE, compression=grpc.Compression.Gzip
    )
    assert answer.value == "gzip"


def test_gzip_over_a_stream(channel: Any) -> None:
    feed = Feed(Text)
    answers = call(channel, "stream_stream", "Upper", Text)(
        iter(feed), timeout=PATIENCE, compression=grpc.Compression.Gzip
    )
    for _ in range(3):
        feed.send("a" * 10_000)
        assert next(answers).value == "A" * 10_000
    feed.end()
    assert list(answers) == []


def test_a_thousand_calls_on_one_channel(channel: Any) -> None:
    echo = call(channel, "unary_unary", "Echo", Bytes)
    for number in range(700):
        assert echo(Bytes(value=b"%d" % number), timeout=PATIENCE).value == b"%d" % number
    futures = [echo.future(Bytes(value=b"%d" % number)) for number in range(300)]  # type: ignore[attr-defined]
    for number, future in enumerate(futures):
        assert future.result(PATIENCE).value == b"%d" % number


def test_keepalive_pings_are_welcome(server: Server) -> None:
    pings = [
        ("grpc.keepalive_time_ms", 10),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_time_between_pings_ms", 10),
    ]
    with open_channel(server, *pings) as channel:
        states: list[Any] = []
        channel.subscribe(states.append)
        answers = call(channel, "unary_stream", "Forever", Text)(Text(value="p"), timeout=PATIENCE)
        assert [next(answers).value for _ in range(200)] == ["p"] * 200
        answers.cancel()
        test_unary(channel)
        # GOAWAY("too_many_pings") would have shown as one of these.
        assert grpc.ChannelConnectivity.TRANSIENT_FAILURE not in states


# -- the other protocols of the same application --------------------------------


def envelope(message: bytes, flags: int = 0) -> bytes:
    return struct.pack(">BI", flags, len(message)) + message


def envelopes(body: bytes) -> list[tuple[int, bytes]]:
    found = []
    while body:
        flags, length = struct.unpack_from(">BI", body)
        found.append((flags, body[5 : 5 + length]))
        body = body[5 + length :]
    return found


def curl(
    server: Server, certs: Certs, version: str, name: str, body: Path, *headers: str
) -> tuple[str, bytes]:
    """The protocol and the body of curl's answer."""
    command: list[str | Path] = [require_tool("curl"), "-sS", version, "--cacert", certs.ca]
    command += ["--data-binary", f"@{body}", "--write-out", "%{stderr}%{http_version}"]
    for header in headers:
        command += ["-H", header]
    done = subprocess.run(
        [*command, f"{server.url}{SERVICE}/{name}"],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.decode(), done.stdout


CURL = [("--http2", True, "2"), ("--http2-prior-knowledge", False, "2"), ("--http1.1", True, "1.1")]


@pytest.mark.parametrize(("option", "tls", "version"), CURL)
@pytest.mark.parametrize("accepted", ["", "gzip"])
def test_grpc_web_by_curl(
    servers: dict[bool, Server],
    certs: Certs,
    tmp_path: Path,
    option: str,
    tls: bool,
    version: str,
    accepted: str,
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(envelope(Number(value=3).SerializeToString()))
    headers = ("Content-Type: application/grpc-web+proto", f"grpc-accept-encoding: {accepted}")
    answer = curl(servers[tls], certs, option, "Count", upload, *headers)
    assert answer[0] == version
    compressed = bool(accepted)
    found = envelopes(answer[1])
    plain = [(flags, gzip.decompress(each) if compressed else each) for flags, each in found]
    assert plain == [
        *((int(compressed), Number(value=number).SerializeToString()) for number in range(3)),
        (0x80 | compressed, b"grpc-status: 0\r\n"),
    ]


@pytest.mark.parametrize(("option", "tls", "version"), CURL)
def test_connect_unary_by_curl(
    servers: dict[bool, Server],
    certs: Certs,
    tmp_path: Path,
    option: str,
    tls: bool,
    version: str,
) -> None:
    upload = tmp_path / "upload"
    upload.write_text(json.dumps(base64.b64encode(b"body").decode()))
    answer = curl(servers[tls], certs, option, "Echo", upload, "Content-Type: application/json")
    assert answer == (version, upload.read_bytes())
    upload.write_text('"what went wrong"')
    answer = curl(servers[tls], certs, option, "Fail", upload, "Content-Type: application/json")
    error = json.loads(answer[1])
    assert (error["code"], error["message"]) == ("failed_precondition", "what went wrong")


@pytest.mark.parametrize("wire", WIRES, ids=str)
def test_connect_streaming_by_httpx(servers: dict[bool, Server], certs: Certs, wire: Wire) -> None:
    def messages() -> Iterator[bytes]:
        for word in ("one", "two", "three"):
            yield envelope(json.dumps(word).encode())

    with http_client.client(certs, servers[wire.tls].url, wire.http2) as client:
        for _ in range(2):
            response = client.post(
                f"{SERVICE}/Upper",
                content=messages(),
                headers={"Content-Type": "application/connect+json"},
            )
            assert response.http_version == wire.protocol
            assert envelopes(response.content) == [
                *((0, json.dumps(word).encode()) for word in ("ONE", "TWO", "THREE")),
                (2, b"{}"),
            ]


# -- the whole of it ------------------------------------------------------------


def test_nothing_is_logged_for_calls_that_end_in_any_way(serve: Serve) -> None:
    server = serve(APP, threads=4)
    with open_channel(server) as channel:
        test_unary(channel)
        test_error_with_details(channel, "expected")
        test_error_after_a_message(channel)
        test_deadline(server, channel, "unary_stream", "Forever", "closed, client gone: True")
    server.stop()
    assert "Traceback" not in server.log()
    assert "[ERROR]" not in server.log()


def test_example(serve: Serve) -> None:
    server = serve("grpc_app:app", threads=4, args=["--chdir", "examples"])

    def example(kind: str, name: str, takes: Any, returns: Any) -> Callable[..., Any]:
        method: Callable[..., Any] = getattr(channel, kind)(
            f"/example.Greeter/{name}",
            request_serializer=takes.SerializeToString,
            response_deserializer=returns.FromString,
        )
        return method

    with open_channel(server) as channel:
        greet = example("unary_unary", "Greet", Text, Text)
        assert greet(Text(value="world"), timeout=PATIENCE).value == "Hello, world!"
        with pytest.raises(grpc.RpcError) as caught:
            greet(Text(), timeout=PATIENCE)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        numbers = [Number(value=each) for each in range(4)]
        count = example("unary_stream", "Count", Number, Number)
        assert list(count(Number(value=4), timeout=PATIENCE)) == numbers
        add = example("stream_unary", "Add", Number, Number)
        assert add(iter(numbers), timeout=PATIENCE).value == 6
        feed = Feed(Text)
        answers = example("stream_stream", "Chat", Text, Text)(iter(feed), timeout=PATIENCE)
        feed.send("hi")
        assert next(answers).value == "HI"
        feed.end()
        assert list(answers) == []
