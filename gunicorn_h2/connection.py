"""One HTTP/2 connection: bytes in, requests out; response parts in, bytes out.

Pure, called on the loop thread; with its sending half, `responses`, the only user
of `H2Connection`. No clock, no socket, no thread may be touched in here: time is
passed in as ``now``, bytes are passed in and handed out, and what the peer did is
told to a `Handler`.

h2 keeps the state machines and the windows (RFC 9113 sections 5 and 6). What it
makes too dear or too strict is done before it sees the frame: bounds by
`guard`, field checks by `fields`, and here the frames that are better not shown
to it at all (PRIORITY, GOAWAY, unknown ones) or only in part (SETTINGS).
"""

from __future__ import annotations

from typing import Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame, SettingsFrame

from . import frames
from .fields import (
    FieldDecoder,
    MalformedFields,
    RequestHead,
    request_head,
    trailer_fields,
)
from .frames import ConnectionFault, Frame, known_settings, without_priority
from .guard import Guard
from .limits import Budget
from .responses import Responses
from .scheduler import parse_priority
from .settings import Settings as WorkerSettings
from .stream import Field, Stream

#: What h2 assumes of a peer until its SETTINGS say otherwise (RFC 9113 section 6.5.2).
_DEFAULT_WINDOW = 65_535
_MAX_STREAM_ID = 2**31 - 1


class Handler(Protocol):
    """Who is told what the peer did. Called on L, from within `Connection.receive`."""

    def request_started(self, stream: Stream, head: RequestHead) -> None:
        """A request's header block is there; its body, if any, follows."""

    def body_received(self, stream: Stream, data: bytes, credit: int) -> None:
        """``credit`` flow-controlled bytes are owed to the peer once ``data`` is read."""

    def body_ended(self, stream: Stream, trailers: list[Field]) -> None:
        """The request is complete."""

    def stream_aborted(self, stream: Stream) -> None:
        """The stream is gone: reset by the peer, or by us for the peer's fault."""

    def bytes_sent(self, stream: Stream, count: int) -> None:
        """``count`` body bytes of the response left (called from `bytes_to_send`)."""

    def ping_acknowledged(self, data: bytes) -> None:
        """The peer answered a PING of ours."""


class Connection:
    """The server's side of one HTTP/2 connection. Every field is owned by L.

    :param settings: limits and windows; see `gunicorn_h2.settings`.
    :param now: seconds, any monotonic clock, here and in every method.
    """

    def __init__(self, settings: WorkerSettings, handler: Handler, now: float) -> None:
        self._settings = settings
        self._handler = handler
        self._control = Budget(settings.max_control_frames, settings.flood_interval, now)
        self._resets = Budget(settings.max_resets, settings.flood_interval, now)
        self.guard = Guard(
            settings.max_frame_size,
            settings.max_header_list_size,
            self._control,
            Budget(settings.max_empty_data, settings.flood_interval, now),
        )
        self._decoder = FieldDecoder()
        #: Streams that are open or half-closed.
        self.streams: dict[int, Stream] = {}
        #: Ids above this one are refused: the last GOAWAY named it.
        self._last_accepted = _MAX_STREAM_ID
        self._preface_left = frames.PREFACE
        #: Frames written without h2's knowledge; they precede what h2 has queued.
        self._frames = bytearray()
        self._fault_frame = b""
        #: The connection has failed: flush `bytes_to_send`, then close.
        self.failed = False
        #: The peer has announced that it opens no further streams.
        self.peer_going_away = False
        self.settings_acknowledged = False
        self._h2 = self._start_h2()
        #: What the applications answer; the session queues it there.
        self.responses = Responses(self._h2, self._data_sent, self._complete)

    def _start_h2(self) -> H2Connection:
        """Set h2 up and queue our SETTINGS.

        The frame is our own so that h2 does not hold the peer to limits which the
        peer cannot know before it has ACKed them, and answers a stream beyond
        MAX_CONCURRENT_STREAMS with nothing: refusing it is ours to do.
        """
        configured = self._settings
        h2 = H2Connection(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        h2.decoder = self._decoder
        window = configured.initial_window_size
        h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_FRAME_SIZE: configured.max_frame_size,
                SettingCodes.INITIAL_WINDOW_SIZE: max(window, _DEFAULT_WINDOW),
            },
        )
        h2.max_inbound_frame_size = configured.max_frame_size
        h2.initiate_connection()
        h2.clear_outbound_data_buffer()
        h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
        frame = SettingsFrame(
            0,
            settings={
                SettingCodes.MAX_CONCURRENT_STREAMS: configured.max_concurrent_streams,
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.MAX_FRAME_SIZE: configured.max_frame_size,
                SettingCodes.MAX_HEADER_LIST_SIZE: configured.max_header_list_size,
            },
        )
        self._frames += frame.serialize()
        extra = configured.connection_window_size - _DEFAULT_WINDOW
        if extra > 0:
            h2.increment_flow_control_window(extra)
        return h2

    # -- what the peer sends ------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the transport and tell the handler what they mean.

        Never raises for anything a peer can send: what it breaks sets `failed`,
        and `bytes_to_send` then ends with the GOAWAY that says why.
        """
        if self.failed:
            return
        try:
            if self._preface_left:
                data = self._receive_preface(data)
            for frame in self.guard.frames(data, now):
                self._receive_frame(frame, now)
        except ConnectionFault as fault:
            self.fail(fault.code)

    def fail(self, code: ErrorCodes) -> None:
        """End the connection with GOAWAY(``code``) for a fault of the peer."""
        if not self.failed:
            self.failed = True
            self._fault_frame = self._goaway_frame(self._h2.highest_inbound_stream_id, code)

    def _receive_preface(self, data: bytes) -> bytes:
        left = self._preface_left
        part = data[: len(left)]
        if not left.startswith(part):
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "not the HTTP/2 preface")
        self._preface_left = left[len(part) :]
        self._feed(part)
        return data[len(part) :]

    def _feed(self, raw: bytes) -> list[Event]:
        """Show bytes to h2; its complaints become ours, here and nowhere else."""
        try:
            return self._h2.receive_data(raw)
        except ProtocolError as error:
            # h2 has queued a GOAWAY of its own; ours, queued by fail(), says the
            # same and counts the streams as we see them.
            self._h2.clear_outbound_data_buffer()
            raise ConnectionFault(error.error_code, type(error).__name__) from error

    def _receive_frame(self, frame: Frame, now: float) -> None:
        match frame.type:
            case frames.DATA:
                self._receive_data(frame, now)
            case frames.HEADERS | frames.CONTINUATION:
                self._receive_headers(frame, now)
            case frames.WINDOW_UPDATE:
                self._receive_window_update(frame, now)
            case frames.RST_STREAM:
                self._receive_reset(frame, now)
            case frames.SETTINGS:
                self._receive_settings(frame)
            case frames.PING:
                for event in self._feed(frame.raw):
                    if isinstance(event, PingAckReceived):
                        self._handler.ping_acknowledged(event.ping_data or b"")
            case frames.PRIORITY:
                self._receive_priority(frame, now)
            case frames.PRIORITY_UPDATE:
                self._receive_priority_update(frame)
            case frames.GOAWAY:
                self._receive_goaway(frame)
            case _:
                # RFC 9113 section 5.5: frames of unknown types are discarded.
                pass

    def _receive_headers(self, frame: Frame, now: float) -> None:
        raw = frame.raw
        if frame.type == frames.HEADERS and frame.flags & frames.PRIORITY_FLAG:
            raw = without_priority(frame)
        events = self._feed(raw)
        if not frame.flags & frames.END_HEADERS:
            return
        fields = self._decoder.take()
        ended = any(isinstance(event, StreamEnded) for event in events)
        for event in events:
            if isinstance(event, RequestReceived):
                self._start_request(frame.stream_id, fields, ended, now)
            elif isinstance(event, TrailersReceived):
                self._end_with_trailers(frame.stream_id, fields, now)
            elif isinstance(event, StreamReset):
                self._reset_by_h2(event, now)

    def _start_request(
        self, stream_id: int, fields: list[Field], ended: bool, now: float
    ) -> None:
        settings = self._settings
        if (
            stream_id > self._last_accepted
            or len(self.streams) >= settings.max_concurrent_streams
        ):
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            self._charge_reset(now)
            return
        try:
            head = request_head(fields, settings.max_header_list_size, settings.max_header_fields)
            if ended and head.content_length:
                raise MalformedFields("content-length without a body")
        except MalformedFields:
            self._h2.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
            self._charge_reset(now)
            return
        stream = Stream(stream_id, head.content_length, now)
        if head.priority:
            stream.urgency, stream.incremental = parse_priority(head.priority)
        self.streams[stream_id] = stream
        stream.body_ended = ended
        self._handler.request_started(stream, head)
        if ended and stream_id in self.streams:
            self._handler.body_ended(stream, [])

    def _end_with_trailers(self, stream_id: int, fields: list[Field], now: float) -> None:
        stream = self.streams[stream_id]
        settings = self._settings
        try:
            trailers = trailer_fields(
                fields, settings.max_header_list_size, settings.max_header_fields
            )
        except MalformedFields:
            self._peer_fault(stream, now)
            return
        self._end_body(stream, trailers, now)

    def _receive_data(self, frame: Frame, now: float) -> None:
        for event in self._feed(frame.raw):
            if isinstance(event, DataReceived):
                stream = self.streams[frame.stream_id]
                data, credit = event.data or b"", event.flow_controlled_length or 0
                stream.received += len(data)
                stream.uncredited += credit
                if stream.content_length is not None and stream.received > stream.content_length:
                    self._peer_fault(stream, now)
                    return
                if data and not stream.discards_body:
                    self._handler.body_received(stream, data, credit)
                else:
                    self.credit(stream, credit)
                if event.stream_ended is not None and stream.id in self.streams:
                    self._end_body(stream, [], now)

    def _end_body(self, stream: Stream, trailers: list[Field], now: float) -> None:
        if stream.content_length is not None and stream.received != stream.content_length:
            self._peer_fault(stream, now)
            return
        stream.body_ended = True
        self._handler.body_ended(stream, trailers)

    def _receive_window_update(self, frame: Frame, now: float) -> None:
        increment = int.from_bytes(frame.payload, "big") & 0x7FFFFFFF
        stream = self.streams.get(frame.stream_id)
        if stream is not None and len(frame.payload) == 4 and increment == 0:
            # RFC 9113 section 6.9: an error of the stream; h2 takes the connection.
            self._peer_fault(stream, now)
            return
        for event in self._feed(frame.raw):
            if isinstance(event, WindowUpdated):
                if stream is not None:
                    self.responses.window_opened(stream)
                else:
                    self.responses.connection_window_opened(self.streams.values())
            elif isinstance(event, StreamReset):
                self._reset_by_h2(event, now)

    def _receive_reset(self, frame: Frame, now: float) -> None:
        if frame.stream_id > self._h2.highest_inbound_stream_id or not frame.stream_id % 2:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "RST_STREAM on an idle stream")
        self._feed(frame.raw)
        stream = self.streams.get(frame.stream_id)
        if stream is not None:
            self._close(stream)
            self._handler.stream_aborted(stream)
            self._charge_reset(now)

    def _receive_settings(self, frame: Frame) -> None:
        raw = frame.raw if frame.flags & frames.ACK else known_settings(frame)
        for event in self._feed(raw):
            if isinstance(event, SettingsAcknowledged):
                self.settings_acknowledged = True
            elif isinstance(event, RemoteSettingsChanged):
                for stream in self.streams.values():
                    self.responses.window_opened(stream)

    def _receive_priority(self, frame: Frame, now: float) -> None:
        # RFC 9113 section 5.3 deprecates the scheme; what remains is its errors.
        if not frame.stream_id:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY on stream 0")
        stream = self.streams.get(frame.stream_id)
        depends_on = int.from_bytes(frame.payload[:4], "big") & 0x7FFFFFFF
        if len(frame.payload) != 5:
            code = ErrorCodes.FRAME_SIZE_ERROR
        elif depends_on == frame.stream_id:
            code = ErrorCodes.PROTOCOL_ERROR
        else:
            return
        if stream is None:
            # Nothing to reset on an idle or closed stream.
            raise ConnectionFault(code, "bad PRIORITY")
        self._peer_fault(stream, now, code)

    def _receive_priority_update(self, frame: Frame) -> None:
        """RFC 9218 section 7.1."""
        if frame.stream_id:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
        payload = frame.payload
        if len(payload) < 4:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short PRIORITY_UPDATE")
        prioritized = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
        if not prioritized:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "PRIORITY_UPDATE for stream 0")
        stream = self.streams.get(prioritized)
        if stream is not None:
            self.responses.reprioritize(stream, *parse_priority(payload[4:]))

    def _receive_goaway(self, frame: Frame) -> None:
        # h2 would close the connection at once and refuse the responses still
        # in flight; a GOAWAY only says that no new streams will come.
        if frame.stream_id:
            raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(frame.payload) < 8:
            raise ConnectionFault(ErrorCodes.FRAME_SIZE_ERROR, "short GOAWAY")
        self.peer_going_away = True

    def _peer_fault(
        self, stream: Stream, now: float, code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR
    ) -> None:
        self.reset(stream, code)
        self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _reset_by_h2(self, event: StreamReset, now: float) -> None:
        stream = self.streams.get(event.stream_id or 0)
        if stream is not None:
            self._close(stream)
            self._handler.stream_aborted(stream)
        self._charge_reset(now)

    def _charge_reset(self, now: float) -> None:
        if not self._resets.spend(now):
            raise ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, "too many reset streams")

    # -- for the session ---------------------------------------------------------

    def reset(self, stream: Stream, code: ErrorCodes) -> None:
        """Send RST_STREAM(``code``) and forget the stream."""
        self._h2.reset_stream(stream.id, code)
        self._close(stream)

    def credit(self, stream: Stream, count: int) -> None:
        """Give ``count`` flow-controlled bytes back: the application has read them."""
        if stream.uncredited and not self.failed:
            stream.uncredited -= count
            self._h2.acknowledge_received_data(count, stream.id)

    def discard_body(self, stream: Stream) -> None:
        """Nobody reads the body any more: give back what came, and what comes."""
        stream.discards_body = True
        self.credit(stream, stream.uncredited)

    def ping(self, data: bytes) -> None:
        """Queue a PING with 8 bytes of ``data``."""
        self._h2.ping(data)

    def announce_goaway(self, last: bool) -> None:
        """Queue GOAWAY(NO_ERROR): with ``last``, naming the last stream that was
        accepted; before that, naming no limit yet (RFC 9113 section 6.8)."""
        if last:
            self._last_accepted = self._h2.highest_inbound_stream_id
        self._frames += self._goaway_frame(self._last_accepted, ErrorCodes.NO_ERROR)

    @staticmethod
    def _goaway_frame(last_stream_id: int, code: ErrorCodes) -> bytes:
        return GoAwayFrame(0, last_stream_id=last_stream_id, error_code=code).serialize()

    def _close(self, stream: Stream) -> None:
        del self.streams[stream.id]
        self.responses.forget(stream)
        self.credit(stream, stream.uncredited)

    # -- bytes for the transport ----------------------------------------------

    def bytes_to_send(self, room: int, now: float) -> bytes:
        """Everything that must go, and as much of the responses as ``room`` bytes hold.

        Urgency is decided here, as late as possible: pass only the room that the
        transport has.
        """
        if self.failed:
            pending = bytes(self._frames) + self._h2.data_to_send() + self._fault_frame
            self._frames.clear()
            self._fault_frame = b""
            return pending
        self.responses.fill(room, now)
        pending = bytes(self._frames) + self._h2.data_to_send()
        self._frames.clear()
        return pending

    def _data_sent(self, stream: Stream, count: int) -> None:
        # A peer that takes data has reason to send WINDOW_UPDATE and PING.
        self._control.earn(2)
        self._handler.bytes_sent(stream, count)

    def _complete(self, stream: Stream) -> None:
        if not stream.body_ended and not stream.failed:
            # RFC 9113 section 8.1: the response stands, the rest of the request
            # is not wanted.
            self._h2.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        self._close(stream)
