"""Row 37: it is not the peer that breaks the rules but the application.

500, or RST_STREAM(INTERNAL_ERROR) once the head has left, on that stream only; nothing of
the error is shown to the peer; it is logged once, with a traceback.
"""

from __future__ import annotations

import itertools
import re

import pytest

from tests.support.frames import RawClient, Response
from tests.support.rawconn import FieldInput
from tests.support.wire import ErrorCode
from tests.support.wsgi_cases import SECRET

from .watch import Watch

_tags = (f"fault{number}" for number in itertools.count())

#: Cases of `tests.support.wsgi_faults`, with what they are to do wrong.
BEFORE_THE_HEAD: dict[str, tuple[str, str]] = {
    "raises before start_response": ("raise", "Exception"),
    "raises after it": ("raise_after_start", "Exception"),
    "raises in the first step": ("raise_in_first_step", "Exception"),
    "SystemExit": ("raise", "SystemExit"),
    "never calls start_response": ("never_started", ""),
    "returns None": ("none", ""),
    "yields text": ("text", ""),
    "CR LF in a header": ("bad_headers", "CR LF in a value"),
    "LF in a header name": ("bad_headers", "CR LF in a name"),
    "bytes in headers": ("bad_headers", "bytes for a value"),
    "an integer for a header": ("bad_headers", "a number for a value"),
    "an integer status": ("bad_status", "an integer"),
    "CR LF in the status": ("bad_status", "CR LF"),
    "a negative Content-Length": ("bad_headers", "a negative length"),
}
AFTER_THE_HEAD: dict[str, tuple[str, str]] = {
    "raises in the middle": ("raise_in_the_middle", "Exception"),
    "raises in the middle of a known length": ("raise_in_the_middle_sized", "Exception"),
    "KeyboardInterrupt in the middle": ("raise_in_the_middle", "KeyboardInterrupt"),
    "a body shorter than its length": ("shorter", ""),
}


@pytest.fixture
def tls() -> bool:
    """Cleartext: what frames mean does not depend on what carries them."""
    return False


def ask(watch: Watch, case: str, which: str) -> tuple[str, Response]:
    """Have the application do it, next to a request that must not notice."""
    watch.expects_tracebacks = True
    tag = next(_tags)
    extra: list[FieldInput] = [("x-which", which)]
    with RawClient(watch.server).greet() as client:
        client.headers(1, method="POST", path="/echo", end_stream=False)
        response = client.request(path=f"/wsgi/{case}?{tag}", extra=extra, stream_id=3)
        client.data(1, b"sibling", end_stream=True)
        assert client.response(1).body == b"sibling"
    shown = repr(response.headers).encode() + response.body
    assert SECRET.encode() not in shown
    assert b"Traceback" not in shown
    assert b"x-injected" not in shown.lower()
    return tag, response


def want_one_traceback(watch: Watch, tag: str) -> None:
    watch.target.want_idle_pool()
    found = re.split(r"^(?=\[\d{4}-\d\d-\d\d )", watch.server.log(), flags=re.MULTILINE)
    entries = [entry for entry in found if re.search(rf"\b{tag}\b", entry)]
    assert len(entries) == 1, entries
    assert "Traceback (most recent call last)" in entries[0]


@pytest.mark.parametrize("fault", BEFORE_THE_HEAD)
def test_row_37_before_the_head_it_is_500(watch: Watch, fault: str) -> None:
    tag, response = ask(watch, *BEFORE_THE_HEAD[fault])
    assert response.status == 500
    want_one_traceback(watch, tag)


@pytest.mark.parametrize("fault", AFTER_THE_HEAD)
def test_row_37_after_the_head_it_is_a_reset(watch: Watch, fault: str) -> None:
    tag, response = ask(watch, *AFTER_THE_HEAD[fault])
    assert (response.status, response.reset_code) == (200, ErrorCode.INTERNAL_ERROR)
    want_one_traceback(watch, tag)


def test_row_37_a_body_longer_than_its_length_is_cut(watch: Watch) -> None:
    with RawClient(watch.server).greet() as client:
        response = client.request(path="/wsgi/longer?longer")
        assert response.reset_code is None
        assert len(response.body) == int(response.header("content-length") or -1)
