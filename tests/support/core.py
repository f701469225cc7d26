"""A `Connection` driven without a socket: the tests' raw-frame client, wired straight to it.

    peer = CorePeer().greet()
    peer.headers(1)
    peer.respond(1, b"Hello, world!")
    peer.want(HeadersFrame, 1)
    peer.want(DataFrame, 1, data=b"Hello, world!")
    peer.want_idle()

What is written is received at once, what is read is asked of `bytes_to_send`; when
it has nothing, the client learns so without waiting. The clock stands still
unless a test moves it.
"""

from __future__ import annotations

import socket
from typing import cast

from hyperframe.frame import Frame

from gunicorn_h2.connection import Connection
from gunicorn_h2.fields import RequestHead
from gunicorn_h2.settings import Settings
from gunicorn_h2.stream import Field, Stream

from .frames import RawClient
from .server import Server
from .wire import DEFAULT_FRAME_SIZE, SettingsValues

#: Room enough for everything.
UNLIMITED = 1 << 40

#: What `Recorder.events` holds: what happened, on which stream, and the details.
Event = tuple[object, ...]


class Recorder:
    """A `Handler` that remembers what it was told, and answers nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.heads: dict[int, RequestHead] = {}
        self.streams: dict[int, Stream] = {}
        self.bodies: dict[int, bytes] = {}
        #: Flow-controlled bytes that the application owes, by stream.
        self.owed: dict[int, int] = {}
        self.sent: dict[int, int] = {}

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        assert stream.id not in self.streams, "started twice"
        self.heads[stream.id] = head
        self.streams[stream.id] = stream
        self.bodies[stream.id] = b""
        self.owed[stream.id] = 0
        self.sent[stream.id] = 0
        self.events.append(("started", stream.id))

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        self.bodies[stream.id] += data
        self.owed[stream.id] += credit
        self.events.append(("body", stream.id, data))

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        self.events.append(("ended", stream.id, trailers))

    def stream_aborted(self, stream: Stream) -> None:
        self.events.append(("aborted", stream.id))

    def bytes_sent(self, stream: Stream, count: int) -> None:
        self.sent[stream.id] += count

    def ping_acknowledged(self, data: bytes) -> None:
        self.events.append(("pong", data))


class _CoreSocket:
    """As much of a socket as `RawClient` uses, with a `Connection` behind it."""

    def __init__(self, peer: CorePeer) -> None:
        self._peer = peer

    def settimeout(self, timeout: float) -> None:
        """Nothing here ever waits."""

    def sendall(self, data: bytes) -> None:
        self._peer.connection.receive(data, self._peer.now)

    def recv(self, _: int) -> bytes:
        peer = self._peer
        sent = peer.connection.bytes_to_send(peer.room, peer.now)
        if not sent and not peer.connection.failed:
            raise TimeoutError
        return sent

    def close(self) -> None:
        """Nothing to close."""


class _Cleartext:
    """As much of a `Server` as `RawClient` looks at when it is given a socket."""

    tls = False


class CorePeer(RawClient):
    """The raw-frame client at the one end, a `Connection` and an application at the other.

    :param settings: those of `Settings` that are not to have their defaults.
    """

    def __init__(self, **settings: float) -> None:
        self.now = 0.0
        #: What the transport takes at each turn, in bytes.
        self.room = UNLIMITED
        self.handler = Recorder()
        self.connection = Connection(
            Settings(**settings),  # type: ignore[arg-type]
            self.handler,
            self.now,
        )
        super().__init__(cast(Server, _Cleartext()), sock=cast(socket.socket, _CoreSocket(self)))

    def greet(self, settings: SettingsValues = (), *, ack: bool = True) -> CorePeer:
        super().greet(settings, ack=ack)
        return self

    # -- the application's end ------------------------------------------------

    def take_events(self) -> list[Event]:
        """What the handler was told since this was last asked for."""
        events, self.handler.events = self.handler.events, []
        return events

    def told(self, stream_id: int) -> list[object]:
        """Like `take_events`, of one stream and without details."""
        return [event[0] for event in self.take_events() if event[1] == stream_id]

    def stream(self, stream_id: int) -> Stream:
        """The stream of a request that was started, open or not."""
        return self.handler.streams[stream_id]

    def respond(
        self,
        stream_id: int,
        *parts: bytes,
        fields: tuple[Field, ...] = (),
        trailers: tuple[Field, ...] = (),
        end: bool = True,
    ) -> None:
        """Queue a response: its head, the parts of its body and, unless told not to, its end."""
        stream = self.stream(stream_id)
        responses = self.connection.responses
        responses.add_head(stream, [(b":status", b"200"), *fields])
        for part in parts:
            responses.add_data(stream, [part], self.now)
        if end:
            responses.end(stream, list(trailers))

    def read_body(self, stream_id: int, *, waits: bool = False) -> bytes:
        """Read, as the application, all of the body that is there, and wait for more or not."""
        stream = self.stream(stream_id)
        handler = self.handler
        body, handler.bodies[stream_id] = handler.bodies[stream_id], b""
        owed, handler.owed[stream_id] = handler.owed[stream_id], 0
        self.connection.credit(stream, owed)
        if waits:
            self.connection.application_waits(stream, self.now)
        return body

    # -- the peer's end -----------------------------------------------------------

    def turn(self, room: int = UNLIMITED) -> list[Frame]:
        """Return what one `bytes_to_send` gives, and what had been left unread."""
        self._buffer += self.connection.bytes_to_send(room, self.now)
        frames = []
        while self._buffer or self._inbox:
            frames.append(self.read_frame())
        return frames

    def want_fault(self, error_code: int) -> None:
        """See the connection end with GOAWAY(``error_code``), and nothing after it."""
        self.want_goaway(error_code)
        assert self.connection.failed
        assert self.connection.bytes_to_send(self.room, self.now) == b""

    def is_well(self, stream_id: int = 1_001) -> None:
        """See that the connection lives, by another request on it."""
        self.take_events()
        self.headers(stream_id)
        assert self.take_events() == [("started", stream_id), ("ended", stream_id, [])]
        self.respond(stream_id, b"well")
        assert self.response(stream_id).body == b"well"

    def send_body(self, stream_id: int, size: int) -> None:
        """Send so much of a body, in frames that are not too large."""
        while size:
            part = min(size, DEFAULT_FRAME_SIZE)
            self.data(stream_id, bytes(part))
            size -= part


def greeted_peer(settings: SettingsValues = (), **limits: float) -> CorePeer:
    """A peer for which the greetings are over, and read.

    :param settings: the peer's own.
    """
    peer = CorePeer(**limits).greet(settings)
    peer.turn()
    return peer
