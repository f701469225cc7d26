"""h2, set up for one connection of ours, with what goes in and out of it kept in order.

Pure, called on the loop thread. h2 keeps the state machines and the windows (RFC
9113 sections 5 and 6). In here is what makes it fit: what it is told of our
SETTINGS, a decoder that leaves header fields to us, bounds on what it remembers,
the frames of responses written at once where h2 would build objects of them, and
the one place where its exceptions become ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, SettingsAcknowledged
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from h2.stream import StreamInputs
from hyperframe.frame import SettingsFrame

from .compression import FieldDecoder, FieldEncoder
from .frames import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEADER_LENGTH,
    HEADERS,
    ConnectionFault,
    frame_header,
)
from .settings import Settings as WorkerSettings
from .stream import Field

#: Fields are checked by `fields`, and made by Gunicorn's rules.
_CONFIGURATION = H2Configuration(
    client_side=False,
    header_encoding=None,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)
_GOAWAY_LENGTH = HEADER_LENGTH + 8
_RST_STREAM_LENGTH = HEADER_LENGTH + 4
#: Flags of frames, in h2's words.
_ENDS = frozenset(("END_STREAM",))
_GOES_ON: frozenset[str] = frozenset()


class _HeadersFrame(NamedTuple):
    """What h2 looks at in a HEADERS frame."""

    stream_id: int
    data: bytes
    flags: frozenset[str]

    def __repr__(self) -> str:
        # h2 asks for it with every frame, for a log that is off.
        return "HEADERS"


class _DataFrame(NamedTuple):
    """What h2 looks at in a DATA frame. It does not get what is in it."""

    stream_id: int
    flow_controlled_length: int
    flags: frozenset[str]
    data: bytes = b""

    def __repr__(self) -> str:
        return "DATA"


class _WindowUpdateFrame(NamedTuple):
    """What h2 looks at in a WINDOW_UPDATE frame."""

    stream_id: int
    window_increment: int

    def __repr__(self) -> str:
        return "WINDOW_UPDATE"


class Engine(H2Connection):
    """The server's side of one connection, in h2's eyes. Owned by L.

    Bytes go in by `feed`, `write` and h2's own methods; they come out by `take`.
    """

    #: Closed streams to remember; h2's own number would let a peer hold megabytes.
    MAX_CLOSED_STREAMS = 1_000

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(_CONFIGURATION)
        self.encoder = FieldEncoder()
        self.fields = FieldDecoder()
        self.decoder = self.fields
        dispatch: dict[Any, Any] = self._frame_dispatch_table
        dispatch[_HeadersFrame] = self._receive_headers_frame
        dispatch[_DataFrame] = self._receive_data_frame
        dispatch[_WindowUpdateFrame] = self._receive_window_update_frame
        self._greet(settings)

    def _greet(self, settings: WorkerSettings) -> None:
        """Queue our SETTINGS.

        The frame is our own so that h2 does not hold the peer to limits which the
        peer cannot know before it has ACKed them, and answers a stream beyond
        MAX_CONCURRENT_STREAMS with nothing: refusing it is not for h2 to do.
        """
        window = settings.initial_window_size
        self.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_FRAME_SIZE: settings.max_frame_size,
                SettingCodes.INITIAL_WINDOW_SIZE: max(window, DEFAULT_WINDOW),
            },
        )
        self.max_inbound_frame_size = settings.max_frame_size
        self.initiate_connection()
        self.clear_outbound_data_buffer()
        self.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
        frame = SettingsFrame(
            0,
            settings={
                SettingCodes.MAX_CONCURRENT_STREAMS: settings.max_concurrent_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.MAX_FRAME_SIZE: settings.max_frame_size,
                SettingCodes.MAX_HEADER_LIST_SIZE: settings.max_header_list_size,
            },
        )
        self.write(frame.serialize())

    # -- in ---------------------------------------------------------------------

    def feed(self, raw: bytes) -> list[Event]:
        """Show bytes to h2.

        :raises ConnectionFault: h2 complains; it is of no use from here on.
        """
        try:
            return self.receive_data(raw)
        except ProtocolError as error:
            # The last that h2 has queued is a GOAWAY. Ours will say the same, but
            # counts the streams as we see them.
            del self._data_to_send[-_GOAWAY_LENGTH:]
            raise ConnectionFault(error.error_code, type(error).__name__) from error

    def feed_headers(self, stream_id: int, block: bytes, ends: bool) -> list[Event]:
        """Show h2 a whole header block; `fields` has what was in it."""
        return self._feed_frame(_HeadersFrame(stream_id, block, _ENDS if ends else _GOES_ON))

    def feed_data(self, stream_id: int, length: int, ends: bool) -> list[Event]:
        """Show h2 a DATA frame of ``length`` flow-controlled bytes."""
        return self._feed_frame(_DataFrame(stream_id, length, _ENDS if ends else _GOES_ON))

    def feed_window_update(self, stream_id: int, increment: int) -> list[Event]:
        """Show h2 a WINDOW_UPDATE frame of 1 to 2^31 - 1 bytes."""
        return self._feed_frame(_WindowUpdateFrame(stream_id, increment))

    def _feed_frame(self, frame: Any) -> list[Event]:
        """Have h2 act upon a frame as it is, where `feed` would parse it and make a text of it.

        These three are most of what there is to do, and the text alone, made of each frame for
        a log that is off, would be half of the time that 16 KB of DATA take.
        """
        try:
            return self._receive_frame(frame)
        except ProtocolError as error:
            raise ConnectionFault(error.error_code, type(error).__name__) from error

    def take_back_reset(self) -> None:
        """Hold back the RST_STREAM that h2 has just answered a frame with."""
        del self._data_to_send[-_RST_STREAM_LENGTH:]

    def feed_settings(self, raw: bytes, smallest_table_size: int | None) -> list[Event]:
        """Show h2 a SETTINGS frame, and mend what hpack makes of a table size in it.

        ``raw`` has the last of the sizes only, where there are several.
        """
        if smallest_table_size is not None:
            self.encoder.header_table_size = min(
                smallest_table_size, self.encoder.header_table_size
            )
        events = self.feed(raw)
        changes = self.encoder.table_size_changes
        if changes:
            # RFC 7541 section 4.2: the next header block tells the smallest and the
            # last. hpack would tell all of them, or none where the last was no change.
            self.encoder.header_table.resized = True
            if len(changes) > 1:
                changes[:] = [min(changes), changes[-1]]
        if any(isinstance(event, SettingsAcknowledged) for event in events):
            self._give_credit_back()
        return events

    def _give_credit_back(self) -> None:
        """Our SETTINGS hold now: give back what is due under the windows they made smaller.

        h2 looks at that when a stream's data is acknowledged, but where all of it
        was before, and the peer may send no more, there is no next time.
        """
        for stream in self.streams.values():
            for frame in stream.acknowledge_received_data(0):
                self.write(frame.serialize())

    def grow_connection_window(self, count: int) -> None:
        """Let ``count`` bytes more be under way, whatever of the window is in use now.

        h2 takes what is open afterwards for all that there may be, and would keep the rest.
        """
        manager = self._inbound_flow_control_window_manager
        whole = manager.max_window_size + count
        self.increment_flow_control_window(count)
        manager.max_window_size = whole

    def allow_empty_data(self, stream_id: int) -> None:
        """Prepare for DATA without data, which needs no window (RFC 9113 section 6.9.1).

        h2 minds it where our SETTINGS made the window smaller than what had been sent.
        """
        window = self.remote_flow_control_window(stream_id)
        if window < 0:
            self.increment_flow_control_window(-window, stream_id)

    @property
    def open_inbound_streams(self) -> int:
        """None: how many there may be is not for h2 to say, which would count them for each."""
        return 0

    def forget(self, stream_id: int) -> None:
        """Remember no more of a stream, once it is closed, than how that came about."""
        stream = self.streams.get(stream_id)
        if stream is not None and stream.closed:
            del self.streams[stream_id]
            self._closed_streams[stream_id] = stream.closed_by

    def has_ended(self, stream_id: int) -> bool:
        """Whether both sides have ended or reset the stream, or it never was."""
        stream = self.streams.get(stream_id)
        return stream is None or stream.closed

    def release(self) -> None:
        """Let go of everything; nothing may be called after this.

        h2 keeps bound methods of its own: a cycle, which would stay with all that
        hangs on it until the garbage collector looks at what has lived long.
        """
        vars(self).clear()

    # -- out --------------------------------------------------------------------

    def write_fields(
        self, stream_id: int, fields: list[Field], *, informational: bool = False, ends: bool
    ) -> None:
        """Send a header block: 1xx, a response's head, or its trailers, which end the stream."""
        state_machine = self.streams[stream_id].state_machine
        state_machine.process_input(
            StreamInputs.SEND_INFORMATIONAL_HEADERS if informational else StreamInputs.SEND_HEADERS
        )
        if ends:
            state_machine.process_input(StreamInputs.SEND_END_STREAM)
        block = self.encoder.encode(fields)
        frame_type, flags = HEADERS, END_STREAM if ends else 0
        size = self.max_outbound_frame_size
        while len(block) > size:
            self.write(frame_header(size, frame_type, flags, stream_id) + block[:size])
            block = block[size:]
            frame_type, flags = CONTINUATION, 0
        flags |= END_HEADERS
        self.write(frame_header(len(block), frame_type, flags, stream_id) + block)

    def write_data(self, stream_id: int, data: bytes | memoryview, *, ends: bool) -> None:
        """Send DATA, no more than windows and frame size allow (the caller has asked)."""
        stream = self.streams[stream_id]
        stream.state_machine.process_input(StreamInputs.SEND_DATA)
        if ends:
            stream.state_machine.process_input(StreamInputs.SEND_END_STREAM)
        size = len(data)
        stream.outbound_flow_control_window -= size
        self.outbound_flow_control_window -= size
        self.write(frame_header(size, DATA, END_STREAM if ends else 0, stream_id))
        self.write(data)

    def write(self, data: bytes | memoryview) -> None:
        """Queue bytes of frames, after those of h2."""
        self._data_to_send += data

    def take(self) -> bytearray:
        """All that is to be sent."""
        taken, self._data_to_send = self._data_to_send, bytearray()
        return taken
