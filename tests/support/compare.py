"""Compares the answers that two servers give to one request.

An ``Answer`` is what reached the client, before anything decodes it. Two answers
must be equal once the ``ALWAYS`` rules, those for two protocols, and those that a case
names because its answer is random have run over both. Every rule says why it has to
exist: what no rule covers is a difference between the servers.

Requests carry a fixed ``Host``, so that the ports of the two servers never show.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Mapping

import httpx

from .http_client import TIMEOUT

HOST = "httpbin.test"

HTTP_DATE = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"

Fields = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Answer:
    """Status, header fields in order with lower-case names, and the raw body."""

    status: int
    fields: Fields
    body: bytes


@dataclasses.dataclass(frozen=True)
class Rule:
    """One permitted difference: what removes it from an answer, and its reason."""

    name: str
    reason: str
    apply: Callable[[Answer], Answer]


def fetch(
    transport: httpx.BaseTransport,
    origin: str,
    target: str,
    method: str = "GET",
    headers: Iterable[tuple[str, str | bytes]] = (),
    content: bytes | Iterable[bytes] | None = None,
    protocol: str = "HTTP/2",
) -> Answer:
    """One request with exactly this target and these fields: no cookies, no redirects."""
    fields = [("Host", HOST), *headers]
    request = httpx.Request(
        method,
        origin,
        headers=[(name.encode(), _octets(value)) for name, value in fields],
        content=content,
        # The target extension keeps the client from tidying up the path.
        extensions={"target": target.encode(), "timeout": TIMEOUT.as_dict()},
    )
    response = transport.handle_request(request)
    try:
        body = b"".join(response.iter_raw())
    finally:
        response.close()
    spoken = response.extensions["http_version"].decode()
    assert spoken == protocol, f"{method} {target} was answered in {spoken}, not {protocol}"
    received = ((n.decode("latin-1").lower(), v.decode("latin-1")) for n, v in response.headers.raw)
    return Answer(response.status_code, tuple(received), body)


def _octets(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


def _without_fields(*names: str) -> Callable[[Answer], Answer]:
    def apply(answer: Answer) -> Answer:
        kept = tuple(field for field in answer.fields if field[0] not in names)
        return dataclasses.replace(answer, fields=kept)

    return apply


def _in_field_order(answer: Answer) -> Answer:
    return dataclasses.replace(
        answer, fields=tuple(sorted(answer.fields, key=lambda field: field[0]))
    )


def _without_echoed_transfer_encoding(answer: Answer) -> Answer:
    body = re.sub(rb',\n *"Transfer-Encoding": "chunked"', b"", answer.body)
    removed = len(answer.body) - len(body)
    fields = tuple(
        (name, str(int(value) - removed) if name == "content-length" else value)
        for name, value in answer.fields
    )
    return dataclasses.replace(answer, body=body, fields=fields)


def _replaced_body(pattern: bytes) -> Callable[[Answer], Answer]:
    compiled = re.compile(pattern)

    def apply(answer: Answer) -> Answer:
        assert compiled.search(answer.body), f"no {pattern!r} in {answer.body[:300]!r}"
        return dataclasses.replace(answer, body=compiled.sub(b"*", answer.body))

    return apply


def _replaced_fields(patterns: Mapping[str, str]) -> Callable[[Answer], Answer]:
    def apply(answer: Answer) -> Answer:
        missing = set(patterns) - {name for name, _ in answer.fields}
        assert not missing, f"no {missing} in {answer.fields}"
        replaced = tuple(
            (name, re.sub(patterns[name], "*", value) if name in patterns else value)
            for name, value in answer.fields
        )
        return dataclasses.replace(answer, fields=replaced)

    return apply


def _of_length(answer: Answer) -> Answer:
    return dataclasses.replace(answer, body=b"*" * len(answer.body))


def _without_gzip_time(answer: Answer) -> Answer:
    assert answer.body[:3] == b"\x1f\x8b\x08", answer.body[:20]
    return dataclasses.replace(answer, body=answer.body[:4] + bytes(4) + answer.body[8:])


ALWAYS: tuple[Rule, ...] = (
    Rule(
        "date",
        "the two answers may be a second apart",
        _replaced_fields({"date": rf"^{HTTP_DATE}$"}),
    ),
    Rule(
        "field order",
        "the order of fields with different names means nothing (RFC 9110, 5.3);"
        " that of fields with one name is kept",
        _in_field_order,
    ),
)

HOP_BY_HOP = Rule(
    "hop-by-hop",
    "HTTP/2 forbids these fields and frames the message itself (RFC 9113, 8.2.2)",
    _without_fields("connection", "keep-alive", "transfer-encoding"),
)
ECHOED_FRAMING = Rule(
    "echoed framing",
    "an upload of unknown length is chunked in HTTP/1.1, and httpbin echoes that field",
    _without_echoed_transfer_encoding,
)
#: For an HTTP/1.1 answer beside an HTTP/2 one; two HTTP/1.1 answers have no such excuse.
BETWEEN_PROTOCOLS = (HOP_BY_HOP, ECHOED_FRAMING)

UUID = Rule(
    "uuid",
    "a new one for every request; its shape is still compared",
    _replaced_body(rb"\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\b"),
)
CACHE_VALIDATORS = Rule(
    "cache validators",
    "httpbin makes up an ETag and takes the time of day as Last-Modified",
    _replaced_fields({"etag": r"^[0-9a-f]{32}$", "last-modified": rf"^{HTTP_DATE}$"}),
)
DIGEST_CHALLENGE = Rule(
    "digest challenge",
    "nonce and opaque are random",
    _replaced_fields({"www-authenticate": r'(?<=nonce=|paque=)"[0-9a-f]+"'}),
)
RANDOM_BYTES = Rule("random bytes", "without a seed only the length is the same", _of_length)
GZIP_TIME = Rule(
    "gzip time", "the gzip header carries the second of compression", _without_gzip_time
)


def normalised(answer: Answer, rules: Iterable[Rule] = ()) -> Answer:
    for rule in (*ALWAYS, *rules):
        answer = rule.apply(answer)
    return answer


def difference(expected: Answer, actual: Answer) -> str:
    """What differs, field by field, for the report of a failed comparison; "" if nothing."""
    lines = []
    if expected.status != actual.status:
        lines.append(f"status: {expected.status} != {actual.status}")
    lines += [f"only expected: {field}" for field in expected.fields if field not in actual.fields]
    lines += [f"only received: {field}" for field in actual.fields if field not in expected.fields]
    if not lines and expected.fields != actual.fields:
        lines.append(f"fields repeated differently: {expected.fields} != {actual.fields}")
    if expected.body != actual.body:
        pairs = enumerate(zip(expected.body, actual.body, strict=False))
        shorter = min(len(expected.body), len(actual.body))
        first = next((index for index, (one, other) in pairs if one != other), shorter)
        start = max(first - 60, 0)
        for name, body in (("expected", expected.body), ("received", actual.body)):
            lines.append(f"{name} {len(body)} bytes; from {start}: {body[start : start + 300]!r}")
    return "\n".join(lines)


def json_of(answer: Answer) -> dict[str, object]:
    document = json.loads(answer.body)
    assert isinstance(document, dict)
    return document
