"""The demonstration application: ``gunicorn -k gunicorn_h2.H2Worker gunicorn_h2.demo:app``.

``/`` shows how the request that asked for it arrived; ``/echo`` answers any
request with what it carried. Plain WSGI, without dependencies, it runs on any
server: nothing here knows the worker but by the keys it puts in the environ.
"""

import base64
import html
import json
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BODY = 16 * 1024 * 1024
_PIECE = 64 * 1024
_SHOWN_VALUE = 2_000

# What the front page shows first, where the server says it.
_FACTS = {
    "SERVER_PROTOCOL": "Protocol",
    "gunicorn_h2.stream_id": "Stream",
    "wsgi.url_scheme": "Scheme",
    "REMOTE_ADDR": "Client",
    "SERVER_SOFTWARE": "Server",
}


class _Response(NamedTuple):
    status: str
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class _BodyTooLargeError(Exception):
    """The request's body is larger than this application echoes."""


def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    page = _PAGES.get(environ.get("PATH_INFO", ""))
    response = page(environ) if page else _text("404 Not Found", "There is / and there is /echo.\n")
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *response.headers,
    ]
    start_response(response.status, headers)
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [response.body]


# --- / ----------------------------------------------------------------------


def _front_page(environ: "WSGIEnvironment") -> _Response:
    if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
        answer = _text("405 Method Not Allowed", "This page can only be read.\n")
        return answer._replace(headers=(("Allow", "GET, HEAD"),))
    sections = {"This request": _facts(environ), "Its environ": _shown_environ(environ)}
    vary = ("Vary", "Accept")
    if "text/html" not in environ.get("HTTP_ACCEPT", ""):
        return _text("200 OK", _render_text(sections))._replace(headers=(vary,))
    # Everything on the page is in the page, so the browser may refuse the rest.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    body = _render_html(sections).encode()
    headers = (vary, ("Content-Security-Policy", policy))
    return _Response("200 OK", "text/html; charset=utf-8", body, headers)


def _facts(environ: "WSGIEnvironment") -> dict[str, str]:
    facts = {label: str(environ[key]) for key, label in _FACTS.items() if key in environ}
    # Of a socket without TLS some servers offer no such methods, others None.
    sock: Any = environ.get("gunicorn.socket")
    if hasattr(sock, "cipher") and (cipher := sock.cipher()):
        facts["TLS"] = f"{sock.version()}, {cipher[0]}"
        facts["ALPN"] = str(sock.selected_alpn_protocol())
    return facts


def _shown_environ(environ: "WSGIEnvironment") -> dict[str, str]:
    return {name: _shown_value(environ[name]) for name in sorted(environ)}


def _shown_value(value: object) -> str:
    if isinstance(value, str):
        shown = value
    elif value is None or isinstance(value, (bool, int, float, bytes, tuple)):
        shown = repr(value)
    else:
        # A repr would give addresses in this process to whoever asks.
        shown = f"<{type(value).__module__}.{type(value).__qualname__}>"
    return shown if len(shown) <= _SHOWN_VALUE else f"{shown[:_SHOWN_VALUE]}..."


def _render_text(sections: dict[str, dict[str, str]]) -> str:
    return "\n".join(_text_lines(sections)) + "\n"


def _text_lines(sections: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "gunicorn-h2"
    for title, rows in sections.items():
        yield ""
        yield title
        width = max(map(len, rows))
        for name, value in rows.items():
            # A value with control characters must not steer the terminal.
            printable = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in value)
            yield f"  {name:<{width}}  {printable}"


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>gunicorn-h2</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }}
h1 {{ font-size: 1.5rem; }}
h2 {{ font-size: 1.1rem; margin: 1.5rem 0 .25rem; }}
dl {{ display: grid; grid-template-columns: minmax(8rem, auto) 1fr; margin: 0; }}
dt, dd {{ margin: 0; padding: .25rem .5rem .25rem 0; border-top: 1px solid #8884; }}
dt {{ font-weight: 600; overflow-wrap: anywhere; }}
dd {{ font-family: ui-monospace, monospace; font-size: .9rem; overflow-wrap: anywhere; }}
@media (max-width: 36rem) {{
  dl {{ grid-template-columns: 1fr; }}
  dd {{ border-top: 0; padding-top: 0; }}
}}
</style>
</head>
<body>
<h1>gunicorn-h2</h1>
<p>This page shows how your request reached the application. Requests to
<code>/echo</code> are answered with what they carried.</p>
{sections}</body>
</html>
"""


def _render_html(sections: dict[str, dict[str, str]]) -> str:
    parts = []
    for title, rows in sections.items():
        items = "".join(
            f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>\n"
            for name, value in rows.items()
        )
        parts.append(f"<h2>{html.escape(title)}</h2>\n<dl>\n{items}</dl>\n")
    return _PAGE.format(sections="".join(parts))


# --- /echo ------------------------------------------------------------------


def _echo(environ: "WSGIEnvironment") -> _Response:
    try:
        body = _read_body(environ)
    except _BodyTooLargeError:
        return _text("413 Content Too Large", f"The limit is {MAX_BODY} bytes.\n")
    # WSGI hands bytes over as Latin-1; URLs are UTF-8 by convention.
    path = environ.get("PATH_INFO", "").encode("latin-1").decode("utf-8", "replace")
    answer = {
        "method": environ["REQUEST_METHOD"],
        "path": path,
        "query": environ.get("QUERY_STRING", ""),
        "protocol": environ.get("SERVER_PROTOCOL", ""),
        "headers": _request_headers(environ),
        **_encoded(body),
        "body_length": len(body),
    }
    # A line for each key: indent=2 would take four for a header.
    lines = ",\n".join(f'  "{key}": {json.dumps(value)}' for key, value in answer.items())
    return _Response("200 OK", "application/json", f"{{\n{lines}\n}}\n".encode())


def _read_body(environ: "WSGIEnvironment") -> bytes:
    announced = environ.get("CONTENT_LENGTH") or "0"
    if int(announced) > MAX_BODY:
        raise _BodyTooLargeError
    stream = environ["wsgi.input"]
    body = bytearray()
    while piece := stream.read(_PIECE):
        body += piece
        if len(body) > MAX_BODY:
            raise _BodyTooLargeError
    return bytes(body)


def _request_headers(environ: "WSGIEnvironment") -> list[list[str]]:
    headers = []
    for name, value in environ.items():
        if name in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            headers.append([name, value])
        elif name.startswith("HTTP_"):
            headers.append([name.removeprefix("HTTP_"), value])
    return sorted([name.replace("_", "-").title(), value] for name, value in headers)


def _encoded(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode("utf-8"), "body_is_base64": False}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode("ascii"), "body_is_base64": True}


# --- both -------------------------------------------------------------------


def _text(status: str, text: str) -> _Response:
    return _Response(status, "text/plain; charset=utf-8", text.encode())


_PAGES: dict[str, Callable[["WSGIEnvironment"], _Response]] = {"/": _front_page, "/echo": _echo}
