"""One request over HTTP/1.1 or HTTP/2, and what its sender can know about the answer."""

from __future__ import annotations

import http.client
from collections.abc import Iterable
from dataclasses import dataclass

from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame

from .frames import RawClient, Response
from .server import Server
from .wire import ErrorCode

TIMEOUT = 30.0

#: As `SERVER_PROTOCOL` has it, by the name that the tests' parameters use.
PROTOCOLS = {"h1": "HTTP/1.1", "h2": "HTTP/2.0"}

Fields = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """What arrived."""

    #: 0 where none came.
    status: int
    #: Names in lower case.
    fields: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    #: The sender can tell that it has everything.
    whole: bool = False

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]


def ask(
    server: Server,
    protocol: str,
    path: str,
    *,
    method: str = "GET",
    fields: Fields = (),
    body: bytes | None = None,
    sized: bool = True,
) -> Answer:
    """Make one request on a connection of its own.

    :param sized: announce the body's length; else it is chunked, or ends with its stream.
    """
    over = over_http2 if protocol == "h2" else over_http1
    return over(server, path, method, list(fields), body, sized)


def over_http2(
    server: Server,
    path: str,
    method: str,
    fields: list[tuple[str, str]],
    body: bytes | None,
    sized: bool,
) -> Answer:
    if body is not None and sized:
        fields = [*fields, ("content-length", str(len(body)))]
    with RawClient(server, timeout=TIMEOUT).greet() as client:
        response = client.request(method, path, body=body, extra=fields)
        _nothing_follows(client, response)
    received = [(name.decode(), value.decode("latin-1")) for name, value in response.headers]
    return Answer(
        response.status,
        tuple(field for field in received if field[0] != ":status"),
        response.body,
        whole=response.reset_code is None,
    )


def _nothing_follows(client: RawClient, response: Response) -> None:
    """See that the stream ended once; the rest of an unread body may be waved off."""
    client.want_idle(HeadersFrame)
    client.want_idle(DataFrame)
    if response.reset_code is not None:
        client.want_idle(RstStreamFrame)
    client.want_idle(RstStreamFrame, error_code=ErrorCode.INTERNAL_ERROR)


def over_http1(
    server: Server,
    path: str,
    method: str,
    fields: list[tuple[str, str]],
    body: bytes | None,
    sized: bool,
) -> Answer:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=TIMEOUT)
    if server.tls:
        assert server.certs is not None
        context = server.certs.client_context(["http/1.1"])
        connection = http.client.HTTPSConnection(
            "localhost", server.port, timeout=TIMEOUT, context=context
        )
    try:
        content = body if body is None or sized else _pieces(body)
        connection.request(
            method, path, body=content, headers=dict(fields), encode_chunked=not sized
        )
        try:
            response = connection.getresponse()
        except (http.client.BadStatusLine, ConnectionError):
            return Answer(0)
        received = tuple((name.lower(), value) for name, value in response.getheaders())
        try:
            return Answer(response.status, received, response.read(), whole=True)
        except http.client.IncompleteRead as error:
            return Answer(response.status, received, error.partial)
    finally:
        connection.close()


def _pieces(body: bytes) -> Iterable[bytes]:
    return (body[start : start + 16384] for start in range(0, len(body), 16384))
