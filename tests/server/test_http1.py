"""HTTP/1.1 over the worker: connections, bodies, and no thread for who is slow."""

from __future__ import annotations

import hashlib
import json
import select
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.conftest import Serve
from tests.support.apps import BLOCK, HELLO, repeated
from tests.support.http1 import Http1Client, chunked, post, request
from tests.support.server import Server

#: An application for what the common one does not do.
APP = '''
import json, time

def app(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/")](environ, start_response)

def one_block(environ, start_response):
    """A response whose only part is larger than any buffer."""
    start_response("200 OK", [("Content-Length", str(8 << 20))])
    return [b"x" * (8 << 20)]

def sized(environ, start_response):
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(size))])
    for start in range(0, size, 16384):
        yield b"x" * min(16384, size - start)

def read_late(environ, start_response):
    """Begins to answer, reads a while later."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"begun ")
    yield environ["wsgi.input"].read()

def lazy(environ, start_response):
    """Never reads."""
    start_response("200 OK", [("Content-Length", "4")])
    return [b"lazy"]

def trailers(environ, start_response):
    environ["wsgi.input"].read()
    body = json.dumps(getattr(environ["wsgi.input"], "trailers", None)).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

def early(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
'''


@pytest.fixture(scope="module")
def app_args(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("http1_app")
    (directory / "http1_app.py").write_text(APP)
    return ["--pythonpath", str(directory)]


@pytest.fixture(scope="module", params=[False, True], ids=["cleartext", "tls"])
def server(request: pytest.FixtureRequest, module_serve: Serve) -> Server:
    return module_serve(tls=request.param, args=["--keep-alive", "30"])


@pytest.fixture
def client(server: Server) -> Iterator[Http1Client]:
    with Http1Client(server) as connected:
        yield connected


@pytest.fixture(scope="module")
def own_app(module_serve: Serve, app_args: list[str]) -> Server:
    return module_serve("http1_app:app", args=[*app_args, "--keep-alive", "2"])


# -- connections -------------------------------------------------------------------


def test_keep_alive(client: Http1Client) -> None:
    for _ in range(3):
        answer = client.get("/hello")
        assert (answer.status, answer.body) == (200, HELLO)
        assert answer.header("connection") == "keep-alive"
    assert client.get("/hello", "Connection: close").header("connection") == "close"
    assert client.read_to_end() == b""


def test_environ_says_http_1_1(client: Http1Client) -> None:
    environ = json.loads(client.get("/environ").body)
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.multithread"] is True
    assert "gunicorn_h2.stream_id" not in environ


def test_pipelined_requests_are_answered_in_order(client: Http1Client) -> None:
    client.send(
        request("/sleep?s=0.1")
        + post("/echo", b"body")
        + chunked("/echo", b"chu", b"nked")
        + request("/status?code=404")
    )
    answers = [client.response() for _ in range(4)]
    assert [answer.body for answer in answers] == [b"slept", b"body", b"chunked", b"404 Not Found"]


def test_a_hundred_pipelined_requests(client: Http1Client) -> None:
    client.send(b"".join(post("/echo", b"%d" % number) for number in range(100)))
    assert [client.response().body for _ in range(100)] == [b"%d" % each for each in range(100)]


def test_a_request_that_comes_while_another_runs(client: Http1Client) -> None:
    client.send(request("/sleep?s=0.6"))
    time.sleep(0.3)  # correct at any speed, but only of use when the first one runs
    client.send(post("/echo", b"next"))
    assert [client.response().body for _ in range(2)] == [b"slept", b"next"]


def test_pipelined_behind_an_unread_body(own_app: Server) -> None:
    with Http1Client(own_app) as client:
        client.send(post("/lazy", b"x" * 30_000) + request("/lazy"))
        assert [client.response().body for _ in range(2)] == [b"lazy", b"lazy"]


def test_an_unread_body_too_large_to_skip_closes(own_app: Server) -> None:
    with Http1Client(own_app) as client:
        client.send(post("/lazy", b"x" * 200_000) + request("/lazy"))
        assert client.response().body == b"lazy"
        assert client.read_to_end() == b""


def test_http_1_0(client: Http1Client) -> None:
    client.send(b"GET /stream HTTP/1.0\r\n\r\n")
    answer = client.response()
    assert answer.head.startswith(b"HTTP/1.0 200 OK")
    assert (answer.header("transfer-encoding"), answer.body) == (None, b"aaaaabbbbbccccc")


def test_http_1_0_keep_alive(client: Http1Client) -> None:
    for _ in range(2):
        client.send(b"GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.response().header("connection") == "keep-alive"


def test_half_close_still_gets_its_answer(module_serve: Serve) -> None:
    server = module_serve()
    with Http1Client(server) as client:
        client.send(request("/sleep?s=0.3"))
        client.half_close()
        assert client.response().body == b"slept"
        assert client.read_to_end() == b""
    with Http1Client(server) as client:
        client.send(request("/hello") * 3)
        client.half_close()
        assert [client.response().body for _ in range(3)] == [HELLO] * 3
        assert client.read_to_end() == b""


def test_half_close_in_the_middle_of_a_body(server: Server) -> None:
    with Http1Client(server) as client:
        client.send(request("/echo", "Content-Length: 10", method="POST") + b"half")
        if server.tls:
            client.sock.close()
        else:
            client.half_close()
            client.read_to_end()
    with Http1Client(server) as client:
        assert client.get().status == 200


def test_a_head_that_comes_byte_by_byte(client: Http1Client) -> None:
    for byte in post("/echo", b"slow"):
        client.send(bytes([byte]))
    assert client.response().body == b"slow"
    for byte in chunked("/echo", b"slow", b"er"):
        client.send(bytes([byte]))
    assert client.response().body == b"slower"


def test_head_has_no_body(client: Http1Client) -> None:
    for path in ("/hello", "/stream", "/large?n=200000&cl=1", "/file?n=1000&cl=1"):
        client.send(request(path, method="HEAD"))
        assert client.response("HEAD").status == 200
    assert client.get().body == HELLO


def test_statuses_without_a_body(client: Http1Client) -> None:
    for code in (204, 304):
        assert client.get(f"/status?code={code}").status == code
    assert client.get().body == HELLO


# -- bodies -------------------------------------------------------------------------


def test_chunked_both_ways(client: Http1Client) -> None:
    client.send(chunked("/read", *[BLOCK] * 5))
    counted = json.loads(client.response().body)
    assert counted["sha256"] == hashlib.sha256(BLOCK * 5).hexdigest()
    answer = client.get("/stream?n=3&size=5")
    assert answer.header("transfer-encoding") == "chunked"
    assert answer.body == b"aaaaabbbbbccccc"


def test_trailers_do_not_disturb(client: Http1Client) -> None:
    client.send(chunked("/echo", b"body", trailers=b"X-Sum: 1\r\nX-More: 2\r\n"))
    assert client.response().body == b"body"
    assert client.get().body == HELLO


def test_large_download(client: Http1Client) -> None:
    size = 30_000_000
    expected = hashlib.sha256(b"".join(repeated(size))).hexdigest()
    for path in (f"/large?n={size}", f"/large?n={size}&cl=1", f"/file?n={size}&cl=1"):
        assert hashlib.sha256(client.get(path).body).hexdigest() == expected


def test_large_upload(client: Http1Client) -> None:
    body = b"".join(repeated(30_000_000))
    client.send(post("/read?size=100000", body))
    counted = json.loads(client.response().body)
    assert (counted["count"], counted["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())


def test_one_part_larger_than_every_buffer(own_app: Server) -> None:
    """The peer does not read before all of it was written: it is slow, not hostile."""
    with Http1Client(own_app) as client:
        client.send(request("/one_block"))
        assert select.select([client.sock], [], [], 10)[0]
        time.sleep(1)  # the peer's pace, not a synchronisation
        assert len(client.response().body) == 8 << 20
        assert client.get("/lazy").body == b"lazy"


def test_a_slow_reader_gets_the_end_of_its_response(
    module_serve: Serve, app_args: list[str]
) -> None:
    """The keep-alive time begins when the response has gone, not when it was written.

    How much the kernel holds is unknown: of these sizes one leaves its thread
    with a rest that the peer has still to make room for.
    """
    args = [*app_args, "--keep-alive", "1"]
    server = module_serve("http1_app:app", bind="unix:", threads=20, args=args)
    sizes = range(100_000, 1_060_000, 48_000)
    clients = [Http1Client(server) for _ in sizes]
    try:
        for client, size in zip(clients, sizes, strict=True):
            client.send(request(f"/sized?{size}"))
        time.sleep(3.5)  # more than the keep-alive time and the worker's tick
        assert [len(client.response().body) for client in clients] == list(sizes)
    finally:
        for client in clients:
            client.close()


def test_a_response_that_begins_before_its_body_was_read(own_app: Server) -> None:
    with Http1Client(own_app) as client:
        client.send(request("/read_late", "Content-Length: 4", method="POST"))
        assert client.interim().startswith(b"HTTP/1.1 200")
        time.sleep(7)  # less than h2_body_timeout, and it is this application's to wait
        client.send(b"body")
        # The head was taken already: what follows are the chunks.
        assert client._file.readline() == b"6\r\n"


def test_early_hints(own_app: Server) -> None:
    with Http1Client(own_app) as client:
        answer = client.get("/early")
        assert answer.body == b"ok"
        (hints,) = answer.interim
        assert hints.lower() == (b"http/1.1 103 early hints\r\nlink: </a.css>; rel=preload\r\n\r\n")


# -- Expect: 100-continue -----------------------------------------------------------


def test_continue_is_sent_when_the_application_reads(client: Http1Client) -> None:
    client.send(request("/echo", "Content-Length: 4", "Expect: 100-continue", method="POST"))
    assert client.interim() == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"body")
    answer = client.response()
    assert (answer.status, answer.body, answer.interim) == (200, b"body", [])


def test_no_continue_for_an_application_that_does_not_read(own_app: Server) -> None:
    with Http1Client(own_app) as client:
        client.send(request("/lazy", "Content-Length: 4", "Expect: 100-continue", method="POST"))
        answer = client.response()
        assert (answer.status, answer.interim) == (200, [])
        # Whether the body follows is unknown: the connection cannot go on.
        assert client.read_to_end() == b""


def test_no_continue_where_the_body_is_there_already(client: Http1Client) -> None:
    client.send(post("/echo", b"body", "Expect: 100-continue"))
    answer = client.response()
    assert (answer.body, answer.interim) == (b"body", [])


# -- who is slow holds no thread ------------------------------------------------------


def test_half_heads_and_idle_connections_hold_no_thread(module_serve: Serve) -> None:
    server = module_serve(threads=1)
    slow = [Http1Client(server) for _ in range(20)]
    try:
        for number, client in enumerate(slow):
            client.send(request()[: 5 * number])
        with Http1Client(server, timeout=5) as client:
            assert client.get().body == HELLO
        for number, client in enumerate(slow):
            client.send(request()[5 * number :])
        assert [client.response().body for client in slow] == [HELLO] * 20
        # They are kept alive now, and hold no thread either.
        with Http1Client(server, timeout=5) as client:
            assert client.get().body == HELLO
    finally:
        for client in slow:
            client.close()


def test_a_half_head_is_closed_at_the_header_timeout(serve: Serve) -> None:
    server = serve(env={"GUNICORN_H2_HEADER_TIMEOUT": "1", "GUNICORN_H2_HANDSHAKE_TIMEOUT": "1"})
    with Http1Client(server) as silent, Http1Client(server) as half, Http1Client(server) as slow:
        half.send(b"GET / HT")
        started = time.monotonic()
        for byte in request("/hello", "X-Slow: " + "x" * 100):
            if select.select([slow.sock], [], [], 0.1)[0]:
                break
            slow.send(bytes([byte]))
        assert slow.read_to_end() == b""
        assert time.monotonic() - started < 8, "a byte now and then must not extend the time"
        assert (half.read_to_end(), silent.read_to_end()) == (b"", b"")
    assert "[WARNING]" not in server.log()


def test_a_stalled_body_is_answered_408(serve: Serve) -> None:
    server = serve(threads=1, env={"GUNICORN_H2_BODY_TIMEOUT": "1"})
    with Http1Client(server) as client:
        client.send(request("/echo", "Content-Length: 10", method="POST") + b"half")
        assert client.response().status == 408
        assert client.read_to_end() == b""
    with Http1Client(server) as client:
        assert client.get().body == HELLO


# -- requests of many at once -----------------------------------------------------------


def test_requests_of_several_connections_overlap(module_serve: Serve) -> None:
    server = module_serve(threads=4)
    spent: list[float] = []

    def timed(work: Callable[[], object]) -> None:
        started = time.monotonic()
        work()
        spent.append(time.monotonic() - started)

    def one() -> None:
        with Http1Client(server) as client:
            assert client.get("/sleep?s=0.5").body == b"slept"

    def four() -> None:
        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    timed(one)
    timed(four)
    assert spent[1] < 2 * spent[0]
