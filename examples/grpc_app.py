"""A gRPC service as a WSGI application, by connectrpc: ``pip install connectrpc``.

    gunicorn -k gunicorn_h2.H2Worker --threads 32 --certfile cert.pem --keyfile key.pem grpc_app:app

Serves gRPC over HTTP/2, and gRPC-Web and the Connect protocol over both HTTP/2 and
HTTP/1.1. A stream holds its thread for as long as it is open, so `threads` is the
number of calls that run at the same time.

The methods are declared by hand, with messages that every protobuf library brings
along; for messages of your own, connectrpc's plugin for protoc makes this part.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectWSGIApplication, EndpointSync
from protobuf.wkt import Int32Value, StringValue

SERVICE = "example.Greeter"


def greet(request: StringValue, context: RequestContext[Any, Any]) -> StringValue:
    """Unary: one message in, one out."""
    if not request.value:
        raise ConnectError(Code.INVALID_ARGUMENT, "who is to be greeted?")
    return StringValue(value=f"Hello, {request.value}!")


def count(request: Int32Value, context: RequestContext[Any, Any]) -> Iterator[Int32Value]:
    """Server streaming: each number leaves as soon as it is yielded."""
    for number in range(request.value):
        if number:
            time.sleep(0.1)
        yield Int32Value(value=number)


def add(requests: Iterator[Int32Value], context: RequestContext[Any, Any]) -> Int32Value:
    """Client streaming: the loop waits for each message."""
    return Int32Value(value=sum(request.value for request in requests))


def chat(
    requests: Iterator[StringValue], context: RequestContext[Any, Any]
) -> Iterator[StringValue]:
    """Bidirectional streaming: an answer to each message, before the next one comes."""
    for request in requests:
        yield StringValue(value=request.value.upper())


def method(name: str, stream_type: StreamType, takes: Any, returns: Any) -> MethodInfo[Any, Any]:
    return MethodInfo(
        name=name,
        service_name=SERVICE,
        input=takes,
        output=returns,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=stream_type,
    )


class Greeter(ConnectWSGIApplication):
    """The service; its path is what it could be mounted at."""

    path = f"/{SERVICE}"


app = Greeter(
    endpoints={
        f"/{SERVICE}/Greet": EndpointSync.unary(
            method=method("Greet", StreamType.UNARY, StringValue, StringValue), function=greet
        ),
        f"/{SERVICE}/Count": EndpointSync.server_stream(
            method=method("Count", StreamType.SERVER_STREAM, Int32Value, Int32Value),
            function=count,
        ),
        f"/{SERVICE}/Add": EndpointSync.client_stream(
            method=method("Add", StreamType.CLIENT_STREAM, Int32Value, Int32Value), function=add
        ),
        f"/{SERVICE}/Chat": EndpointSync.bidi_stream(
            method=method("Chat", StreamType.BIDI_STREAM, StringValue, StringValue),
            function=chat,
        ),
    }
)
