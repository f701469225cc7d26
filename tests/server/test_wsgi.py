"""PEP 3333 over both protocols: what an application does, and what its client sees of it.

Each case also looks at the access log: one line a request, with the status and the
size that went out.
"""

from __future__ import annotations

import email.utils
import itertools
import json
import re
import time
from typing import NamedTuple

import gunicorn
import pytest
from hyperframe.frame import DataFrame, HeadersFrame

from tests.conftest import Serve
from tests.support import gunicorn_version
from tests.support.either import PROTOCOLS, Answer, Fields, ask
from tests.support.frames import RawClient
from tests.support.http1 import Http1Client, request
from tests.support.server import Server, wait_until
from tests.support.wire import ErrorCode
from tests.support.wsgi_apps import READS
from tests.support.wsgi_cases import BODY, PARTS, SECRET
from tests.support.wsgi_faults import ERRORS, HEADERS, STATUSES

ACCESS_LOG = ["--access-logformat", "%(q)s %(m)s %(H)s %(s)s %(B)s"]

APP = "tests.support.wsgi_apps:app"

_tags = (f"tag{number}" for number in itertools.count())


class Logged(NamedTuple):
    """One line of the access log."""

    method: str
    protocol: str
    status: int
    size: int


class Site:
    """The server, asked over one protocol."""

    def __init__(self, server: Server, protocol: str) -> None:
        self.server = server
        self.protocol = protocol
        self.tag = ""

    def ask(
        self,
        case: str,
        *,
        method: str = "GET",
        fields: Fields = (),
        body: bytes | None = None,
        sized: bool = True,
    ) -> Answer:
        self.tag = next(_tags)
        return ask(
            self.server,
            self.protocol,
            f"/{case}?{self.tag}",
            method=method,
            fields=fields,
            body=body,
            sized=sized,
        )

    def logged(self) -> Logged:
        """The line of the last request, which there must be one of."""
        return logged(self.server, self.tag)

    def want_logged(self, status: int, size: int, method: str = "GET") -> None:
        assert self.logged() == (method, PROTOCOLS[self.protocol], status, size)

    def want_closed(self, times: int = 1) -> None:
        want_closed(self.server, self.tag, times)

    def want_one_traceback(self, error: str = SECRET) -> None:
        """The last request's error was logged once, as a traceback."""
        log = entries(self.server, self.tag)
        assert len(log) == 1, log
        assert "Error handling request" in log[0]
        assert "Traceback (most recent call last)" in log[0]
        assert error in log[0].splitlines()[-1], log[0]


def logged(server: Server, tag: str) -> Logged:
    server.wait_access_log(rf"^{tag} ")
    # The thread of a second line would be done before this is answered, or nearly.
    ask(server, "h2", f"/list?after-{tag}")
    server.wait_access_log(rf"^after-{tag} ")
    lines = re.findall(rf"^{tag} (\S+) (\S+) (\S+) (\S+)$", server.access_log(), re.MULTILINE)
    assert len(lines) == 1, lines
    method, protocol, status, size = lines[0]
    return Logged(method, protocol, int(status), int(size))


def entries(server: Server, tag: str) -> list[str]:
    """The entries of the error log that name the request: their lines belong together."""
    found = re.split(r"^(?=\[\d{4}-\d\d-\d\d )", server.log(), flags=re.MULTILINE)
    return [entry for entry in found if re.search(rf"\b{tag}\b", entry)]


def want_closed(server: Server, tag: str, times: int = 1) -> None:
    def count() -> int:
        return int(ask(server, "h2", "/closed", fields=[("x-tag", tag)]).body)

    wait_until(lambda: count() >= times, what="close()")
    assert count() == times


@pytest.fixture(scope="module")
def server(module_serve: Serve) -> Server:
    return module_serve(APP, args=ACCESS_LOG)


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def site(server: Server, protocol: str) -> Site:
    return Site(server, protocol)


# -- good responses -----------------------------------------------------------------------

#: Responses of 200 with BODY, and whether Content-Length says so.
GOOD = {
    "list": False,
    "tuple": False,
    "list_sized": True,
    "generator": False,
    "generator_sized": True,
    "lazy": False,
    "iterator": False,
    "getitem": False,
    "empty_parts": False,
    "write": False,
    "write_sized": True,
    "write_and_return": False,
    "write_in_generator": False,
    "file": False,
    "file_from_its_middle": True,
    "file_of_bytes": False,
    "file_of_anything": False,
    "longer": True,
    "longer_in_one_part": True,
    "started_twice_and_caught": False,
}


@pytest.mark.parametrize("case", GOOD)
def test_a_whole_response(site: Site, case: str) -> None:
    answer = site.ask(case)
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    assert answer.values("content-type") == ["text/plain"]
    assert answer.values("content-length") == ([str(len(BODY))] if GOOD[case] else [])
    assert answer.values("x-second") == []
    site.want_logged(200, len(BODY))


@pytest.mark.parametrize("case", ["nothing", "nothing_sized", "file_of_nothing", "longer_than_0"])
def test_an_empty_response(site: Site, case: str) -> None:
    answer = site.ask(case)
    assert (answer.status, answer.body, answer.whole) == (200, b"", True)
    site.want_logged(200, 0)


def test_empty_parts_before_start_response(site: Site) -> None:
    """PEP 3333 only wants it before the first part that is not empty."""
    answer = site.ask("empty_first")
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    site.want_logged(200, len(BODY))


def test_fields_reach_the_client_as_they_are(site: Site) -> None:
    answer = site.ask("fields")
    assert answer.status == 203
    assert [value for name, value in answer.fields if name == "x-two"] == ["a", "b"]
    assert answer.values("set-cookie") == ["a=1", "b=2"]
    assert answer.values("x-latin") == ["caf\xe9"]
    assert answer.values("x-empty") == [""]
    assert answer.values("x-space") == ["padded"]


def test_server_and_date_are_gunicorns(site: Site) -> None:
    for case in ("list", "own_server_and_date"):
        answer = site.ask(case)
        assert answer.values("server") == [gunicorn.SERVER]
        (date,) = answer.values("date")
        sent = email.utils.parsedate_to_datetime(date).timestamp()
        assert abs(sent - time.time()) < 3600


def test_hop_by_hop_fields_are_dropped(site: Site) -> None:
    answer = site.ask("hop_by_hop")
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    own = {"server", "date", "content-type"}
    if site.protocol == "h1":
        # Gunicorn's own for the connection, and Proxy-Connection, which it lets pass.
        own |= {"connection", "transfer-encoding", "proxy-connection"}
    assert {name for name, _ in answer.fields} == own


def test_a_status_without_a_reason(site: Site) -> None:
    assert site.ask("no_reason").status == 299
    site.want_logged(299, len(BODY))


# -- no content ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", [*GOOD, "nothing", "nothing_sized"])
def test_head_is_get_without_the_body(site: Site, case: str) -> None:
    get = site.ask(case)
    head = site.ask(case, method="HEAD")
    assert (head.status, head.body, head.whole) == (get.status, b"", True)
    varying = ("date", "transfer-encoding")
    assert [field for field in head.fields if field[0] not in varying] == [
        field for field in get.fields if field[0] not in varying
    ]
    assert site.logged()[:3] == ("HEAD", PROTOCOLS[site.protocol], 200)


def test_head_of_an_iterable_closes_it(site: Site) -> None:
    site.ask("iterator", method="HEAD")
    site.want_closed()


BODYLESS = {
    "no_content": (204, []),
    "no_content_with_a_body": (204, []),
    "not_modified": (304, []),
    "not_modified_with_a_length": (304, [str(len(BODY))]),
    "not_modified_with_a_body": (304, [str(len(BODY))]),
}


@pytest.mark.parametrize("case", BODYLESS)
def test_statuses_without_a_body(site: Site, case: str) -> None:
    status, length = BODYLESS[case]
    answer = site.ask(case)
    assert (answer.status, answer.body, answer.whole) == (status, b"", True)
    if site.protocol == "h2" or gunicorn_version() >= (26,):
        assert answer.values("content-length") == length
        site.want_logged(status, 0)


@pytest.mark.parametrize("case", ["HEAD /list", "HEAD /list_sized", "GET /no_content_with_a_body"])
def test_no_stray_body_disturbs_the_next_request(server: Server, case: str) -> None:
    method, path = case.split()
    with Http1Client(server) as client:
        client.send(request(path, method=method))
        client.response(method)
        assert client.get("/list").body == BODY


# -- start_response -----------------------------------------------------------------------


@pytest.mark.parametrize("case", ["replaced", "replaced_after_empty_parts"])
def test_a_head_that_was_not_sent_can_be_replaced(site: Site, case: str) -> None:
    answer = site.ask(case)
    assert (answer.status, answer.body, answer.whole) == (503, BODY, True)
    assert (answer.values("x-first"), answer.values("x-second")) == ([], ["2"])
    assert answer.values("content-length") == []
    site.want_logged(503, len(BODY))
    assert entries(site.server, site.tag) == []


#: Errors before anything was sent, and the class that the traceback ends with.
ERROR_500 = {
    "raise": "Boom",
    "raise_after_start": "Boom",
    "raise_in_first_step": "Boom",
    "started_twice": "AssertionError",
    "never_started": "",
    "never_started_and_empty": "",
    "none": "TypeError",
    "none_and_never_started": "TypeError",
    "text": "TypeError",
    "bare_bytes": "TypeError",
}


@pytest.mark.parametrize("case", ERROR_500)
def test_an_error_before_the_head_is_500(site: Site, case: str) -> None:
    want_500(site, case, ERROR_500[case])


@pytest.mark.parametrize("which", STATUSES)
def test_an_invalid_status_is_500(site: Site, which: str) -> None:
    want_500(site, "bad_status", "Error", [("x-which", which)])


@pytest.mark.parametrize("which", HEADERS)
def test_invalid_headers_are_500(site: Site, which: str) -> None:
    want_500(site, "bad_headers", "", [("x-which", which)])


@pytest.mark.parametrize("which", ERRORS)
def test_every_kind_of_exception_is_500(site: Site, which: str) -> None:
    error = {"Exception": "Boom", "BaseException": "BoomBase"}.get(which, which)
    want_500(site, "raise", error, [("x-which", which)])


def want_500(site: Site, case: str, error: str, fields: Fields = ()) -> None:
    answer = site.ask(case, fields=fields)
    assert (answer.status, answer.whole) == (500, True)
    assert b"Internal Server Error" in answer.body
    assert SECRET.encode() not in answer.body
    assert site.tag.encode() not in answer.body
    assert b"Traceback" not in answer.body
    assert not [field for field in answer.fields if "injected" in field[0] + field[1].lower()]
    site.want_logged(500, 0)
    site.want_one_traceback(error)


LONG = {
    "method": ("A" * 3000, []),
    "name": ("GET", [("a_" * 1500, "1")]),
    "control characters": ("GET", [("x-a", "\x01" * 3000)]),
    "expectation": ("GET", [("expect", "x" * 3000)]),
    "script name": ("GET", [("script_name", "/" * 3000)]),
}


@pytest.mark.parametrize("which", LONG)
def test_what_is_refused_is_not_repeated_at_length(
    strict: Server, protocol: str, which: str
) -> None:
    method, fields = LONG[which]
    answer = ask(strict, protocol, "/list", method=method, fields=fields)
    if gunicorn_version() >= (27,):
        assert answer.status in (400, 417, 500)
    assert len(answer.body) < 1024
    assert max(map(len, strict.log().splitlines())) < 1024


@pytest.fixture(scope="module")
def strict(module_serve: Serve) -> Server:
    return module_serve(APP, args=["--header-map", "refuse"])


def test_the_log_says_what_was_forgotten(server: Server) -> None:
    site = Site(server, "h2")
    for case in ("never_started", "never_started_and_empty"):
        site.ask(case)
        site.want_logged(500, 0)
        site.want_one_traceback("did not call start_response()")


# -- errors after the head ----------------------------------------------------------------

#: What has been sent when it fails, and the class that the traceback ends with.
CUT_SHORT = {
    "raise_in_the_middle": (PARTS[0], "Boom"),
    "raise_in_the_middle_sized": (PARTS[0], "Boom"),
    "raise_after_the_last_part": (BODY, "Boom"),
    "raise_after_write": (PARTS[0], "Boom"),
    "replaced_too_late": (PARTS[0], "Boom"),
    "replaced_after_write": (PARTS[0], "Boom"),
    "started_twice_in_the_body": (PARTS[0], "AssertionError"),
    "text_later": (PARTS[0], "TypeError"),
    "shorter": (PARTS[0], ""),
    "shorter_by_everything": (b"", ""),
}


@pytest.mark.parametrize("case", CUT_SHORT)
def test_a_response_that_fails_is_never_taken_for_whole(site: Site, case: str) -> None:
    sent, error = CUT_SHORT[case]
    answer = site.ask(case)
    assert not answer.whole
    assert (answer.status, answer.body) == (200, sent)
    site.want_logged(200, len(sent))
    site.want_one_traceback(error)


@pytest.mark.parametrize("which", ERRORS)
def test_every_kind_of_exception_cuts_a_response_short(site: Site, which: str) -> None:
    answer = site.ask("raise_in_the_middle", fields=[("x-which", which)])
    assert not answer.whole
    assert answer.body == PARTS[0]
    site.want_logged(200, len(PARTS[0]))
    # A generator's StopIteration is a RuntimeError.
    renamed = {"Exception": "Boom", "BaseException": "BoomBase", "StopIteration": "RuntimeError"}
    site.want_one_traceback(renamed.get(which, which))
    site.want_closed()


def test_an_error_in_close_costs_nobody_anything(site: Site) -> None:
    answer = site.ask("raise_in_close")
    assert (answer.status, answer.body) == (200, BODY)
    if site.protocol == "h2":
        assert answer.whole
    site.want_logged(200, len(BODY))
    site.want_one_traceback("Boom")


SIBLINGS = ["raise", "raise_in_the_middle", "replaced_too_late", "never_started", "shorter", "none"]


@pytest.mark.parametrize("case", SIBLINGS)
def test_an_error_is_of_its_stream_only(server: Server, case: str) -> None:
    tag = next(_tags)
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/wait?{tag}")
        client.headers(3, path=f"/{case}?{tag}")
        failed = client.response(3)
        assert failed.status == 500 or failed.reset_code == ErrorCode.INTERNAL_ERROR
        assert client.request(path="/list").body == BODY
        assert client.request(path="/open", extra=[("x-tag", tag)]).body == b"opened"
        assert client.response(1).body == b"waited"
        # HPACK has survived, too.
        assert client.request(path="/list").header("content-type") == "text/plain"


# -- close() ------------------------------------------------------------------------------

CLOSED = ["iterator", "file_of_anything", "raise_in_first_step", "raise_in_the_middle"]
CLOSED += ["raise_after_the_last_part", "raise_in_close", "shorter", "shorter_by_everything"]


@pytest.mark.parametrize("case", CLOSED)
def test_close_is_called_once(site: Site, case: str) -> None:
    site.ask(case)
    site.want_closed()


@pytest.mark.parametrize("case", ["endless", "endless_file"])
@pytest.mark.parametrize("end", ["reset", "disconnect"])
def test_close_is_called_when_the_client_leaves(server: Server, case: str, end: str) -> None:
    tag = next(_tags)
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/{case}?{tag}")
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1)
        if end == "reset":
            client.rst(1)
            want_closed(server, tag)
            assert client.request(path="/list").body == BODY
    want_closed(server, tag)
    line = logged(server, tag)
    assert line.status == 200
    assert line.size > 0
    assert entries(server, tag) == []


@pytest.mark.parametrize("case", ["endless", "endless_file"])
def test_close_is_called_when_an_http1_client_leaves(server: Server, case: str) -> None:
    tag = next(_tags)
    with Http1Client(server) as client:
        client.send(request(f"/{case}?{tag}"))
        client.interim()
    want_closed(server, tag)
    assert logged(server, tag).status == 200
    assert entries(server, tag) == []


# -- cancelled before there was a status --------------------------------------------------


@pytest.mark.parametrize("end", ["reset", "disconnect"])
def test_a_request_that_is_cancelled_early_is_logged_as_499(server: Server, end: str) -> None:
    tag = next(_tags)
    with RawClient(server).greet() as client:
        client.headers(1, path=f"/read_forever?{tag}", method="POST", end_stream=False)
        client.data(1, b"begun")
        # The request has a thread once a later one has been answered.
        assert client.request(path="/list").body == BODY
        if end == "reset":
            client.rst(1)
            want_closed(server, tag)
            assert client.request(path="/list").body == BODY
    want_closed(server, tag)
    assert logged(server, tag) == ("POST", "HTTP/2.0", 499, 0)
    assert entries(server, tag) == []


def test_an_http1_request_that_is_cancelled_early_is_logged_as_499(server: Server) -> None:
    tag = next(_tags)
    with Http1Client(server) as client:
        client.send(request(f"/read_forever?{tag}", "Content-Length: 100", method="POST") + b"x")
        assert ask(server, "h2", "/list").body == BODY
    want_closed(server, tag)
    assert logged(server, tag) == ("POST", "HTTP/1.1", 499, 0)
    assert entries(server, tag) == []


def test_a_request_that_is_cancelled_in_the_queue_never_runs(serve: Serve) -> None:
    # Asked for by name, one thread is one thread.
    server = serve(APP, args=ACCESS_LOG, threads=1)
    with RawClient(server).greet() as client:
        client.headers(1, path="/endless?busy")
        client.want(HeadersFrame, 1)
        client.want(DataFrame, 1)
        client.headers(3, path="/list?queued")
        client.rst(3)
        client.want_idle(HeadersFrame, 3)
        client.rst(1)
        server.wait_access_log(r"^queued GET HTTP/2.0 499 0$")
        client.window_update(0, 1 << 20)
        called = client.request(path="/called", extra=[("x-tag", "queued")])
    assert called.body == b"0"
    assert entries(server, "queued") == []


# -- what a failure must not become: a wait for ever ----------------------------------------


def test_a_body_that_stalls_is_logged_as_408(serve: Serve) -> None:
    server = serve(APP, args=ACCESS_LOG, env={"GUNICORN_H2_BODY_TIMEOUT": "0.5"})
    with RawClient(server).greet() as client:
        client.headers(1, path="/count?early", method="POST", end_stream=False)
        client.headers(3, path="/read_after_write?late", method="POST", end_stream=False)
        early, late = client.responses([1, 3]).values()
    assert (early.status, early.reset_code) == (408, None)
    assert (late.status, late.body, late.reset_code) == (200, PARTS[0], ErrorCode.INTERNAL_ERROR)
    with Http1Client(server) as h1_client:
        h1_client.send(request("/count?http1", "Content-Length: 9", method="POST"))
        assert h1_client.response().status == 408
    assert logged(server, "early") == ("POST", "HTTP/2.0", 408, 0)
    assert logged(server, "late") == ("POST", "HTTP/2.0", 200, len(PARTS[0]))
    assert logged(server, "http1") == ("POST", "HTTP/1.1", 408, 0)
    # It is the peer's doing, not the application's.
    assert "Traceback" not in server.log()


BROKEN_LOGGER = """
from gunicorn.glogging import Logger

class BrokenLogger(Logger):
    def access(self, resp, req, environ, request_time):
        if "broken" in environ["QUERY_STRING"]:
            raise RuntimeError("access log")

logger_class = BrokenLogger
"""


@pytest.mark.parametrize("case", ["list", "raise", "raise_in_the_middle"])
def test_an_access_log_that_fails_leaves_nobody_waiting(serve: Serve, case: str) -> None:
    server = serve(APP, conf=BROKEN_LOGGER)
    with RawClient(server).greet() as client:
        broken = client.request(path=f"/{case}?broken")
        # What was complete before it failed stays so.
        assert (broken.reset_code is None) == (case == "list")
        assert client.request(path="/list").body == BODY
    assert ask(server, "h1", f"/{case}?broken").whole == (case == "list")
    assert "RuntimeError: access log" in server.log()


# -- wsgi.input ---------------------------------------------------------------------------

LINES = b"first line\nsecond\n\nlast, without an end"
_BODY_LINES = ["first line\n", "second\n", "\n", "last, without an end"]
_WHOLE = LINES.decode()


def _cut(size: int) -> list[str]:
    return [_WHOLE[start : start + size] for start in range(0, len(_WHOLE), size)]


def _cut_lines(size: int) -> list[str]:
    return [
        line[start : start + size] for line in _BODY_LINES for start in range(0, len(line), size)
    ]


READ = {
    "read": [_WHOLE, ""],
    "read(-1)": [_WHOLE, ""],
    "read(None)": [_WHOLE],
    "read(0)": ["", _WHOLE],
    "read(7)": _cut(7),
    "read(beyond)": [_WHOLE, ""],
    "readline": _BODY_LINES,
    "readline(5)": _cut_lines(5),
    "readline(-1)": _BODY_LINES,
    "readline(0)": ["", "first line\n"],
    "readlines": _BODY_LINES,
    "readlines(1 << 20)": _BODY_LINES,
    "iteration": _BODY_LINES,
    "mixed": ["first line\n", "sec", "ond\n", "\n", "last, without an end"],
}


@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
@pytest.mark.parametrize("which", READS)
def test_reading(site: Site, which: str, sized: bool) -> None:
    answer = site.ask("read", method="POST", body=LINES, sized=sized, fields=[("x-which", which)])
    assert answer.status == 200
    assert json.loads(answer.body) == READ[which]


# Not "mixed": its next() raises StopIteration at once, as it should.
@pytest.mark.parametrize("which", [which for which in READS if which != "mixed"])
def test_reading_where_there_is_no_body(site: Site, which: str) -> None:
    answer = site.ask("read", fields=[("x-which", which)])
    assert answer.status == 200
    assert "".join(json.loads(answer.body)) == ""


@pytest.mark.parametrize("size", [0, 1, 100_000])
@pytest.mark.parametrize("sized", [True, False], ids=["sized", "unsized"])
def test_input_is_terminated(site: Site, size: int, sized: bool) -> None:
    """wsgi.input_terminated: read() ends with the body, whatever announced its length."""
    answer = site.ask("count", method="POST", body=b"x" * size, sized=sized)
    assert answer.body == str(size).encode()


def test_a_body_that_nobody_reads(site: Site) -> None:
    answer = site.ask("ignore", method="POST", body=b"x" * 1000)
    assert (answer.status, answer.body, answer.whole) == (200, BODY, True)
    site.want_logged(200, len(BODY), "POST")


# -- wsgiref's validator, early hints -----------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT"])
def test_the_validator_finds_nothing(site: Site, method: str) -> None:
    body = LINES if method in ("POST", "PUT") else None
    fields = [("content-type", "text/plain")] if body else []
    answer = site.ask("valid", method=method, body=body, fields=fields)
    assert answer.status == 200
    assert answer.body == (body or (b"" if method == "HEAD" else BODY))
    site.want_logged(200, 0 if method == "HEAD" else len(answer.body), method)
    assert entries(site.server, site.tag) == []
    assert "garbage collected without being closed" not in site.server.log()


def test_early_hints(server: Server) -> None:
    with RawClient(server).greet() as client:
        response = client.request(path="/early_hints")
    assert [[value for _, value in block] for block in response.interim] == [
        [b"103", b"</a.css>; rel=preload", b"</b.js>; rel=preload"],
        [b"103", b"</c.css>; rel=preload"],
    ]
    assert {name for block in response.interim for name, _ in block} == {b":status", b"link"}
    assert (response.status, response.body) == (200, BODY)


def test_early_hints_that_are_invalid_are_500(site: Site) -> None:
    want_500(site, "bad_early_hints", "Error")
