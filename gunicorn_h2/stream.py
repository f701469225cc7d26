"""The record of one HTTP/2 exchange: what arrived, what is still to be sent.

Pure, owned by the loop thread. It is bookkeeping only: which frames are legal
in which state is h2's knowledge (RFC 9113 section 5.1) and is not repeated
here.
"""

from __future__ import annotations

from collections import deque
from typing import Any

#: RFC 9218 section 4.1: the urgency of a request that names none.
DEFAULT_URGENCY = 3

Field = tuple[bytes, bytes]


class Stream:
    """One request and its response on an HTTP/2 connection.

    Every field is owned by L, the loop thread.
    """

    __slots__ = (
        "body_ended",
        "completed_at",
        "content_length",
        "discards_body",
        "exchange",
        "failed",
        "growth",
        "head",
        "head_sent",
        "id",
        "incremental",
        "informational",
        "last_progress",
        "outbox",
        "queued",
        "ready",
        "received",
        "response_ended",
        "trailers",
        "uncredited",
        "urgency",
        "window_whole_since",
    )

    def __init__(self, stream_id: int, content_length: int | None, now: float) -> None:
        self.id = stream_id
        #: Whatever the layer above ties to this stream; never looked into here.
        self.exchange: Any = None

        # Inbound.
        #: What Content-Length promised, in bytes; None where it was absent.
        self.content_length = content_length
        #: Body bytes received so far, without padding.
        self.received = 0
        #: Flow-controlled bytes received and not given back to the peer yet.
        self.uncredited = 0
        #: Bytes by which the window it is received in has grown.
        self.growth = 0
        #: When all of that window was last known to be open while the application waited.
        self.window_whole_since = now
        #: Nobody will read the body any more: its bytes are given back at once.
        self.discards_body = False
        #: END_STREAM was received.
        self.body_ended = False

        # Outbound.
        #: Informational responses (1xx) still to be sent, before `head`.
        self.informational: list[list[Field]] = []
        #: The response's fields, `:status` first, until they are on the wire.
        self.head: list[Field] | None = None
        self.head_sent = False
        #: Body parts not sent yet, and their total length in bytes.
        self.outbox: deque[bytes | memoryview] = deque()
        self.queued = 0
        #: The application has ended its response: nothing follows `outbox`.
        self.response_ended = False
        #: The response is cut short: after `outbox` comes RST_STREAM, not END_STREAM.
        self.failed = False
        #: Fields that follow the body; with them the stream ends.
        self.trailers: list[Field] = []
        #: When the response was complete, while the body of the request still comes.
        self.completed_at: float | None = None
        #: When a byte of the response last left, for the write timeout.
        self.last_progress = now

        # Scheduling (RFC 9218).
        self.urgency = DEFAULT_URGENCY
        #: True also where the client gave no priority at all: a client that
        #: does not know RFC 9218 expects its responses to share the way.
        self.incremental = True
        #: Whether the stream stands in the scheduler's ring.
        self.ready = False

    @property
    def has_output(self) -> bool:
        """Whether there is anything to send, apart from what windows allow."""
        if self.completed_at is not None:
            return False
        return bool(
            self.informational or self.head is not None or self.queued or self.response_ended
        )
