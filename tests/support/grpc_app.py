"""A gRPC service by connectrpc, with what the tests ask of one.

============  =================  =====================================================
Echo          unary              the message
Fail          unary              an error whose message is the request's, with details
Metadata      unary              the value of the metadata ``ask``, as header and trailer
Count         server streaming   as many numbers as asked for
FailLate      server streaming   one message, then an error
Forever       server streaming   the message, without an end
Wait          unary              returns when the client has gone
Join          client streaming   all messages, joined
RefuseAll     client streaming   an error upon the first message
Upper         bidirectional      each message in upper case, as it comes
UpperGreets   bidirectional      one message before any has come, then as Upper
Events        unary              what the calls with this message reported, in lines
============  =================  =====================================================

A handler of connectrpc does not see the environ: `app` keeps the disconnect probe
where the thread that runs the call finds it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectWSGIApplication, EndpointSync
from protobuf.wkt import BytesValue, Int32Value, StringValue

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SERVICE = "tests.Everything"

#: Between two looks at the client, and altogether, in seconds.
PAUSE = 0.01
PATIENCE = 20.0

Context = RequestContext[Any, Any]

_client_disconnected: ContextVar[Callable[[], bool]] = ContextVar("client_disconnected")
_events: dict[str, list[str]] = {}


def echo(request: BytesValue, context: Context) -> BytesValue:
    return request


def fail(request: StringValue, context: Context) -> StringValue:
    raise ConnectError(
        Code.FAILED_PRECONDITION,
        request.value,
        details=[StringValue(value="first"), Int32Value(value=2)],
    )


def metadata(request: StringValue, context: Context) -> StringValue:
    for name in ("ask", "ask-bin"):
        value = context.request_headers.get(name, "")
        context.response_headers[f"header-{name}"] = value
        context.response_trailers[f"trailer-{name}"] = value
    return StringValue(value=context.request_headers.get(request.value, "none"))


def count(request: Int32Value, context: Context) -> Iterator[Int32Value]:
    for number in range(request.value):
        yield Int32Value(value=number)


def fail_late(request: StringValue, context: Context) -> Iterator[StringValue]:
    yield request
    raise ConnectError(Code.DATA_LOSS, "after the first message")


def forever(request: StringValue, context: Context) -> Iterator[StringValue]:
    told = _events.setdefault(request.value, [])
    told.append(f"deadline known: {context.timeout_ms is not None}")
    until = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < until:
            yield request
            time.sleep(PAUSE)
    finally:
        told.append(f"closed, client gone: {_client_disconnected.get()()}")


def wait(request: StringValue, context: Context) -> StringValue:
    told = _events.setdefault(request.value, [])
    told.append(f"deadline known: {context.timeout_ms is not None}")
    until = time.monotonic() + PATIENCE
    while not _client_disconnected.get()() and time.monotonic() < until:
        time.sleep(PAUSE)
    told.append(f"returns, client gone: {_client_disconnected.get()()}")
    return request


def join(requests: Iterator[BytesValue], context: Context) -> BytesValue:
    return BytesValue(value=b"".join(request.value for request in requests))


def refuse_all(requests: Iterator[BytesValue], context: Context) -> BytesValue:
    next(requests)
    raise ConnectError(Code.RESOURCE_EXHAUSTED, "enough")


def upper(requests: Iterator[StringValue], context: Context) -> Iterator[StringValue]:
    told = _events.setdefault("Upper", [])
    try:
        for request in requests:
            yield StringValue(value=request.value.upper())
    except OSError as error:
        told.append(type(error).__name__)
        raise


def upper_greets(requests: Iterator[StringValue], context: Context) -> Iterator[StringValue]:
    yield StringValue(value="hello")
    yield from upper(requests, context)


def events(request: StringValue, context: Context) -> StringValue:
    return StringValue(value="\n".join(_events.get(request.value, [])))


KINDS: dict[StreamType, Callable[..., EndpointSync[Any, Any]]] = {
    StreamType.UNARY: EndpointSync.unary,
    StreamType.SERVER_STREAM: EndpointSync.server_stream,
    StreamType.CLIENT_STREAM: EndpointSync.client_stream,
    StreamType.BIDI_STREAM: EndpointSync.bidi_stream,
}


def endpoint(
    name: str, kind: StreamType, message: Any, function: Callable[..., Any]
) -> tuple[str, EndpointSync[Any, Any]]:
    method: MethodInfo[Any, Any] = MethodInfo(
        name=name,
        service_name=SERVICE,
        input=message,
        output=message,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )
    return f"/{SERVICE}/{name}", KINDS[kind](method=method, function=function)


class Service(ConnectWSGIApplication):
    path = f"/{SERVICE}"


service = Service(
    endpoints=dict(
        [
            endpoint("Echo", StreamType.UNARY, BytesValue, echo),
            endpoint("Fail", StreamType.UNARY, StringValue, fail),
            endpoint("Metadata", StreamType.UNARY, StringValue, metadata),
            endpoint("Count", StreamType.SERVER_STREAM, Int32Value, count),
            endpoint("FailLate", StreamType.SERVER_STREAM, StringValue, fail_late),
            endpoint("Forever", StreamType.SERVER_STREAM, StringValue, forever),
            endpoint("Wait", StreamType.UNARY, StringValue, wait),
            endpoint("Join", StreamType.CLIENT_STREAM, BytesValue, join),
            endpoint("RefuseAll", StreamType.CLIENT_STREAM, BytesValue, refuse_all),
            endpoint("Upper", StreamType.BIDI_STREAM, StringValue, upper),
            endpoint("UpperGreets", StreamType.BIDI_STREAM, StringValue, upper_greets),
            endpoint("Events", StreamType.UNARY, StringValue, events),
        ]
    ),
    read_max_bytes=16 * 1024 * 1024,
)


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    _client_disconnected.set(environ["gunicorn_h2.client_disconnected"])
    return service(environ, start_response)
