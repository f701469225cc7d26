"""Settings, as Gunicorn's own loading of files, arguments and environment leaves them to us."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gunicorn.config
import pytest
from gunicorn.app.base import Application, BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.config import Config
from hypothesis import given
from hypothesis import settings as run
from hypothesis import strategies as st

from gunicorn_h2.settings import SETTINGS, Setting, SettingError, Settings, as_rst_table
from gunicorn_h2.sources import load

README = Path(__file__).parents[2] / "README.rst"
USAGE = "%(prog)s [OPTIONS] [APP_MODULE]"
OWN = [name for name in SETTINGS if name.startswith("h2_")]
GUNICORNS_OWN = [name for name in SETTINGS if not name.startswith("h2_")]
KNOWN_TO_GUNICORN = "http2_max_frame_size" in Config().settings
needs_http2_options = pytest.mark.skipif(
    not KNOWN_TO_GUNICORN, reason="this Gunicorn has no http2_ settings"
)

#: Name, kind, default, range: what the users rely on, written out once more.
DOCUMENTED = [
    ("threads", "integer", 8, 1, 10_000),
    ("http2_max_concurrent_streams", "integer", 100, 1, 2_147_483_647),
    ("http2_initial_window_size", "bytes", 65_535, 1, 2_147_483_647),
    ("http2_max_frame_size", "bytes", 16_384, 16_384, 16_777_215),
    ("http2_max_header_list_size", "bytes", 65_536, 0, 16_777_216),
    ("h2_high_water_mark", "bytes", 65_536, 0, 2_147_483_647),
    ("h2_transport_high_water_mark", "bytes", 131_072, 16_384, 16_777_216),
    ("h2_connection_window_size", "bytes", 8_388_608, 65_535, 2_147_483_647),
    ("h2_max_queued_requests", "integer", 4_096, 1, 1_000_000),
    ("h2_max_threads", "integer", 0, 0, 10_000),
    ("h2_long_request_after", "seconds", 0.1, 0.01, 3_600),
    ("h2_request_timeout", "seconds", 0, 0, 86_400),
    ("h2_max_connection_age", "seconds", 0, 0, 604_800),
    ("h2_handshake_timeout", "seconds", 10, 0.1, 600),
    ("h2_header_timeout", "seconds", 10, 0.1, 600),
    ("h2_idle_timeout", "seconds", 120, 0, 86_400),
    ("h2_body_timeout", "seconds", 30, 0, 86_400),
    ("h2_min_body_rate", "bytes", 100, 0, 1_000_000),
    ("h2_write_timeout", "seconds", 60, 0, 86_400),
    ("h2_ping_interval", "seconds", 0, 0, 86_400),
    ("h2_ping_timeout", "seconds", 20, 0.1, 600),
    ("h2_max_header_fields", "integer", 100, 1, 32_768),
    ("h2_max_resets", "integer", 200, 1, 1_000_000),
    ("h2_max_control_frames", "integer", 1_000, 10, 10_000_000),
    ("h2_max_empty_data", "integer", 100, 1, 10_000_000),
    ("h2_flood_interval", "seconds", 10, 0.1, 3_600),
]


class Start:
    """Gunicorn's command line, up to the point where the worker class is asked."""

    def __init__(self, patch: pytest.MonkeyPatch, directory: Path) -> None:
        self._patch = patch
        self._directory = directory
        self.conf = directory / "gunicorn.conf.py"

    def config(
        self,
        conf: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> Config:
        """The `Config` of ``gunicorn ARGS app:app``, with ``conf`` for its file."""
        line = ["gunicorn", *args]
        if conf is not None:
            self.conf.write_text(conf)
            line += ["-c", str(self.conf)]
        for name, value in (env or {}).items():
            self._patch.setenv(name, value)
        self._patch.setattr(sys, "argv", [*line, "app:app"])
        return WSGIApplication(USAGE, prog="gunicorn").cfg

    def __call__(
        self,
        conf: str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        attributes: Mapping[str, object] | None = None,
    ) -> Settings:
        worker_class = type("Tuned", (), dict(attributes or {}))
        return load(self.config(conf, args, env), worker_class)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    for variable in [name for name in os.environ if name.startswith("GUNICORN_")]:
        monkeypatch.delenv(variable)
    # Gunicorn changes both; monkeypatch puts them back.
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.chdir(tmp_path)
    # Files that are rewritten within a second look the same to the bytecode cache.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield Start(monkeypatch, tmp_path)
    sys.modules.pop("__config__", None)


def described(settings: Settings, name: str) -> tuple[Any, str]:
    return {row[0]: (row[1], row[2]) for row in settings.describe()}[name]


def refusal(start: Start, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(SettingError) as caught:
        start(*args, **kwargs)
    return str(caught.value)


# -- the table ----------------------------------------------------------------


def test_defaults_are_those_documented(start: Start) -> None:
    settings = start()
    assert settings == Settings()
    assert all(source == "default" for _, _, source in settings.describe())
    for name, kind, default, minimum, maximum in DOCUMENTED:
        row = SETTINGS[name]
        assert (row.kind, row.default, row.minimum, row.maximum) == (
            kind,
            default,
            minimum,
            maximum,
        )
        assert described(settings, name)[0] == default
    assert {row[0] for row in DOCUMENTED} | {"h2_loop"} == set(SETTINGS)
    assert settings.loop == "auto"


def test_field_names_drop_the_prefix() -> None:
    for name in SETTINGS:
        assert hasattr(Settings(), re.sub("^(h2|http2)_", "", name))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Settings().threads = 3  # type: ignore[misc]


@pytest.mark.parametrize(("name", "kind", "default", "minimum", "maximum"), DOCUMENTED)
def test_range_holds_at_both_ends(
    name: str, kind: str, default: float, minimum: float, maximum: float
) -> None:
    row = SETTINGS[name]
    step = 0.01 if kind == "seconds" else 1
    for value in (minimum, default, maximum):
        assert row.check(value, "here") == value
    for value in (minimum - step, maximum + step):
        with pytest.raises(SettingError, match=re.escape(f"{name} = {value} (from here): must be")):
            row.check(value, "here")


def test_readme_has_this_table() -> None:
    table = as_rst_table()
    assert all(f"``{name}``" in table for name in SETTINGS)
    assert max(map(len, table.splitlines())) <= 100
    heading = table.splitlines()[0]
    text = README.read_text() if README.exists() else ""
    if heading not in text:
        pytest.skip("README.rst has no table of settings yet")
    assert table in text


# -- where values come from ---------------------------------------------------


def test_later_sources_win(start: Start) -> None:
    name = "h2_idle_timeout"
    assert described(start(), name) == (120, "default")
    assert described(start(attributes={name: 30}), name) == (30, "class Tuned")
    settings = start("h2_idle_timeout = 40", attributes={name: 30})
    assert described(settings, name) == (40, str(start.conf))
    settings = start(
        "h2_idle_timeout = 40", env={"GUNICORN_H2_IDLE_TIMEOUT": "50"}, attributes={name: 30}
    )
    assert described(settings, name) == (50, "GUNICORN_H2_IDLE_TIMEOUT")
    assert settings.idle_timeout == 50.0


@pytest.mark.parametrize("name", OWN)
def test_each_source_reaches_each_setting(start: Start, name: str) -> None:
    row = SETTINGS[name]
    value = "asyncio" if row.kind == "choice" else int(row.maximum)
    variable = "GUNICORN_" + name.upper()
    assert described(start(attributes={name: value}), name) == (value, "class Tuned")
    assert described(start(f"{name} = {value!r}"), name) == (value, str(start.conf))
    assert described(start(env={variable: str(value)}), name) == (value, variable)


def test_class_attributes_are_inherited_and_overridden(start: Start) -> None:
    base = type("Base", (), {"h2_max_resets": 5, "h2_idle_timeout": 5})
    derived = type("Derived", (base,), {"h2_idle_timeout": 6.5})
    settings = load(start.config(), derived)
    assert described(settings, "h2_max_resets") == (5, "class Base")
    assert described(settings, "h2_idle_timeout") == (6.5, "class Derived")


def test_methods_and_properties_are_not_settings(start: Start) -> None:
    attributes = {
        "h2_method": lambda self: 1,
        "h2_class_method": classmethod(lambda cls: 1),
        "h2_static_method": staticmethod(lambda: 1),
        "h2_property": property(lambda self: 1),
        "h2_idle_timeout": property(lambda self: 1),
    }
    assert start(attributes=attributes) == Settings()


def test_configuration_from_a_python_module(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf_of_ours.py").write_text("h2_max_resets = 7\nthreads = 1\n")
    settings = start(args=["-c", "python:conf_of_ours"])
    del sys.modules["conf_of_ours"]
    assert described(settings, "h2_max_resets") == (7, "python:conf_of_ours")
    assert described(settings, "threads") == (1, "python:conf_of_ours")


def test_python_module_that_removed_itself_is_no_source(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conf_that_hides.py").write_text("h2_max_resets = 7\n")
    cfg = start.config(args=["-c", "python:conf_that_hides"])
    del sys.modules["conf_that_hides"]
    assert load(cfg, object) == Settings()


@pytest.mark.parametrize("location", ["file:{}", "{}"])
def test_configuration_file_given_in_gunicorn_cmd_args(start: Start, location: str) -> None:
    start.conf.write_text("h2_max_resets = 7")
    settings = start(env={"GUNICORN_CMD_ARGS": "-c " + location.format(start.conf)})
    assert described(settings, "h2_max_resets") == (7, str(start.conf))


def test_configuration_file_lasts_as_long_as_its_config(start: Start) -> None:
    """A worker may be respawned long after the file is gone; a reload without it forgets it."""
    first = start.config("h2_max_resets = 7")
    assert load(first, object).max_resets == 7
    start.conf.unlink()
    assert load(first, object).max_resets == 7

    reloaded = start.config()
    assert load(reloaded, object).max_resets == 200
    assert load(reloaded, object).max_resets == 200

    changed = start.config("h2_max_resets = 8")
    assert load(changed, object).max_resets == 8


# -- threads ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "args", "env", "threads", "source"),
    [
        (None, [], "", 8, "default"),
        ("", [], "", 8, "default"),
        (None, ["--threads", "1"], "", 1, "the command line"),
        (None, ["--threads=1"], "", 1, "the command line"),
        (None, ["--thread", "1"], "", 1, "the command line"),
        (None, ["--threads", "3"], "", 3, "the command line"),
        (None, [], "--threads 1", 1, "GUNICORN_CMD_ARGS"),
        (None, [], "--thread=4", 4, "GUNICORN_CMD_ARGS"),
        (None, ["--threads", "1"], "--threads 4", 1, "the command line"),
        ("threads = 1", [], "", 1, "gunicorn.conf.py"),
        ("threads = '1'", [], "", 1, "gunicorn.conf.py"),
        ("threads = 4", [], "", 4, "gunicorn.conf.py"),
        ("threads = 4", [], "--threads 1", 1, "GUNICORN_CMD_ARGS"),
        ("threads = 4", ["--threads", "1"], "", 1, "the command line"),
    ],
)
def test_threads_is_gunicorns_where_it_was_given(
    start: Start, conf: str | None, args: list[str], env: str, threads: int, source: str
) -> None:
    settings = start(conf, args, {"GUNICORN_CMD_ARGS": env})
    assert settings.threads == threads
    assert described(settings, "threads")[1].removeprefix(f"{start.conf.parent}/") == source


def test_no_threads_at_all_is_refused(start: Start) -> None:
    text = refusal(start, args=["--threads", "0"])
    assert text == "threads = 0 (from the command line): must be an integer from 1 to 10000"


class Embedded(BaseApplication):  # type: ignore[misc]
    """An application that runs Gunicorn with options of its own."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self.options = options
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            self.cfg.set(name, value)


@pytest.mark.parametrize("line", [["--threads", "1"], ["--help"], ["--threads", "many"]])
def test_embedded_gunicorn_has_another_programs_arguments(
    start: Start, monkeypatch: pytest.MonkeyPatch, line: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["manage.py", *line])
    assert load(Embedded({}).cfg, object).threads == 8
    settings = load(Embedded({"threads": 3}).cfg, object)
    assert described(settings, "threads") == (3, "Gunicorn's configuration")
    assert load(Embedded({"config": None}).cfg, object) == Settings()


class OwnCommandLine(Application):  # type: ignore[misc]
    """It has a usage, like Gunicorn's own, but reads no arguments."""

    def load_config(self) -> None:
        pass


@pytest.mark.parametrize("line", ["--help", "--version", "--threads many", "--config"])
def test_arguments_that_gunicorn_has_not_read(
    start: Start,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve", *line.split()])
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "'--threads 1")  # no closing quote
    assert load(OwnCommandLine(USAGE).cfg, object) == Settings()
    assert capsys.readouterr() == ("", "")


# -- Gunicorn's HTTP/2 settings -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http2_max_concurrent_streams", 7),
        ("http2_initial_window_size", 70_000),
        ("http2_max_frame_size", 20_000),
        ("http2_max_header_list_size", 1_000),
    ],
)
def test_gunicorns_http2_settings_in_the_file_and_the_class(
    start: Start, name: str, value: int
) -> None:
    assert described(start(f"{name} = {value}"), name) == (value, str(start.conf))
    assert described(start(attributes={name: value}), name) == (value, "class Tuned")
    both = start(f"{name} = {SETTINGS[name].default}", attributes={name: value})
    assert described(both, name) == (SETTINGS[name].default, str(start.conf))


@needs_http2_options
def test_gunicorns_http2_settings_on_the_command_line(start: Start) -> None:
    name, option = "http2_max_frame_size", "--http2-max-frame-size"
    settings = start(args=[option, "20000"])
    assert described(settings, name) == (20_000, "the command line")
    settings = start("http2_max_frame_size = 30_000", args=[option, "20000"])
    assert described(settings, name) == (20_000, "the command line")
    settings = start(
        env={"GUNICORN_CMD_ARGS": f"{option} 16384"}, attributes={"http2_max_frame_size": 20_000}
    )
    assert described(settings, name) == (16_384, "GUNICORN_CMD_ARGS")


@pytest.fixture
def gunicorn_23(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Gunicorn knew before version 25."""
    known = gunicorn.config.KNOWN_SETTINGS
    older = [each for each in known if each.name == "threads" or each.name not in SETTINGS]
    monkeypatch.setattr(gunicorn.config, "KNOWN_SETTINGS", older)


@pytest.mark.usefixtures("gunicorn_23")
def test_gunicorn_that_does_not_know_them_leaves_them_to_us(start: Start) -> None:
    settings = start(
        "http2_max_frame_size = 20_000",
        attributes={"http2_max_concurrent_streams": 7, "http2_max_frame_size": 16_384},
    )
    assert described(settings, "http2_max_frame_size") == (20_000, str(start.conf))
    assert described(settings, "http2_max_concurrent_streams") == (7, "class Tuned")
    assert described(settings, "http2_initial_window_size") == (65_535, "default")
    said = refusal(start, "http2_max_concurrent_streams = 0")
    assert said.startswith(f"http2_max_concurrent_streams = 0 (from {start.conf}): must be")


def test_unlimited_header_list_is_bounded_after_all(start: Start) -> None:
    assert start("http2_max_header_list_size = 0").max_header_list_size == 16_777_216
    text = refusal(start, "http2_max_header_list_size = 2**24 + 1")
    assert "must be a whole number of bytes from 0 to 16777216" in text


@pytest.mark.parametrize("name", GUNICORNS_OWN)
def test_gunicorns_settings_have_no_variable_of_ours(start: Start, name: str) -> None:
    assert start(env={f"GUNICORN_{name.upper()}": "nonsense"}) == Settings()


def test_connection_window_is_no_smaller_than_a_streams(start: Start) -> None:
    settings = start("http2_initial_window_size = 20_000_000")
    assert settings.initial_window_size == settings.connection_window_size == 20_000_000
    settings = start(
        "http2_initial_window_size = 20_000_000\nh2_connection_window_size = 20_000_000"
    )
    assert settings.connection_window_size == 20_000_000
    text = refusal(
        start,
        "http2_initial_window_size = 20_000_000",
        env={"GUNICORN_H2_CONNECTION_WINDOW_SIZE": "19999999"},
    )
    assert text == (
        "h2_connection_window_size = 19999999 (from GUNICORN_H2_CONNECTION_WINDOW_SIZE):"
        f" must be at least http2_initial_window_size = 20000000 (from {start.conf})"
    )


def test_the_pool_grows_to_no_less_than_it_begins_with(start: Start) -> None:
    assert start("threads = 9\nh2_max_threads = 9").max_threads == 9
    assert start("threads = 9").max_threads == 0
    assert refusal(start, "h2_max_threads = 7") == (
        f"h2_max_threads = 7 (from {start.conf}): must be at least threads = 8 (from default), or 0"
    )
    assert refusal(start, "threads = 9", env={"GUNICORN_H2_MAX_THREADS": "8"}) == (
        "h2_max_threads = 8 (from GUNICORN_H2_MAX_THREADS):"
        f" must be at least threads = 9 (from {start.conf}), or 0"
    )


# -- mistakes -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("h2_idle_timout", "h2_idle_timeout"),
        ("h2_max_reset", "h2_max_resets"),
        ("h2_max_concurrent_streams", "http2_max_concurrent_streams"),
        ("h2_", "h2_loop"),
    ],
)
def test_unknown_names_stop_the_start(start: Start, name: str, nearest: str) -> None:
    said = f"no such setting, the nearest is {nearest}"
    assert refusal(start, attributes={name: 1}) == f"{name} (from class Tuned): {said}"
    assert refusal(start, f"{name} = 1") == f"{name} (from {start.conf}): {said}"
    variable = "GUNICORN_" + name.upper()
    assert refusal(start, env={variable: "1"}) == f"{name} (from {variable}): {said}"


def test_names_of_others_are_left_alone(start: Start) -> None:
    env = {"GUNICORN_PID": "1", "H2_IDLE_TIMEOUT": "x", "GUNICORN_HTTP2": "x"}
    assert start("http2 = 1\nxh2_foo = 1", env=env, attributes={"http2": 1}) == Settings()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("-3", "-3"),
        ("86400.5", "86400.5"),
        ("True", "True"),
        ("None", "None"),
        ("'30'", "'30'"),
        ("float('nan')", "nan"),
        ("float('inf')", "inf"),
        ("10**400", "1" + "0" * 79 + "..."),
        ("10**5000", "<int>"),
        ("[1]", "[1]"),
        ("'a\\nb'", r"'a\nb'"),
        ("type('Two', (), {'__repr__': lambda self: 'two\\nlines'})()", "two lines"),
    ],
)
def test_wrong_seconds_in_the_file(start: Start, text: str, shown: str) -> None:
    allowed = "must be a number of seconds from 0 to 86400"
    expected = f"h2_idle_timeout = {shown} (from {start.conf}): {allowed}"
    assert refusal(start, f"h2_idle_timeout = {text}") == expected


@pytest.mark.parametrize("text", ["1.0", "True", "'1'", "0", "1_000_001", "None", "float('nan')"])
def test_wrong_integers_in_the_file(start: Start, text: str) -> None:
    assert "must be an integer from 1 to 1000000" in refusal(start, f"h2_max_resets = {text}")


@pytest.mark.parametrize("text", ["'Auto'", "''", "None", "True", "('auto',)", "b'auto'"])
def test_wrong_choice_in_the_file(start: Start, text: str) -> None:
    assert refusal(start, f"h2_loop = {text}").endswith("must be one of auto, asyncio, uvloop")


@pytest.mark.parametrize(
    ("variable", "text", "value"),
    [
        ("IDLE_TIMEOUT", "30", 30.0),
        ("IDLE_TIMEOUT", " 30\n", 30.0),
        ("IDLE_TIMEOUT", "0.25", 0.25),
        ("IDLE_TIMEOUT", ".5", 0.5),
        ("IDLE_TIMEOUT", "+1.", 1.0),
        ("IDLE_TIMEOUT", "-0", 0.0),
        ("MAX_RESETS", "007", 7),
        ("HIGH_WATER_MARK", "0", 0),
        ("LOOP", "asyncio", "asyncio"),
    ],
)
def test_right_text_in_the_environment(
    start: Start, variable: str, text: str, value: object
) -> None:
    settings = start(env={"GUNICORN_H2_" + variable: text})
    assert getattr(settings, variable.lower()) == value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *(("IDLE_TIMEOUT", text) for text in ("", "-3", "nan", "inf", "1e3", "1_0", "3s", ".")),
        *(("IDLE_TIMEOUT", text) for text in ("٣", "true", "9" * 5000, "9" * 20 + ".0")),
        *(("MAX_RESETS", text) for text in ("", "1.0", "0x10", "1_000", "ten", "9" * 5000)),
        *(("HIGH_WATER_MARK", text) for text in ("64k", "64 KiB", "1.0", "-1", "true")),
        *(("LOOP", text) for text in ("", "AUTO", "trio", "0")),
    ],
)
def test_wrong_text_in_the_environment(start: Start, variable: str, text: str) -> None:
    said = refusal(start, env={"GUNICORN_H2_" + variable: text})
    assert said.startswith(f"h2_{variable.lower()} = ")
    assert f" (from GUNICORN_H2_{variable}): must be " in said
    assert len(said) < 250


@pytest.mark.parametrize(
    "suffix", ["SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR"]
)
def test_what_kubernetes_says_of_a_service_of_our_name_is_no_setting(
    start: Start, suffix: str
) -> None:
    assert start("", env={"GUNICORN_H2_" + suffix: "tcp://10.0.0.1:80"}) == start("")


@pytest.mark.parametrize("suffix", ["SERVICE", "PORTS", "PORT_A"])
def test_what_only_looks_like_it_is_refused(start: Start, suffix: str) -> None:
    assert "no such setting" in refusal(start, env={"GUNICORN_H2_" + suffix: "1"})


# -- anything at all ----------------------------------------------------------

NUMBERS = st.one_of(st.integers(), st.floats(), st.decimals()).map(str)
# What an environment can hold: no NUL, and nothing that UTF-8 cannot say.
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def assert_settles(row: Setting, load_it: Any, source: str) -> None:
    """It is in range, or refused in one line that names the setting and the source."""
    try:
        value = described(load_it(), row.name)[0]
    except SettingError as error:
        assert len(str(error).splitlines()) == 1
        assert str(error).startswith(f"{row.name} = ")
        assert f"(from {source}): must be {row.allowed}" in str(error)
    else:
        assert not isinstance(value, bool)
        assert value in row.choices or row.minimum <= value <= row.maximum


@run(deadline=None)
@given(name=st.sampled_from(OWN), text=NUMBERS | TEXTS)
def test_any_text_in_the_environment_is_in_range_or_refused(name: str, text: str) -> None:
    variable = "GUNICORN_" + name.upper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(variable, text)
        # One thread, so that any number of them may be the most.
        worker_class = type("Tuned", (), {"threads": 1})
        assert_settles(SETTINGS[name], lambda: load(Config(), worker_class), variable)


@run(deadline=None)
@given(
    name=st.sampled_from(OWN),
    value=st.integers() | st.floats() | st.booleans() | st.none() | st.text() | st.binary(),
)
def test_any_value_in_the_class_is_in_range_or_refused(name: str, value: object) -> None:
    worker_class = type("Tuned", (), {"threads": 1, name: value})
    assert_settles(SETTINGS[name], lambda: load(Config(), worker_class), "class Tuned")


@run(deadline=None)
@given(rest=TEXTS.filter(lambda text: "=" not in text))
def test_any_variable_of_ours_is_known_or_refused_in_one_line(rest: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GUNICORN_H2_" + rest, "nonsense")
        with pytest.raises(SettingError) as caught:
            load(Config(), object)
    assert len(str(caught.value).splitlines()) == 1
