"""A WSGI application that answers with the facts of its environ and of `gunicorn.socket`.

It runs under Gunicorn's own workers too, so that their facts can be compared with ours.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: What `gunicorn.socket` is asked, besides its addresses.
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "family": lambda sock: int(sock.family),
    "getpeername": lambda sock: sock.getpeername(),
    "getsockname": lambda sock: sock.getsockname(),
    "getpeercert": lambda sock: sock.getpeercert(),
    "getpeercert(False)": lambda sock: sock.getpeercert(False),
    "getpeercert(True)": lambda sock: _pem(sock.getpeercert(True)),
    "getpeercert(binary_form=True)": lambda sock: _pem(sock.getpeercert(binary_form=True)),
    "cipher": lambda sock: sock.cipher(),
    "version": lambda sock: sock.version(),
    "selected_alpn_protocol": lambda sock: sock.selected_alpn_protocol(),
}
#: What must not be possible.
FORBIDDEN: dict[str, Callable[[Any], Any]] = {
    "recv": lambda sock: sock.recv(1),
    "send": lambda sock: sock.send(b"HTTP/1.1 200 OK\r\n\r\n"),
    "sendall": lambda sock: sock.sendall(b"x"),
    "fileno": lambda sock: sock.fileno(),
}


def _pem(certificate: bytes | None) -> str | None:
    return ssl.DER_cert_to_PEM_cert(certificate) if certificate else None


def _try(question: Callable[[Any], Any], sock: Any) -> Any:
    try:
        return question(sock)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
    sock = environ["gunicorn.socket"]
    plain = (str, int, bool, tuple, type(None))
    answer = {
        "environ": {key: value for key, value in environ.items() if isinstance(value, plain)},
        "socket": {name: _try(question, sock) for name, question in QUESTIONS.items()},
    }
    if environ["PATH_INFO"] == "/forbidden":
        answer["forbidden"] = {name: _try(action, sock) for name, action in FORBIDDEN.items()}
    body = json.dumps(answer).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
