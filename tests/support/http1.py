"""An HTTP/1.1 client that sends any bytes and reads one response after the other."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType

from .server import Address, Server

#: Seconds to wait for one thing; generous, as only failures ever wait so long.
TIMEOUT = 15.0


@dataclass
class Http1Response:
    """One response, its body unframed."""

    status: int
    head: bytes
    body: bytes = b""
    trailers: bytes = b""
    #: The heads of the 1xx responses that came before.
    interim: list[bytes] = field(default_factory=list)

    def headers(self, name: str) -> list[str]:
        """Return the values of a header, in order."""
        lines = (line.partition(b":") for line in self.head.split(b"\r\n")[1:])
        wanted = name.lower().encode()
        return [value.strip().decode("latin-1") for key, _, value in lines if key.lower() == wanted]

    def header(self, name: str) -> str | None:
        """Return the value of a header that is there at most once."""
        values = self.headers(name)
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


class Http1Client:
    """One connection.

    :param address: one of `server.addresses`, by default the first.
    :param context: for TLS; by default it trusts the server and offers http/1.1.
    """

    def __init__(
        self,
        server: Server,
        *,
        address: Address | None = None,
        context: ssl.SSLContext | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self.sock = server.connect(address, timeout)
        if server.tls:
            assert server.certs is not None
            context = context or server.certs.client_context(["http/1.1"])
            try:
                self.sock = context.wrap_socket(self.sock, server_hostname="localhost")
            except BaseException:
                self.sock.close()
                raise
        self._file = self.sock.makefile("rb")

    def __enter__(self) -> Http1Client:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def half_close(self) -> None:
        """Send the end of our bytes; the server may still answer."""
        self.sock.shutdown(socket.SHUT_WR)

    def get(self, path: str = "/hello", *lines: str) -> Http1Response:
        """Make one GET request, with further header lines."""
        self.send(request(path, *lines))
        return self.response()

    def response(self, method: str = "GET") -> Http1Response:
        """Return the next final response, and the 1xx that came before it."""
        interim = []
        while True:
            head = self._read_head()
            status = int(head.split(b" ", 2)[1])
            if status >= 200:
                break
            interim.append(head)
        response = Http1Response(status, head, interim=interim)
        if method == "HEAD" or status in (204, 304):
            return response
        length = response.header("content-length")
        if response.header("transfer-encoding") == "chunked":
            self._read_chunks(response)
        elif length is not None:
            response.body = self._read_exactly(int(length))
        else:
            response.body = self._file.read()
        return response

    def interim(self) -> bytes:
        """Return the next head, without waiting for more."""
        return self._read_head()

    def read_to_end(self) -> bytes:
        """Return whatever comes until the server closes, politely or not."""
        received = b""
        try:
            while data := self._file.read1(1 << 16):
                received += data
        except ConnectionResetError:
            pass  # the bytes that came before it count
        return received

    def _read_head(self) -> bytes:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self._file.readline()
            if not line:
                raise EOFError(f"closed after {head!r}")
            head += line
        return head

    def _read_exactly(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise EOFError(f"closed after {len(data)} of {size} bytes")
        return data

    def _read_chunks(self, response: Http1Response) -> None:
        body = []
        while size := int(self._file.readline(), 16):
            body.append(self._read_exactly(size))
            assert self._read_exactly(2) == b"\r\n"
        response.body = b"".join(body)
        while (line := self._file.readline()) != b"\r\n":
            assert line, "closed in the trailers"
            response.trailers += line


def request(path: str = "/hello", *lines: str, method: str = "GET") -> bytes:
    """Return a request without a body."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1")


def post(path: str, body: bytes, *lines: str) -> bytes:
    """Return a request with a body of that length."""
    return request(path, f"Content-Length: {len(body)}", *lines, method="POST") + body


def chunked(path: str, *chunks: bytes, trailers: bytes = b"") -> bytes:
    """Return a request with a chunked body."""
    framed = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
    head = request(path, "Transfer-Encoding: chunked", method="POST")
    return head + b"".join(framed) + b"0\r\n" + trailers + b"\r\n"
