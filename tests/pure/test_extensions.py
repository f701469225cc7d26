"""The environ's functions beyond PEP 3333: what they take, refuse, and pass on."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gunicorn_h2.errors import ClientDisconnected
from gunicorn_h2.extensions import Extensions
from gunicorn_h2.handoff import Exchange, Handoff, Owner
from gunicorn_h2.stream import Field

NOT_HERE = "cannot be sent here"


class Request:
    """One request, of which only `Extensions` is there."""

    def __init__(self) -> None:
        # Nothing is read or written: neither the pool nor the session is called.
        self.exchange = Exchange(cast(Handoff, None), cast(Owner, None), 0)
        self.begun = False
        self.hints: list[list[Field]] = []
        self.trailers = [("x-sum", "4")]
        self.extensions = Extensions(
            self.exchange, lambda: self.begun, self.hints.append, lambda: self.trailers
        )

    def call(self, key: str, *args: Any) -> Any:
        return self.extensions.keys()[key](*args)


@pytest.fixture
def request_() -> Request:
    return Request()


HINTS = "wsgi.early_hints"
TRAILERS = ["wsgi.ext.http.send_trailers", "gunicorn.http2.send_trailers"]


def test_keys(request_: Request) -> None:
    assert set(request_.extensions.keys()) == {
        *(HINTS, *TRAILERS, "gunicorn_h2.request_trailers", "gunicorn_h2.client_disconnected")
    }


def test_hints_are_sent_each_time(request_: Request) -> None:
    request_.call(HINTS, [("Link", "</a>"), ("X-N", "1")])
    request_.call(HINTS, iter([("link", "</b>")]))
    assert request_.hints == [[(b"link", b"</a>"), (b"x-n", b"1")], [(b"link", b"</b>")]]


def test_no_hints_once_the_response_has_begun(request_: Request) -> None:
    request_.begun = True
    request_.call(HINTS, [("link", "</a>")])
    assert request_.hints == []
    # A mistake is one at any time.
    with pytest.raises(ValueError, match=NOT_HERE):
        request_.call(HINTS, [("connection", "close")])


@pytest.mark.parametrize("key", TRAILERS)
def test_the_last_trailers_count(request_: Request, key: str) -> None:
    assert request_.extensions.trailers == []
    request_.call(key, [("x-sum", "1")])
    request_.call(key, [("X-Sum", "4"), ("x-again", "1"), ("x-again", "2")])
    assert request_.extensions.trailers == [
        *((b"x-sum", b"4"), (b"x-again", b"1"), (b"x-again", b"2"))
    ]
    request_.call(key, [])
    assert request_.extensions.trailers == []


def test_refused_trailers_leave_the_earlier_ones(request_: Request) -> None:
    request_.call(TRAILERS[0], [("x-sum", "1")])
    with pytest.raises(ValueError, match=NOT_HERE):
        request_.call(TRAILERS[0], [("x-sum", "2"), ("content-length", "2")])
    assert request_.extensions.trailers == [(b"x-sum", b"1")]


def test_request_trailers(request_: Request) -> None:
    assert request_.call("gunicorn_h2.request_trailers") == [("x-sum", "4")]


def test_client_disconnected(request_: Request) -> None:
    assert request_.call("gunicorn_h2.client_disconnected") is False
    request_.exchange.abort(ClientDisconnected("reset"))
    assert request_.call("gunicorn_h2.client_disconnected") is True


@pytest.mark.parametrize("key", [HINTS, *TRAILERS])
class TestFields:
    """What holds for hints and trailers alike."""

    def sent(self, request: Request, key: str, name: Any, value: Any) -> list[Field]:
        request.call(key, [(name, value)])
        return request.hints[0] if key == HINTS else request.extensions.trailers

    @pytest.mark.parametrize(
        ("name", "value", "field"),
        [
            ("grpc-status", "0", (b"grpc-status", b"0")),
            (b"X-Bytes", b"1", (b"x-bytes", b"1")),
            ("x", "", (b"x", b"")),
            ("x", " \t1 2\t ", (b"x", b"1 2")),
            ("x", "caf\xe9", (b"x", b"caf\xe9")),
            ("!#$%&'*+-.^_`|~09AZ", "x", (b"!#$%&'*+-.^_`|~09az", b"x")),
        ],
    )
    def test_sent(self, request_: Request, key: str, name: Any, value: Any, field: Field) -> None:
        assert self.sent(request_, key, name, value) == [field]

    @pytest.mark.parametrize(
        "name", ["", ":status", "a b", "a\r\nb", "a\n", "a:", "\xe9", "\u0131", b"a\xe9"]
    )
    def test_not_a_name(self, request_: Request, key: str, name: Any) -> None:
        with pytest.raises(ValueError, match="not a field name"):
            self.sent(request_, key, name, "x")

    @pytest.mark.parametrize(
        "value", ["a\r\nb", "a\nb", "a\rb", "a\x00b", "a\x7f", "\u20ac", b"a\nb", "a\r\n"]
    )
    def test_not_a_value(self, request_: Request, key: str, value: Any) -> None:
        with pytest.raises(ValueError, match="not a field value, in x-secret") as caught:
            self.sent(request_, key, "x-secret", value)
        # It may be a secret, and exceptions are logged.
        assert repr(value).strip("b'") not in str(caught.value)

    @pytest.mark.parametrize(("name", "value"), [(1, "x"), ("x", 1), (None, "x"), ("x", None)])
    def test_not_a_string(self, request_: Request, key: str, name: Any, value: Any) -> None:
        with pytest.raises(TypeError, match="is not a string"):
            self.sent(request_, key, name, value)

    @pytest.mark.parametrize("name", ["Connection", "keep-alive", "proxy-connection", "UPGRADE"])
    def test_of_the_connection(self, request_: Request, key: str, name: str) -> None:
        with pytest.raises(ValueError, match=NOT_HERE):
            self.sent(request_, key, name, "x")

    @pytest.mark.parametrize("name", ["transfer-encoding", b"Content-Length", "te", "trailer"])
    def test_of_the_message(self, request_: Request, key: str, name: Any) -> None:
        with pytest.raises(ValueError, match=NOT_HERE):
            self.sent(request_, key, name, "x")

    def test_a_long_name_is_cut(self, request_: Request, key: str) -> None:
        with pytest.raises(ValueError, match="not a field name") as caught:
            self.sent(request_, key, "a " * 10_000, "x")
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize("name", ["content-type", "set-cookie", "authorization", "cache-control"])
def test_what_hints_may_say_and_trailers_may_not(request_: Request, name: str) -> None:
    request_.call(HINTS, [(name, "x")])
    assert request_.hints == [[(name.encode(), b"x")]]
    for key in TRAILERS:
        with pytest.raises(ValueError, match=NOT_HERE):
            request_.call(key, [(name, "x")])
