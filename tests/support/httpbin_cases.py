"""The requests that ``tests/server/test_httpbin.py`` sends to two servers at once.

They cover httpbin's endpoints, and the forms of request target, field and body that
a server can get wrong on the way between the wire and the application.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Iterator
from urllib.parse import quote

from . import compare
from .compare import Rule

Headers = tuple[tuple[str, str | bytes], ...]

FORM = ("Content-Type", "application/x-www-form-urlencoded")
JSON = ("Content-Type", "application/json")
BOUNDARY = "nobody-writes-this"
MULTIPART = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")


@dataclasses.dataclass(frozen=True)
class Case:
    """One request for both servers, and the rules that its random answer needs."""

    target: str
    method: str = "GET"
    headers: Headers = ()
    content: bytes | tuple[bytes, ...] | None = None
    rules: tuple[Rule, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, (self.method, self.target[:60], self.note)))


def basic(user: str, password: str) -> tuple[str, str]:
    return ("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    """The parts, each a name, a file name or None, and content, as one form body."""
    body = b""
    for name, filename, content in parts:
        disposition = f'form-data; name="{name}"'
        if filename is not None:
            disposition += f'; filename="{filename}"\r\nContent-Type: text/plain'
        head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n"
        body += head.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def method_cases() -> Iterator[Case]:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"):
        yield Case("/anything/some/path?a=1&a=2&b=", method)
        yield Case("/get", method)
        yield Case("/status/200", method)
        yield Case("/no/such/page", method)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        path = f"/{method.lower()}"
        yield Case(path, method, (FORM,), b"a=1&b=two+words&b=%C3%A9&empty=", note="form")
        yield Case(path, method, (JSON,), '{"key": ["välue", null, 1.5]}'.encode(), note="json")
        yield Case(path, method, (JSON,), b'{"broken', note="broken json")
        yield Case(path, method, (), b"\x00\xff" * 40_000, note="160 kB")
        yield Case(path, method, (), b"", note="empty body")
        yield Case(path, method, (("Content-Length", "0"),), note="length 0")
        yield Case(
            path,
            method,
            (FORM,),
            (b"first=1&sec", b"", b"ond=2", b"&third=" + b"3" * 70_000),
            note="unknown length",
        )
    yield Case("/post", "POST", (), (), note="no chunks")
    yield Case("/post", "HEAD", note="not allowed")
    yield Case("/image/png", "HEAD")
    yield Case("/stream/3", "HEAD")
    yield Case("/stream-bytes/300?seed=1", "HEAD")
    yield Case("/range/2000", "HEAD")
    yield Case("/status/204", "HEAD")
    yield Case("/status/418", "HEAD")
    yield Case("/redirect/1", "HEAD")
    yield Case(
        "/anything",
        "OPTIONS",
        (
            ("Origin", "https://elsewhere.test"),
            ("Access-Control-Request-Method", "PUT"),
            ("Access-Control-Request-Headers", "X-One, X-Two"),
        ),
        note="preflight",
    )
    yield Case(
        "/post",
        "POST",
        (MULTIPART,),
        multipart(
            ("text", None, "välue".encode()),
            ("file", "a.txt", b"line one\r\nline two\r\n"),
            ("other", "ü.bin", bytes(range(256))),
            ("large", "large.txt", b"0123456789" * 30_000),
        ),
        note="multipart",
    )
    yield Case("/post", "POST", (MULTIPART,), multipart(("a", None, b"1"))[:-9], note="cut short")


def redirect_cases() -> Iterator[Case]:
    for kind in ("redirect", "relative-redirect", "absolute-redirect"):
        for count in (1, 2, 5):
            yield Case(f"/{kind}/{count}")
    yield Case("/redirect/3?absolute=true")
    for status in (301, 302, 303, 307, 308):
        yield Case(f"/redirect-to?url=%2Fget%3Fa%3D1&status_code={status}")
    yield Case("/redirect-to?url=https%3A%2F%2Felsewhere.test%2F%C3%A9", note="elsewhere")
    yield Case("/redirect-to", "POST", (FORM,), b"url=/get&status_code=307")
    yield Case("/redirect-to", note="no url")
    yield Case("/links/5")
    yield Case("/links/5/2")


def cookie_cases() -> Iterator[Case]:
    yield Case("/cookies")
    yield Case("/cookies", headers=(("Cookie", 'a=1; b=2; c="quo ted"; d='),), note="sent")
    yield Case("/cookies/set/name/value")
    yield Case("/cookies/set?one=1&two=two%20words&three=%C3%A9", note="several")
    yield Case("/cookies/delete?one=&two=", headers=(("Cookie", "one=1; two=2"),))


def coding_cases() -> Iterator[Case]:
    yield Case("/gzip", rules=(compare.GZIP_TIME,))
    yield Case("/deflate")
    yield Case("/brotli")
    yield Case("/gzip", "HEAD")
    yield Case("/encoding/utf8")
    yield Case("/base64/" + quote(base64.b64encode("grüße".encode()).decode(), safe=""))
    yield Case("/base64/%21%21", note="not base64")


def stream_cases() -> Iterator[Case]:
    for count in (1, 20, 100):
        yield Case(f"/stream/{count}")
    for size in (1, 10_240, 65_535, 65_536, 102_400):
        yield Case(f"/bytes/{size}?seed=7")
        yield Case(f"/stream-bytes/{size}?seed=7&chunk_size=4000")
    yield Case("/bytes/0")
    yield Case("/stream-bytes/0")
    yield Case("/stream-bytes/300?seed=1&chunk_size=1")
    yield Case("/bytes/512", rules=(compare.RANDOM_BYTES,))
    yield Case("/stream-bytes/50000", rules=(compare.RANDOM_BYTES,))
    yield Case("/drip?duration=0.2&numbytes=5")
    yield Case("/drip?duration=0.1&numbytes=5&code=500&delay=0.1")
    yield Case("/drip?numbytes=0", note="400")
    yield Case("/delay/0.2")
    yield Case("/delay/0.1", "POST", (FORM,), b"a=1")


def range_cases() -> Iterator[Case]:
    yield Case("/range/100000?chunk_size=1000")
    yield Case("/range/2000?duration=0.1")
    for wanted in (
        "bytes=0-",
        "bytes=0-99",
        "bytes=100-199",
        "bytes=-50",
        "bytes=1999-",
        "bytes=2000-",
        "bytes=5-1",
        "lines=1-2",
    ):
        yield Case("/range/2000", headers=(("Range", wanted),), note=wanted)
    yield Case("/range/0", note="404")


def validator_cases() -> Iterator[Case]:
    yield Case("/cache", rules=(compare.CACHE_VALIDATORS,))
    yield Case("/cache", headers=(("If-None-Match", "x"),), note="304")
    yield Case("/cache", headers=(("If-Modified-Since", "Thu, 01 Jan 2026 00:00:00 GMT"),))
    yield Case("/cache/60")
    yield Case("/etag/tag")
    yield Case("/etag/tag", headers=(("If-None-Match", '"other", "tag"'),), note="304")
    yield Case("/etag/tag", headers=(("If-None-Match", "*"),), note="304 any")
    yield Case("/etag/tag", headers=(("If-Match", '"other"'),), note="412")
    yield Case("/etag/tag", headers=(("If-Match", "tag"),), note="matched")


def authentication_cases() -> Iterator[Case]:
    yield Case("/basic-auth/user/secret")
    yield Case("/basic-auth/user/secret", headers=(basic("user", "secret"),), note="right")
    yield Case("/basic-auth/user/secret", headers=(basic("user", "wrong"),), note="wrong")
    yield Case("/hidden-basic-auth/user/secret")
    yield Case("/hidden-basic-auth/user/secret", headers=(basic("user", "secret"),), note="right")
    yield Case("/bearer")
    yield Case("/bearer", headers=(("Authorization", "Bearer a.b-c"),), note="right")
    yield Case("/digest-auth/auth/user/secret", rules=(compare.DIGEST_CHALLENGE,))
    yield Case("/digest-auth/auth-int/user/secret/SHA-256", rules=(compare.DIGEST_CHALLENGE,))
    yield Case(
        "/digest-auth/auth/user/secret/MD5/0",
        headers=(
            ("Authorization", 'Digest username="user", nonce="n"'),
            ("Cookie", "stale_after=0"),
        ),
        rules=(compare.DIGEST_CHALLENGE,),
        note="stale",
    )


def status_cases() -> Iterator[Case]:
    for status in (
        200,
        201,
        202,
        203,
        204,
        205,
        206,
        226,
        300,
        301,
        302,
        303,
        304,
        305,
        307,
        308,
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        409,
        410,
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        418,
        421,
        422,
        428,
        429,
        431,
        451,
        500,
        501,
        502,
        503,
        504,
        511,
        599,
        799,
    ):
        yield Case(f"/status/{status}")
    for status in (204, 304, 418):
        yield Case(f"/status/{status}", "POST", (FORM,), b"a=1")
    yield Case("/status/abc", note="not a number")


def document_cases() -> Iterator[Case]:
    for path in (
        "/",
        "/legacy",
        "/html",
        "/robots.txt",
        "/deny",
        "/xml",
        "/json",
        "/forms/post",
        "/ip",
        "/image/png",
        "/image/jpeg",
        "/image/webp",
        "/image/svg",
        "/spec.json",
        "/static/favicon.ico",
        "/static/nothing",
    ):
        yield Case(path)
    for accept in ("image/webp", "image/svg+xml", "image/jpeg", "image/*", "text/html"):
        yield Case("/image", headers=(("Accept", accept),), note=accept)
    yield Case("/image/png", headers=(("If-None-Match", "*"),), note="conditional")
    yield Case("/uuid", rules=(compare.UUID,))
    yield Case("/user-agent", headers=(("User-Agent", "tests/1.0 (ü)".encode()),))


def request_field_cases() -> Iterator[Case]:
    def headers(note: str, *fields: tuple[str, str | bytes]) -> Case:
        return Case("/headers?show_env=1", headers=fields, note=note)

    yield headers("none")
    yield headers("repeated", ("X-Many", "one"), ("X-Many", "two, three"), ("x-many", "four"))
    yield headers("empty", ("X-Empty", ""), ("X-After", "x"))
    yield headers("utf-8", ("X-Text", "grüße".encode()))
    yield headers("latin-1", ("X-Text", "grüße".encode("latin-1")))
    yield headers("large", ("X-Large", "x" * 8000))
    yield headers("many", *((f"X-Field-{n}", f"value {n}") for n in range(80)))
    yield headers("underscore", ("x_under_score", "1"), ("X-Dash", "2"))
    yield headers("dotted name", ("x.dotted!name", "1"))
    yield headers("tab inside", ("X-Tab", "a\tb"))
    yield headers("case", ("X-CaMeL", "CaMeL"), ("x-lower", "Value"))
    yield headers("accepts", ("Accept", "text/html, */*;q=0.1"), ("Accept-Encoding", "gzip, br"))
    yield headers("range of te", ("TE", "trailers"))
    yield headers("priority", ("Priority", "u=1, i"), ("Sec-Fetch-Mode", "navigate"))
    yield headers("forwarded", ("X-Forwarded-For", "192.0.2.1"), ("X-Forwarded-Proto", "https"))
    yield headers("proto http", ("X-Forwarded-Proto", "http"))
    yield headers("ssl on", ("X-Forwarded-Ssl", "on"))
    yield headers("script name", ("Script-Name", "/elsewhere"))
    yield headers("content type", ("Content-Type", "text/plain; charset=utf-8"))
    yield headers("tokens", ("Via", "1.1 proxy"), ("Forwarded", "for=192.0.2.1"))
    yield Case("/anything", headers=(("X-Forwarded-Proto", "https"),), note="https behind a proxy")
    yield Case("/anything", "POST", (("Expect", "100-continue"), FORM), b"a=1", note="expects 100")


def target_cases() -> Iterator[Case]:
    for path in (
        "/anything/%C3%A9/%E2%82%AC?q=%C3%BC",
        "/anything/a%2Fb%25c",
        "/anything//double///slash",
        "/anything/a;p=1;q=2/b?x;y",
        "/anything/../up/./here",
        "/anything/%2e%2e/up",
        "/anything/%00null",
        "/anything/plus+sign%20space?plus+sign=%20space",
        "/anything?",
        "/anything?&&=&a",
        "/anything?a=%zz&b=%",
        "/anything?url=http://elsewhere.test/?x=1",
        "/anything/colon:at@tilde~'(*)!$,",
        "/anything/" + "x" * 3500,
        "/anything?" + "&".join(f"name{n}=value{n}" for n in range(200)),
        "//anything",
        "/%FF%FE",
    ):
        yield Case(path)
    yield Case("*", "OPTIONS", note="asterisk form")


def response_field_cases() -> Iterator[Case]:
    for query in (
        "X-One=1&X-Two=two%20words",
        "X-Many=1&X-Many=2&X-Many=3",
        "Set-Cookie=a%3D1&Set-Cookie=b%3D2",
        "X-Empty=",
        "X-Latin=gr%C3%BC%C3%9Fe",
        "X-Padded=%20%20spaced%20%20",
        "X-Large=" + "x" * 3000,
        "Content-Type=text%2Fplain",
        "Server=mine&Date=Thu%2C%2001%20Jan%202026%2000%3A00%3A00%20GMT",
        "Connection=close&Keep-Alive=timeout%3D5",
        "Trailer=X-Sum&Via=1.1%20a",
        "x_under=1&X.Dot=2",
    ):
        yield Case(f"/response-headers?{query}")
    yield Case("/response-headers?X-One=1", "POST")


CASES: tuple[Case, ...] = (
    *method_cases(),
    *redirect_cases(),
    *cookie_cases(),
    *coding_cases(),
    *stream_cases(),
    *range_cases(),
    *validator_cases(),
    *authentication_cases(),
    *status_cases(),
    *document_cases(),
    *request_field_cases(),
    *target_cases(),
    *response_field_cases(),
)
