"""HTTP/2 fields -> environ, case by case: Gunicorn's policy, and where RFC 9113 differs from it.

`test_environ_differential.py` holds the rule, that both protocols give the same
environ; here are the exceptions, and examples that say what the values are.
"""

from __future__ import annotations

import io
from typing import Any

import pytest
from gunicorn.http import errors

from gunicorn_h2 import environ
from gunicorn_h2.environ import ConfigCache, Http2Request, TunnelRefused, build
from gunicorn_h2.fields import MalformedFields, request_head
from tests.support import gunicorn_version
from tests.support.environs import (
    CLIENT,
    RESET,
    Field,
    Request,
    Setup,
    over_http1,
    over_http2,
)

UNTRUSTED = ("203.0.113.9", 4711)


def h2(*fields: Field, **replaced: bytes | None) -> list[Field]:
    """A good request's field list; pseudo-fields can be replaced, or left out with None."""
    pseudo: dict[str, bytes | None] = {
        "method": b"GET",
        "scheme": b"https",
        "path": b"/",
        "authority": b"example.com",
        **replaced,
    }
    head = [(b":" + name.encode(), value) for name, value in pseudo.items() if value is not None]
    return [*head, *fields]


# --- the environ --------------------------------------------------------------


def test_a_plain_request() -> None:
    outcome = over_http2(
        Request(
            method=b"POST",
            path=b"/caf%C3%A9/a%20b?x=%26&y",
            host=b"example.com:8443",
            fields=(
                (b"content-type", b"text/plain"),
                (b"content-length", b"5"),
                (b"user-agent", b"t/1"),
            ),
            scheme=b"https",
        )
    )
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9/a b",
        "QUERY_STRING": "x=%26&y",
        "RAW_URI": "/caf%C3%A9/a%20b?x=%26&y",
        "SERVER_PROTOCOL": "HTTP/2.0",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "HTTP_HOST": "example.com:8443",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "5",
        "HTTP_USER_AGENT": "t/1",
        # The transport is cleartext, whatever `:scheme` says.
        "wsgi.url_scheme": "http",
        "wsgi.input_terminated": True,
        "wsgi.run_once": False,
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.version": (1, 0),
    }
    assert outcome.environ is not None
    shown = {key: outcome.environ[key] for key in expected}
    assert shown == expected
    rest = set(outcome.environ) - set(expected)
    assert rest == {"SERVER_SOFTWARE", "wsgi.file_wrapper"}


def test_a_request_without_any_field() -> None:
    """Neither `:authority` nor Host: RFC 9113 section 8.3.1 allows it, and so does Gunicorn."""
    outcome = over_http2(Request(host=None))
    assert outcome.environ is not None
    assert [key for key in outcome.environ if key.startswith("HTTP_")] == []
    assert outcome["SERVER_NAME"] == "127.0.0.1"


def test_repeated_fields_are_joined_with_commas_and_cookies_with_semicolons() -> None:
    """RFC 9113 section 8.2.3: crumbs of a cookie become one field again."""
    fields = ((b"x-a", b"1"), (b"cookie", b"a=1"), (b"x-a", b"2"), (b"cookie", b"b=2; c=3"))
    outcome = over_http2(Request(fields=fields))
    assert outcome["HTTP_X_A"] == "1,2"
    assert outcome["HTTP_COOKIE"] == "a=1; b=2; c=3"


def test_no_names_with_dashes_and_none_in_lower_case() -> None:
    fields = ((b"x-forwarded-for", b"192.0.2.1"), (b"x-.y~z", b"odd, but legal"))
    outcome = over_http2(Request(fields=fields))
    assert outcome["HTTP_X_FORWARDED_FOR"] == "192.0.2.1"
    assert outcome["HTTP_X_.Y~Z"] == "odd, but legal"
    assert outcome.environ is not None
    assert not [key for key in outcome.environ if key.startswith("HTTP_") and "-" in key]


def test_latin_1_values_arrive_as_they_are() -> None:
    outcome = over_http2(Request(fields=((b"x-a", b"caf\xe9 \xc3\xa9"),)))
    assert outcome["HTTP_X_A"].encode("latin-1") == b"caf\xe9 \xc3\xa9"


@pytest.mark.parametrize("path", [b"/../x", b"/a/%2e%2e/x", b"//x", b"/;p?q?r"])
def test_paths_are_not_tidied_up(path: bytes) -> None:
    assert over_http2(Request(path=path))["RAW_URI"] == path.decode()


def test_options_for_the_whole_server() -> None:
    request = Request(method=b"OPTIONS", path=b"*")
    assert over_http2(request)["RAW_URI"] == "*"
    assert over_http2(request)["PATH_INFO"] == over_http1(request)["PATH_INFO"] == "*"


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue"])
def test_expect_is_left_to_gunicorn(value: bytes) -> None:
    """It writes `100 Continue` to the socket we gave it; `peer.RequestSocket` keeps that."""
    outcome = over_http2(Request(method=b"PUT", fields=((b"expect", value),)))
    assert outcome.interim == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("multithread", [True, False])
def test_multithread_is_ours_to_say(multithread: bool) -> None:
    cfg = ConfigCache(Setup().config())
    head = request_head(Request().http2(), 1 << 16, 100)
    body = io.BytesIO(b"body")
    request = Http2Request(cfg, head, CLIENT, body, 3)
    _, environ = build(request, None, CLIENT, ("127.0.0.1", 8000), cfg, multithread)
    assert environ["wsgi.multithread"] is multithread
    assert environ["wsgi.input"] is body


# --- the same policy as over HTTP/1.1 (HOSTILE: 25) -----------------------------

POLICIES: dict[str, tuple[Setup, tuple[Field, ...]]] = {
    "underscores dropped": (
        Setup(client=UNTRUSTED),
        ((b"x_forwarded_for", b"a"), (b"content_length", b"7"), (b"x-forwarded-for", b"b")),
    ),
    "underscores refused": (
        Setup({"header_map": "refuse"}, client=UNTRUSTED),
        ((b"x_forwarded_for", b"a"),),
    ),
    "underscores let through": (
        Setup({"header_map": "dangerous"}, client=UNTRUSTED),
        ((b"x_forwarded_for", b"a"), (b"x-forwarded-for", b"b"), (b"content_length", b"7")),
    ),
    "forwarder trusted": (
        Setup(),
        ((b"script_name", b"/app"), (b"path_info", b"/x"), (b"remote_user", b"root")),
    ),
    "forwarder not trusted": (Setup(client=UNTRUSTED), ((b"script_name", b"/app"),)),
    "forwarder not trusted, refused": (
        Setup({"header_map": "refuse"}, client=UNTRUSTED),
        ((b"script_name", b"/app"),),
    ),
    "all names of a forwarder": (
        Setup({"forwarder_headers": "*", "header_map": "refuse"}),
        ((b"remote_user", b"root"), (b"x_a", b"1"), (b"x-a", b"2")),
    ),
    "forwarder on a unix socket": (
        Setup({"forwarded_allow_ips": ""}, client="", server="/run/a.sock"),
        ((b"script_name", b"/app"), (b"x-forwarded-proto", b"https")),
    ),
    "scheme trusted": (Setup(), ((b"x-forwarded-proto", b"https"),)),
    "scheme trusted, over IPv6": (
        Setup(client=("::1", 5, 0, 0), server=("::1", 80, 0, 0)),
        ((b"x-forwarded-proto", b"https"),),
    ),
    "scheme of another value": (Setup(), ((b"x-forwarded-proto", b"HTTPS"),)),
    "scheme not trusted": (Setup(client=UNTRUSTED), ((b"x-forwarded-proto", b"https"),)),
    "scheme of everybody trusted": (
        Setup({"forwarded_allow_ips": "*"}, client=UNTRUSTED),
        ((b"x-forwarded-proto", b"https"),),
    ),
    "schemes that agree": (
        Setup(),
        ((b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"on")),
    ),
    "schemes that contradict": (
        Setup(),
        ((b"x-forwarded-proto", b"https"), (b"x-forwarded-ssl", b"off")),
    ),
    "scheme twice": (
        Setup(),
        ((b"x-forwarded-proto", b"https"), (b"x-forwarded-proto", b"http")),
    ),
    "scheme of its own name": (
        Setup({"secure_scheme_headers": {"X-SECURE": "yes"}}),
        ((b"x-secure", b"yes"), (b"x-forwarded-proto", b"http")),
    ),
    "scheme of a transport with TLS": (Setup({"certfile": "server.pem"}), ()),
    "http in front of a transport with TLS": (
        Setup({"certfile": "server.pem"}),
        ((b"x-forwarded-proto", b"http"),),
    ),
    "script name from the environment": (Setup(script_name="/app"), ()),
    "script name from the environment and a field": (
        Setup(script_name="/other"),
        ((b"script_name", b"/app"),),
    ),
    "script name that does not fit": (Setup(), ((b"script_name", b"/elsewhere"),)),
    "control characters": (Setup(), ((b"x-a", b"\x01\x7f"),)),
    "tab inside": (Setup(), ((b"x-a", b"a\tb"),)),
    "content type twice": (Setup(), ((b"content-type", b"a/b"), (b"content-type", b"c/d"))),
    "other expectations": (Setup(), ((b"expect", b"tea"),)),
}
if gunicorn_version() >= (25, 3):
    NETWORK = Setup({"forwarded_allow_ips": "203.0.113.0/24"}, client=UNTRUSTED)
    POLICIES["scheme of a trusted network"] = (NETWORK, ((b"x-forwarded-proto", b"https"),))
    POLICIES["forwarder in a trusted network"] = (NETWORK, ((b"script_name", b"/app"),))


@pytest.mark.parametrize("name", POLICIES)
def test_policy_is_gunicorns(name: str) -> None:
    setup, fields = POLICIES[name]
    request = Request(path=b"/app/x", fields=fields)
    ours, gunicorns = over_http2(request, setup), over_http1(request, setup)
    assert ours.without("SERVER_PROTOCOL") == gunicorns.without("SERVER_PROTOCOL")


def policy(name: str) -> Any:
    setup, fields = POLICIES[name]
    return over_http2(Request(path=b"/app/x", fields=fields, scheme=b"https"), setup)


def test_what_the_policies_mean() -> None:
    """So that no agreement above comes of Gunicorn and us ignoring a setting together."""
    dropped = policy("underscores dropped")
    assert dropped["HTTP_X_FORWARDED_FOR"] == "b"
    assert not {"HTTP_CONTENT_LENGTH", "CONTENT_LENGTH"}.intersection(dropped.environ)
    assert policy("underscores refused").status == 400
    assert policy("underscores let through")["HTTP_X_FORWARDED_FOR"] == "a,b"
    assert "CONTENT_LENGTH" not in policy("underscores let through").environ
    trusted = policy("forwarder trusted")
    assert (trusted["SCRIPT_NAME"], trusted["PATH_INFO"]) == ("/app", "/x")
    assert "HTTP_REMOTE_USER" not in trusted.environ
    assert policy("forwarder not trusted")["SCRIPT_NAME"] == ""
    assert policy("forwarder not trusted, refused").status == 400
    assert policy("forwarder on a unix socket")["SCRIPT_NAME"] == "/app"
    assert policy("scheme trusted")["wsgi.url_scheme"] == "https"
    assert policy("scheme of another value")["wsgi.url_scheme"] == "http"
    assert policy("scheme not trusted")["wsgi.url_scheme"] == "http"
    assert policy("scheme of a transport with TLS")["wsgi.url_scheme"] == "https"
    assert policy("http in front of a transport with TLS")["wsgi.url_scheme"] == "http"
    assert policy("schemes that contradict").status == 400
    assert policy("script name from the environment")["PATH_INFO"] == "/x"
    assert policy("script name that does not fit").status == 500


#: Gunicorn answers 400 before 27.
URI_TOO_LONG = 414 if gunicorn_version() >= (27,) else 400

LIMITS: dict[str, tuple[dict[str, Any], Request, int]] = {
    # "GET /23456 HTTP/1.1" is 19 bytes.
    "line at the limit": ({"limit_request_line": 19}, Request(path=b"/23456"), 0),
    "line beyond the limit": ({"limit_request_line": 18}, Request(path=b"/23456"), URI_TOO_LONG),
    "line beyond the default": ({}, Request(path=b"/" + b"a" * 5000), URI_TOO_LONG),
    "line without a limit": (
        {"limit_request_line": 0},
        Request(path=b"/" + b"a" * 5000),
        0,
    ),
    "method that makes the line too long": ({}, Request(method=b"A" * 5000), URI_TOO_LONG),
    # Host counts, and so does a field that is dropped afterwards.
    "fields at the limit": (
        {"limit_request_fields": 2},
        Request(fields=((b"x-a", b"1"),)),
        0,
    ),
    "fields beyond the limit": (
        {"limit_request_fields": 2},
        Request(fields=((b"x-a", b"1"), (b"x-b", b"2"))),
        431,
    ),
    "crumbs count as one cookie": (
        {"limit_request_fields": 2},
        Request(fields=((b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"cookie", b"c=3"))),
        0,
    ),
    # "x-a: 12345\r\n" is 12 bytes.
    "field at the limit": (
        {"limit_request_field_size": 12},
        Request(host=None, fields=((b"x-a", b"12345"),)),
        0,
    ),
    "field beyond the limit": (
        {"limit_request_field_size": 11},
        Request(host=None, fields=((b"x-a", b"12345"),)),
        431,
    ),
    "crumbs that are too much together": (
        {"limit_request_field_size": 20},
        Request(host=None, fields=((b"cookie", b"a=12345678"), (b"cookie", b"b=2"))),
        431,
    ),
    "method unconventional": ({}, Request(method=b"get"), 400),
    "method short": ({}, Request(method=b"AB"), 400),
    "method long": ({}, Request(method=b"A" * 21), 400),
    "method permitted": (
        {"permit_unconventional_http_method": True},
        Request(method=b"get#"),
        0,
    ),
    "method casefolded": (
        {"permit_unconventional_http_method": True, "casefold_http_method": True},
        Request(method=b"get"),
        0,
    ),
    "method casefolded, whole server": (
        {"permit_unconventional_http_method": True, "casefold_http_method": True},
        Request(method=b"options", path=b"*"),
        0,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_gunicorns(name: str) -> None:
    settings, request, status = LIMITS[name]
    ours = over_http2(request, Setup(settings))
    gunicorns = over_http1(request, Setup(settings))
    assert ours.without("SERVER_PROTOCOL") == gunicorns.without("SERVER_PROTOCOL")
    assert ours.status == status


@pytest.mark.parametrize("limits", [{"max_list_size": 200}, {"max_fields": 1}])
def test_what_passes_our_own_limits_is_431_too(limits: dict[str, int]) -> None:
    request = Request(fields=((b"x-a", b"1" * 100), (b"x-b", b"2")))
    assert over_http2(request).status == 0
    outcome = over_http2(request, **limits)  # type: ignore[arg-type]
    assert outcome.error is errors.LimitRequestHeaders
    assert outcome.status == 431


# --- what RFC 9113 demands and HTTP/1.1 does not (HOSTILE: 23, 24, 26, 27, 28) ----

#: Field list, what becomes of it. Over HTTP/1.1 Gunicorn would accept some of these,
#: and answer others with 400.
REFUSED: dict[str, tuple[list[Field], int]] = {
    # Section 8.2.1.
    "upper case in a name": (h2((b"X-a", b"1")), RESET),
    "space after a name": (h2((b"x-a ", b"1")), RESET),
    "control in a name": (h2((b"x\x01a", b"1")), RESET),
    "colon in a name": (h2((b"x:a", b"1")), RESET),
    "8-bit name": (h2((b"x\xe9", b"1")), RESET),
    "no name": (h2((b"", b"1")), RESET),
    "CR in a value": (h2((b"x-a", b"1\rx")), RESET),
    "LF in a value": (h2((b"x-a", b"1\nx-b: 2")), RESET),
    "NUL in a value": (h2((b"x-a", b"1\x00")), RESET),
    "space before a value": (h2((b"x-a", b" 1")), RESET),
    "space after a value": (h2((b"x-a", b"1 ")), RESET),
    "tab before a value": (h2((b"x-a", b"\t1")), RESET),
    "tab after a value": (h2((b"x-a", b"1\t")), RESET),
    # Section 8.2.2.
    "connection": (h2((b"connection", b"keep-alive")), RESET),
    "keep-alive": (h2((b"keep-alive", b"5")), RESET),
    "proxy-connection": (h2((b"proxy-connection", b"close")), RESET),
    "transfer-encoding": (h2((b"transfer-encoding", b"chunked")), RESET),
    "upgrade": (h2((b"upgrade", b"h2c")), RESET),
    "te": (h2((b"te", b"gzip")), RESET),
    "te with more": (h2((b"te", b"trailers, gzip")), RESET),
    # Section 8.1.1.
    "content-length twice": (h2((b"content-length", b"5"), (b"content-length", b"5")), RESET),
    "content-length with a sign": (h2((b"content-length", b"+5")), RESET),
    "content-length negative": (h2((b"content-length", b"-5")), RESET),
    "content-length empty": (h2((b"content-length", b"")), RESET),
    "content-length list": (h2((b"content-length", b"5, 5")), RESET),
    "content-length beyond all bodies": (h2((b"content-length", b"9" * 19)), RESET),
    "content-length in other digits": (h2((b"content-length", b"\xb2")), RESET),
    # Section 8.3.
    "pseudo-field after a field": ([*h2((b"x-a", b"1"))[1:], (b":method", b"GET")], RESET),
    "pseudo-field twice": ([(b":path", b"/"), *h2()], RESET),
    "pseudo-field of a response": ([(b":status", b"200"), *h2()], RESET),
    "unknown pseudo-field": ([(b":x", b"1"), *h2()], RESET),
    "CR LF in a pseudo-field": (h2(path=b"/ HTTP/1.1\r\nx-a: 1"), RESET),
    "space around a pseudo-field": (h2(path=b"/ "), RESET),
    # Section 8.3.1.
    "no :method": (h2(method=None), RESET),
    "empty :method": (h2(method=b""), RESET),
    "no :scheme": (h2(scheme=None), RESET),
    "empty :scheme": (h2(scheme=b""), RESET),
    "no :path": (h2(path=None), RESET),
    "empty :path": (h2(path=b""), 400),
    "asterisk": (h2(path=b"*"), 400),
    "absolute :path": (h2(path=b"http://example.com/"), 400),
    "authority as :path": (h2(path=b"example.com:443"), 400),
    ":path without a slash": (h2(path=b"x"), 400),
    "fragment": (h2(path=b"/x#y"), 400),
    "space in :path": (h2(path=b"/a b"), 400),
    "control in :path": (h2(path=b"/a\x01"), 400),
    "DEL in :path": (h2(path=b"/a\x7f"), 400),
    "8-bit :path": (h2(path=b"/\x80"), 400),
    "space in :method": (h2(method=b"GE T"), 400),
    "request line as :method": (h2(method=b"GET /admin HTTP/1.1"), 400),
    "separator in :method": (h2(method=b"GET,"), 400),
    "8-bit :method": (h2(method=b"G\xc9T"), 400),
    "userinfo": (h2(authority=b"root@example.com"), 400),
    "path in :authority": (h2(authority=b"example.com/x"), 400),
    "query in :authority": (h2(authority=b"example.com?x"), 400),
    "fragment in :authority": (h2(authority=b"example.com#x"), 400),
    "backslash in :authority": (h2(authority=b"example.com\\x"), 400),
    "space in :authority": (h2(authority=b"example.com x"), 400),
    "8-bit :authority": (h2(authority=b"ex\xe4mple.com"), 400),
    "userinfo in Host": (h2((b"host", b"root@example.com"), authority=None), 400),
    "Host unlike :authority": (h2((b"host", b"example.org")), 400),
    "Host empty beside :authority": (h2((b"host", b"")), 400),
    "two Hosts": (h2((b"host", b"a"), (b"host", b"b"), authority=None), 400),
    "two equal Hosts": (h2((b"host", b"a"), (b"host", b"a"), authority=None), 400),
    "two Hosts beside :authority": (
        h2((b"host", b"example.com"), (b"host", b"example.com")),
        400,
    ),
    # Section 8.5, and RFC 8441.
    "CONNECT": (h2(method=b"CONNECT", scheme=None, path=None, authority=b"a:443"), 501),
    "CONNECT with :path": (h2(method=b"CONNECT", scheme=None), RESET),
    "CONNECT with :scheme": (h2(method=b"CONNECT", path=None), RESET),
    "CONNECT without :authority": (
        h2(method=b"CONNECT", scheme=None, path=None, authority=None),
        RESET,
    ),
    "extended CONNECT": ([(b":protocol", b"websocket"), *h2(method=b"CONNECT")], RESET),
    ":protocol of another method": ([(b":protocol", b"websocket"), *h2()], RESET),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_over_http2(name: str) -> None:
    fields, status = REFUSED[name]
    outcome = over_http2(fields)
    assert outcome.environ is None
    assert outcome.status == status


def test_the_good_request_that_the_refused_ones_are_made_from() -> None:
    assert over_http2(h2()).status == 0
    assert over_http2(h2((b"te", b"trailers"), (b"content-length", b"5"))).status == 0


def test_host_alone_is_used_and_an_equal_one_is_not_repeated() -> None:
    alone = over_http2(h2((b"host", b"example.com"), authority=None))
    both = over_http2(h2((b"host", b"example.com")))
    assert alone["HTTP_HOST"] == both["HTTP_HOST"] == "example.com"
    assert alone == both == over_http2(h2())


@pytest.mark.parametrize("scheme", [b"http", b"https", b"javascript", b"\xff", b"a b"])
def test_scheme_is_the_transports(scheme: bytes) -> None:
    """A bare `:scheme` is the peer's word only."""
    assert over_http2(h2(scheme=scheme))["wsgi.url_scheme"] == "http"


def test_connect_is_an_error_that_gunicorn_answers_with_501() -> None:
    """HTTP/1.1 keeps Gunicorn's own way: there the application gets to see it."""
    outcome = over_http2(REFUSED["CONNECT"][0])
    assert outcome.error is TunnelRefused
    assert issubclass(TunnelRefused, errors.UnsupportedTransferCoding)
    assert str(TunnelRefused("")) == "CONNECT is not implemented"


#: The same requests over HTTP/1.1, where the installed Gunicorn accepts them: that our
#: refusal is wanted, not taken over from it.
LAXER_OVER_HTTP1 = {
    "upper case in a name": b"GET / HTTP/1.1\r\nX-a: 1\r\n\r\n",
    "space before a value": b"GET / HTTP/1.1\r\nx-a:   1\r\n\r\n",
    "space after a value": b"GET / HTTP/1.1\r\nx-a: 1 \r\n\r\n",
    "connection": b"GET / HTTP/1.1\r\nconnection: keep-alive\r\n\r\n",
    "transfer-encoding": b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "te": b"GET / HTTP/1.1\r\nte: gzip\r\n\r\n",
    "absolute :path": b"GET http://example.com/ HTTP/1.1\r\n\r\n",
    "fragment": b"GET /x#y HTTP/1.1\r\n\r\n",
    "userinfo": b"GET / HTTP/1.1\r\nhost: root@example.com\r\n\r\n",
    "content-length beyond all bodies": b"POST / HTTP/1.1\r\ncontent-length: %b\r\n\r\n"
    % (b"9" * 19),
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
}


@pytest.mark.parametrize("name", LAXER_OVER_HTTP1)
def test_the_differences_are_of_http2(name: str) -> None:
    assert over_http1(LAXER_OVER_HTTP1[name]).error is None
    assert over_http2(REFUSED[name][0]).error is not None


def test_strip_header_spaces_does_not_make_malformed_fields_acceptable() -> None:
    setup = Setup({"strip_header_spaces": True})
    assert over_http1(b"GET / HTTP/1.1\r\nx-a : 1\r\n\r\n", setup)["HTTP_X_A"] == "1"
    assert over_http2(h2((b"x-a ", b"1")), setup).error is MalformedFields


def test_a_refused_path_is_not_repeated_at_length() -> None:
    """What goes into the log, and into the page, is bounded."""
    head = request_head(h2(path=b"x" * 4000), 1 << 16, 100)
    with pytest.raises(errors.InvalidRequestLine) as caught:
        Http2Request(ConfigCache(Setup().config()), head, CLIENT, io.BytesIO(), 1)
    assert len(str(caught.value)) < 200


def test_host_that_disagrees_is_logged_as_the_request_it_is() -> None:
    """Gunicorn writes the access log from the request that an InvalidHeader carries."""
    head = request_head(REFUSED["Host unlike :authority"][0], 1 << 16, 100)
    with pytest.raises(errors.InvalidHeader) as caught:
        Http2Request(ConfigCache(Setup().config()), head, CLIENT, io.BytesIO(), 1)
    refused = caught.value.req
    assert (refused.method, refused.uri, refused.version) == ("GET", "/", (2, 0))


# --- what is remembered between requests ------------------------------------------


def test_each_peer_is_trusted_for_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environ, "_ADDRESSES", 1)
    setup = Setup()
    cfg = ConfigCache(setup.config())
    head = request_head(Request(fields=((b"x-forwarded-proto", b"https"),)).http2(), 1 << 16, 100)
    peers = (CLIENT, UNTRUSTED, CLIENT, "", UNTRUSTED, CLIENT)
    schemes = [Http2Request(cfg, head, peer, io.BytesIO(), 1).scheme for peer in peers]
    assert schemes == ["https", "http", "https", "https", "http", "https"]
    assert len(cfg.trusted) <= 1


def test_a_setting_is_looked_up_once() -> None:
    cfg = ConfigCache(Setup().config())
    assert cfg.limit_request_line == cfg.limit_request_line == 4094
    assert vars(cfg)["limit_request_line"] == 4094
    with pytest.raises(AttributeError):
        _ = cfg.no_such_setting
