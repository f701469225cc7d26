"""A Flask application whose routes let a client prove what the server does.

Bodies are answered with their SHA-256; a streamed body, in either direction, halts
until the client says, over another request, what it has seen of it. So a test knows
without a clock that nothing was held back. ``FLASK_APP_FILE`` names what ``/file`` sends.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator

from flask import (
    Flask,
    Response,
    abort,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

PATIENCE = 20.0
"""Seconds after which a wait for the other side gives up, so that no test hangs."""

PAGE = """\
<!DOCTYPE html>
<link rel="icon" href="data:,">
<pre id="report"></pre>
<script>
  const parts = [];
  const protocols = kind => performance.getEntriesByType(kind).map(each => each.nextHopProtocol);
  addEventListener("load", () => {
    const report = {parts, page: protocols("navigation"), resources: protocols("resource")};
    document.getElementById("report").textContent = JSON.stringify(report);
  });
</script>
SCRIPTS
"""

app = Flask(__name__)
app.secret_key = "only for tests"


class Teapot(Exception):
    """Raised by a view to be turned into an answer by an error handler."""


class Progress:
    """How far named uploads and downloads have come, for requests that wait for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._counts: dict[str, int] = {}

    def add(self, name: str, amount: int) -> None:
        with self._changed:
            self._counts[name] = self._counts.get(name, 0) + amount
            self._changed.notify_all()

    def wait(self, name: str, amount: int) -> bool:
        with self._changed:
            return self._changed.wait_for(
                lambda: self._counts.get(name, 0) >= amount, timeout=PATIENCE
            )


progress = Progress()


@app.get("/connection")
def connection() -> Response:
    return jsonify(
        scheme=request.scheme,
        protocol=request.environ["SERVER_PROTOCOL"],
        peer_port=request.environ["REMOTE_PORT"],
        process=os.getpid(),
    )


@app.get("/sleep/<float:seconds>")
def sleep(seconds: float) -> Response:
    time.sleep(seconds)
    return connection()


@app.post("/upload")
def upload() -> Response:
    file = request.files["file"]
    content = file.read()
    return jsonify(
        name=file.filename,
        type=file.content_type,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        note=request.form["note"],
    )


@app.post("/upload/pieces/<name>")
def upload_in_pieces(name: str) -> Response:
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(16 * 1024):
        digest.update(piece)
        size += len(piece)
        progress.add(name, len(piece))
    return jsonify(size=size, sha256=digest.hexdigest(), length=request.content_length)


@app.get("/progress/<name>/<int:amount>")
def wait_for_progress(name: str, amount: int) -> Response:
    return jsonify(reached=progress.wait(name, amount))


@app.post("/progress/<name>")
def report_progress(name: str) -> tuple[str, int]:
    progress.add(name, 1)
    return "", 204


@app.get("/stream/<name>")
def stream(name: str) -> Response:
    """Lines, each sent only when the client has reported the one before."""

    def lines() -> Iterator[str]:
        # request.args works here only because stream_with_context keeps the context.
        for number in range(int(request.args["lines"])):
            if not progress.wait(name, number):
                return
            yield f"line {number}\n"

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/unmeasured/<int:size>")
def unmeasured(size: int) -> Response:
    """A body without Content-Length, in uneven pieces, some of them empty."""

    def pieces() -> Iterator[bytes]:
        left, piece = size, 1
        while left > 0:
            yield b"x" * min(piece, left)
            yield b""
            left -= piece
            piece *= 3

    return Response(pieces(), mimetype="application/octet-stream")


@app.post("/login")
def login() -> BaseResponse:
    session["user"] = request.form["user"]
    response = redirect(url_for("who_am_i"), 303)
    response.set_cookie("theme", "dark", samesite="Lax")
    response.set_cookie("flavour", "plain", httponly=True)
    return response


@app.get("/whoami")
def who_am_i() -> Response:
    if "user" not in session:
        abort(401)
    return jsonify(user=session["user"], theme=request.cookies.get("theme"))


@app.post("/logout")
def logout() -> Response:
    session.clear()
    return jsonify(user=None)


@app.get("/file")
def file() -> Response:
    return send_file(
        os.environ["FLASK_APP_FILE"],
        mimetype="application/octet-stream",
        etag=True,
        conditional=True,
    )


@app.get("/page/<int:parts>")
def page(parts: int) -> str:
    """A page that says how a browser got it, and its parts, before its load event ends."""
    scripts = "".join(f'<script async src="/page/part/{part}"></script>' for part in range(parts))
    return PAGE.replace("SCRIPTS", scripts)


@app.get("/page/part/<int:part>")
def page_part(part: int) -> Response:
    padding = "/" * 50_000
    return Response(f"parts.push({part}); {padding}", mimetype="text/javascript")


@app.get("/teapot")
def teapot() -> Response:
    raise Teapot("short and stout")


@app.get("/crash")
def crash() -> Response:
    raise RuntimeError("the view failed")


@app.errorhandler(Teapot)
def on_teapot(error: Teapot) -> tuple[Response, int]:
    return jsonify(error=str(error)), 418


@app.errorhandler(404)
def on_not_found(error: Exception) -> tuple[Response, int]:
    return jsonify(error="no such page", path=request.path), 404


@app.errorhandler(500)
def on_crash(error: Exception) -> tuple[Response, int]:
    return jsonify(error="it was logged"), 500
