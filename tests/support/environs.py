"""One request, made into an environ twice: by Gunicorn's HTTP/1.1 code and by ours for HTTP/2.

No sockets and no server: `over_http1` gives bytes to the installed Gunicorn's own
parser, `over_http2` gives fields to `gunicorn_h2.fields` and `gunicorn_h2.environ`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from gunicorn.config import Config
from gunicorn.http.errors import ParseException
from gunicorn.http.parser import RequestParser
from gunicorn.http.wsgi import create
from gunicorn.workers.base import Worker

from gunicorn_h2 import environ as http2_environ
from gunicorn_h2.fields import MalformedFields, request_head
from gunicorn_h2.peer import ErrorPage

Field = tuple[bytes, bytes]

#: More than any test sends: Gunicorn's own limits are what is compared.
UNLIMITED = 1 << 30

CLIENT = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 8000)

#: As `Outcome.status`: there is no answer but RST_STREAM(PROTOCOL_ERROR).
RESET = -1

#: What cannot be the same, because it is an object of its own for each request.
OBJECTS = ("wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket")


@dataclass(frozen=True)
class Request:
    """What a client asks for, whatever the protocol."""

    method: bytes = b"GET"
    path: bytes = b"/"
    #: `:authority` or `Host`.
    host: bytes | None = b"example.com"
    #: Without `host`; names in lower case.
    fields: tuple[Field, ...] = ()
    scheme: bytes = b"http"

    def http1(self) -> bytes:
        """The request as HTTP/1.1 carries it.

        Host leads, as RFC 9110 section 7.2 wants it, and all of Cookie is one
        field, as RFC 9113 section 8.2.3 translates it; other fields keep their order.
        """
        lines = [self.method + b" " + self.path + b" HTTP/1.1"]
        if self.host is not None:
            lines.append(b"Host: " + self.host)
        lines += [name + b": " + value for name, value in self.fields if name != b"cookie"]
        cookies = [value for name, value in self.fields if name == b"cookie"]
        if cookies:
            lines.append(b"Cookie: " + b"; ".join(cookies))
        return b"\r\n".join([*lines, b"", b""])

    def http2(self) -> list[Field]:
        """The request's field list in HTTP/2."""
        fields = [(b":method", self.method), (b":scheme", self.scheme), (b":path", self.path)]
        if self.host is not None:
            fields.append((b":authority", self.host))
        return [*fields, *self.fields]


@dataclass(frozen=True)
class Setup:
    """What a request meets: Gunicorn's settings, the environment, the addresses."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    script_name: str | None = None
    client: Any = CLIENT
    server: Any = SERVER

    def config(self) -> Config:
        """Gunicorn's configuration; a setting that this Gunicorn lacks is left out."""
        cfg = Config()
        for name, value in self.settings.items():
            if name in cfg.settings:
                cfg.set(name, value)
        return cfg


@dataclass(frozen=True)
class Outcome:
    """An environ without its objects, or the error instead of it."""

    environ: Mapping[str, Any] | None = None
    error: type[Exception] | None = None
    #: Of the answer to the error; RESET where the stream is reset instead.
    status: int = 0
    #: What was written to the socket meanwhile: `100 Continue`.
    interim: bytes = b""

    def __getitem__(self, key: str) -> Any:
        assert self.environ is not None, f"refused with {self.error}"
        return self.environ[key]

    def without(self, *keys: str) -> Outcome:
        """The same outcome, but for these keys of the environ."""
        if self.environ is None:
            return self
        kept = {key: value for key, value in self.environ.items() if key not in keys}
        return replace(self, environ=kept)


class SilentSocket:
    """Takes what is sent; for `gunicorn.socket`."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> int:
        self.sent += data
        return len(data)


def over_http1(request: Request | bytes, setup: Setup | None = None) -> Outcome:
    """What the installed Gunicorn makes of a request's bytes."""
    setup = setup or Setup()
    cfg, sock = setup.config(), SilentSocket()
    data = request if isinstance(request, bytes) else request.http1()
    try:
        with script_name_is(setup.script_name):
            parsed = next(RequestParser(cfg, iter([data]), setup.client))
            _, environ = create(parsed, sock, setup.client, setup.server, cfg)
    except ParseException as error:
        return Outcome(error=type(error), status=_status(error, cfg))
    return _outcome(environ, sock)


def over_http2(
    request: Request | list[Field],
    setup: Setup | None = None,
    *,
    max_list_size: int = UNLIMITED,
    max_fields: int = UNLIMITED,
) -> Outcome:
    """What gunicorn_h2 makes of a request's fields."""
    setup = setup or Setup()
    cfg, sock = http2_environ.ConfigCache(setup.config()), SilentSocket()
    fields = request if isinstance(request, list) else request.http2()
    try:
        with script_name_is(setup.script_name):
            head = request_head(fields, max_list_size, max_fields)
            parsed = http2_environ.Http2Request(cfg, head, setup.client, io.BytesIO(), 1)
            _, environ = http2_environ.build(
                parsed, sock, setup.client, setup.server, cfg, multithread=False
            )
    except MalformedFields:
        return Outcome(error=MalformedFields, status=RESET)
    except ParseException as error:
        return Outcome(error=type(error), status=_status(error, cfg))
    return _outcome(environ, sock)


def _outcome(environ: dict[str, Any], sock: SilentSocket) -> Outcome:
    assert environ["gunicorn.socket"] is sock
    return Outcome(environ, interim=sock.sent).without(*OBJECTS)


class _NoLog:
    """Where `Worker.handle_error` writes to."""

    def warning(self, *_: Any) -> None: ...
    def exception(self, *_: Any) -> None: ...
    def access(self, *_: Any) -> None: ...


def _status(error: ParseException, cfg: Config) -> int:
    """What the installed Gunicorn answers an error with."""
    worker = Worker.__new__(Worker)
    worker.cfg, worker.log = cfg, _NoLog()
    page = ErrorPage()
    worker.handle_error(None, page, CLIENT, error)
    parts = page.parts()
    assert parts is not None
    return int(parts[0])


@contextmanager
def script_name_is(value: str | None) -> Iterator[None]:
    """Set the variable that Gunicorn takes SCRIPT_NAME from, or see that it is not set."""
    before = os.environ.pop("SCRIPT_NAME", None)
    if value is not None:
        os.environ["SCRIPT_NAME"] = value
    try:
        yield
    finally:
        os.environ.pop("SCRIPT_NAME", None)
        if before is not None:
            os.environ["SCRIPT_NAME"] = before
