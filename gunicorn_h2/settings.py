"""Every setting of the worker: name, type, default, range and meaning.

The fields of `Settings` are the one table of it all: parsing, checks, the
names of the environment variables and the table in the README are derived from
the `Setting` each field carries. Where values are read from is for sources.py.

Pure; read on every thread, never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from textwrap import fill
from typing import Any, Literal

Kind = Literal["integer", "bytes", "seconds", "choice"]
Value = int | float | str

#: Gunicorn's "unlimited" header list. Whatever a peer can make us store is bounded.
UNLIMITED = 16 * 1024 * 1024

#: ASCII only, and short: int() and float() take underscores, any script's
#: digits, "nan" and "inf", and int() raises on thousands of digits.
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,20}\.[0-9]{0,20}|\.[0-9]{1,20})")
_NUMBERS = {
    "integer": "an integer",
    "bytes": "a whole number of bytes",
    "seconds": "a number of seconds",
}
_LONGEST_SHOWN = 80


class SettingError(RuntimeError):
    """A setting that cannot be used; its text is one line.

    A `RuntimeError`, because that is what Gunicorn prints as "Error: ..."
    before it exits with status 1 when `check_config` of a worker class raises it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split()))


@dataclass(frozen=True, slots=True)
class Setting:
    """What may be said about one setting. ``name`` is the one its user writes."""

    name: str
    kind: Kind
    default: Value
    minimum: int | float = 0
    maximum: int | float = 0
    choices: tuple[str, ...] = ()
    doc: str = ""

    @property
    def allowed(self) -> str:
        """The values it takes, to follow "must be"."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        return f"{_NUMBERS[self.kind]} from {self.minimum} to {self.maximum}"

    def parse(self, text: str) -> Value:
        """The value ``text`` stands for, or ``text`` itself, which `check` then refuses."""
        text = text.strip()
        if self.kind != "choice" and _INTEGER.fullmatch(text):
            return int(text)
        if self.kind == "seconds" and _DECIMAL.fullmatch(text):
            return float(text)
        return text

    def check(self, value: object, source: str) -> Value:
        """``value``, as the type of the setting.

        :raises SettingError: it is of another type, or out of range.
        """
        if self.kind == "choice" and isinstance(value, str) and value in self.choices:
            return value
        # A bool is an int to Python, but "h2_idle_timeout = True" is a mistake.
        if self.kind in _NUMBERS and not isinstance(value, bool):
            number = (int, float) if self.kind == "seconds" else int
            # NaN is outside of every range.
            if isinstance(value, number) and self.minimum <= value <= self.maximum:
                return float(value) if self.kind == "seconds" else value
        raise SettingError(f"{self.name} = {_shown(value)} (from {source}): must be {self.allowed}")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python converts
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def _row(
    name: str,
    kind: Kind,
    default: Value,
    minimum: int | float = 0,
    maximum: int | float = 0,
    *,
    choices: tuple[str, ...] = (),
    doc: str,
) -> Any:
    """A field of `Settings` that carries its row of the table."""
    row = Setting(name, kind, default, minimum, maximum, choices, doc)
    return field(default=row.check(default, "default"), metadata={"setting": row})


# fmt: off
@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the worker runs with, checked. ``Settings()`` has the defaults."""

    threads: int = _row("threads", "integer", 8, 1, 10_000,
        doc="Threads that run the application in one worker, which is how many requests it works"
        " on at once. This is Gunicorn's own setting; its default of 1 becomes 8, unless 1 is"
        " what was asked for.")
    max_concurrent_streams: int = _row("http2_max_concurrent_streams", "integer", 100, 1, 2**31 - 1,
        doc="Requests that one connection may have open at once. Gunicorn's own setting.")
    initial_window_size: int = _row("http2_initial_window_size", "bytes", 65_535, 1, 2**31 - 1,
        doc="Bytes of one request's body that are held for the application until it reads them."
        " It is more for an application that reads them as they come: see"
        " `h2_connection_window_size`. Gunicorn's own setting.")
    max_frame_size: int = _row("http2_max_frame_size", "bytes", 16_384, 16_384, 2**24 - 1,
        doc="Longest frame a peer may send. Gunicorn's own setting.")
    max_header_list_size: int = _row("http2_max_header_list_size", "bytes", 65_536, 0, UNLIMITED,
        doc="Size of a request's header fields, decompressed, with 32 bytes added for each field."
        f" Gunicorn's own setting; its 0 for unlimited means {UNLIMITED} here.")
    loop: str = _row("h2_loop", "choice", "auto", choices=("auto", "asyncio", "uvloop"),
        doc="Event loop of the worker. `auto` is uvloop where it is installed, else asyncio.")
    high_water_mark: int = _row("h2_high_water_mark", "bytes", 65_536, 0, 2**31 - 1,
        doc="Unsent bytes of a response above which the application's next write waits. With 0"
        " each write returns only when all of it is on the transport.")
    transport_high_water_mark: int = _row(
        "h2_transport_high_water_mark", "bytes", 131_072, 16_384, 16_777_216,
        doc="Bytes of one connection written but not yet taken by the kernel above which no more"
        " response data is sent.")
    connection_window_size: int = _row(
        "h2_connection_window_size", "bytes", 8_388_608, 65_535, 2**31 - 1,
        doc="Bytes of all request bodies of one connection together that are held until the"
        " application reads them. A connection begins with 1 MiB at most. It comes to have all of"
        " it, and a request half of it, where bodies are read as they come: more of them can then"
        " be under way on a long path. At least `http2_initial_window_size`, to which the default"
        " is raised where needed.")
    max_threads: int = _row("h2_max_threads", "integer", 0, 0, 10_000,
        doc="Threads that one worker may have when requests run long, such as event streams: each"
        " that has run for `h2_long_request_after` lets another thread be started, up to this"
        " number in all. 0 is as many as `threads`: the pool does not grow.")
    long_request_after: float = _row("h2_long_request_after", "seconds", 0.1, 0.01, 3_600,
        doc="Time after which a request no longer counts towards `threads`, where"
        " `h2_max_threads` lets the pool grow.")
    max_queued_requests: int = _row("h2_max_queued_requests", "integer", 4_096, 1, 1_000_000,
        doc="Requests of one worker that may wait for a thread; those beyond are refused.")
    request_timeout: float = _row("h2_request_timeout", "seconds", 0, 0, 86_400,
        doc="Time a request may take, from its head to the end of its response; then it is"
        " answered with 504, or reset if its response has begun. Its thread is free only when"
        " the application returns; when every thread is stuck so, the worker replaces itself."
        " 0 is no limit.")
    max_connection_age: float = _row("h2_max_connection_age", "seconds", 0, 0, 604_800,
        doc="A connection is drained at this age, give or take a tenth, and its client connects"
        " anew, perhaps to another worker; 0 is never.")
    handshake_timeout: float = _row("h2_handshake_timeout", "seconds", 10, 0.1, 600,
        doc="Time for the TLS handshake, for the HTTP/2 preface, and for the peer to acknowledge"
        " our SETTINGS.")
    header_timeout: float = _row("h2_header_timeout", "seconds", 10, 0.1, 600,
        doc="Time in which a request head or header block must be complete once it has begun.")
    idle_timeout: float = _row("h2_idle_timeout", "seconds", 120, 0, 86_400,
        doc="A connection without requests is closed after this time; 0 is never.")
    body_timeout: float = _row("h2_body_timeout", "seconds", 30, 0, 86_400,
        doc="A request is given up when the application has waited this long without one more"
        " byte of its body; 0 is never.")
    min_body_rate: int = _row("h2_min_body_rate", "bytes", 100, 0, 1_000_000,
        doc="Bytes a second at which a body must come while the application waits for it: for"
        " one that is slower all waiting counts towards `h2_body_timeout`; 0 is any rate.")
    write_timeout: float = _row("h2_write_timeout", "seconds", 60, 0, 86_400,
        doc="A response is given up when this long none of it could be sent; 0 is never.")
    ping_interval: float = _row("h2_ping_interval", "seconds", 0, 0, 86_400,
        doc="A connection from which nothing came for this long is sent a PING; 0 is never.")
    ping_timeout: float = _row("h2_ping_timeout", "seconds", 20, 0.1, 600,
        doc="A connection whose peer does not answer a PING for this long is closed.")
    max_header_fields: int = _row("h2_max_header_fields", "integer", 100, 1, 32_768,
        doc="Header fields of one request; Gunicorn's `limit_request_fields` holds as well.")
    max_resets: int = _row("h2_max_resets", "integer", 200, 1, 1_000_000,
        doc="Streams of one connection that may end in a reset, by the peer or for its fault, in"
        " each `h2_flood_interval`.")
    max_control_frames: int = _row("h2_max_control_frames", "integer", 1_000, 10, 10_000_000,
        doc="Frames other than DATA and HEADERS that one connection may send in each"
        " `h2_flood_interval`; every frame of DATA that is sent to it allows two more.")
    max_empty_data: int = _row("h2_max_empty_data", "integer", 100, 1, 10_000_000,
        doc="DATA frames without data that one connection may send in each `h2_flood_interval`.")
    flood_interval: float = _row("h2_flood_interval", "seconds", 10, 0.1, 3_600,
        doc="Time over which the budgets of a connection are counted.")
    # fmt: on
    #: Where each field's value was read from; a field that is not in here has its default.
    sources: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def describe(self) -> list[tuple[str, Value, str]]:
        """Name, value and source of every setting, for the log."""
        return [
            (row.name, getattr(self, key), self.sources.get(key, "default"))
            for key, row in ROWS.items()
        ]


#: The table, by field of `Settings` ...
ROWS: dict[str, Setting] = {
    item.name: item.metadata["setting"] for item in fields(Settings) if item.metadata
}
#: ... and by the name its user writes.
SETTINGS: dict[str, Setting] = {row.name: row for row in ROWS.values()}


def as_rst_table() -> str:
    """The table of the README, in reStructuredText."""
    lines = [".. list-table:: Settings", "   :header-rows: 1", ""]
    lines += _rst_row(("Name", "Default", "Value", "Meaning"))
    for row in SETTINGS.values():
        # Double quoting: a single backquote is not literal text in reStructuredText.
        doc = row.doc.replace("`", "``")
        lines += _rst_row((f"``{row.name}``", str(row.default), row.allowed, doc))
    return "\n".join(lines) + "\n"


def _rst_row(cells: tuple[str, ...]) -> list[str]:
    marks = ["   * - ", *["     - "] * (len(cells) - 1)]
    return [
        fill(cell, 100, initial_indent=mark, subsequent_indent=" " * 7, break_on_hyphens=False)
        for mark, cell in zip(marks, cells, strict=True)
    ]
