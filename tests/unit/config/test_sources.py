"""Command line, environment, file and keywords: each read, each refusing what it does not know, merged by
precedence."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config.settings import OPTIONS, GivenValue, Settings
from starman.config.sources import (
    Action,
    flags,
    from_arguments,
    from_command_line,
    from_environment,
    from_file,
    from_keywords,
    merge,
    negative_flag,
)
from starman.errors import SettingError


def command_line(argv: list[str], environ: dict[str, str] | None = None, directory: Path | str = "/nowhere") -> Settings:
    return from_command_line(from_arguments(argv), environ or {}, str(directory))


def refusal(argv: list[str]) -> str:
    with pytest.raises(SettingError) as caught:
        command_line(argv)
    assert caught.value.exit_status == 2
    return str(caught.value)


# The command line


def test_an_empty_command_line() -> None:
    line = from_arguments([])
    assert (line.action, line.config, line.given) == (Action.SERVE, None, {})


@pytest.mark.parametrize(
    "argv",
    [
        ["a:b", "--workers", "3", "--preload-app"],
        ["--workers", "3", "a:b", "--preload-app"],
        ["--workers=3", "--preload-app", "a:b"],
        ["--preload-app", "--workers", "3", "--", "a:b"],
    ],
)
def test_the_application_may_stand_anywhere(argv: list[str]) -> None:
    settings = command_line(argv)
    assert (settings.app, settings.workers, settings.preload_app) == ("a:b", 3, True)


def test_short_flags_and_aliases() -> None:
    settings = command_line(["-Ilib", "-I", "more", "-M", "json", "-o", "::1", "-p", "80", "-e", "x", "--read-timeout", "7"])
    assert settings.include == ("lib", "more")
    assert settings.modules == ("json",)
    assert (settings.host, settings.port, settings.eval, settings.header_timeout) == ("::1", 80, "x", 7.0)
    assert settings.source("header_timeout") == "--header-timeout"
    assert command_line(["-l:80", "-l", "*:81", "--listen=@x"]).listen == (":80", "*:81", "@x")
    assert command_line(["-S", "/tmp/s"]).socket == "/tmp/s"
    assert command_line(["--access-log", "-"]).access_log == "-"


def test_every_setting_has_its_flag() -> None:
    for name, setting in OPTIONS.items():
        argv = [setting.flag] if setting.boolean else ["1"] if setting.positional else [setting.flag, "1"]
        assert list(from_arguments(argv).given) == [name]
        for flag in setting.flags:
            assert list(from_arguments([flag] if setting.boolean else [flag, "1"]).given) == [name]


def test_a_boolean_can_be_turned_off() -> None:
    settings = command_line(["--no-preload-app"], {"STARMAN_PRELOAD_APP": "1"})
    assert settings.preload_app is False
    assert settings.source("preload_app") == "--no-preload-app"
    assert negative_flag(OPTIONS["disable_keepalive"]) == "--no-disable-keepalive"


@pytest.mark.parametrize(
    ("argv", "action"),
    [
        (["--check"], Action.CHECK),
        (["--print-config", "--workers", "2"], Action.PRINT_CONFIG),
        (["-h"], Action.HELP),
        (["--help"], Action.HELP),
        (["-v"], Action.VERSION),
        (["--version"], Action.VERSION),
    ],
)
def test_actions(argv: list[str], action: Action) -> None:
    assert from_arguments(argv).action is action


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--wrokers", "3"], "--wrokers: unknown option; did you mean '--workers'?"),
        (["--wrokers=3", "a:b"], "--wrokers: unknown option; did you mean '--workers'?"),
        (["a:b", "--thread", "3"], "did you mean '--threads'?"),
        (["--work", "3"], "--work: unknown option; did you mean '--workers'?"),
        (["--no-preload"], "did you mean '--no-preload-app'?"),
        (["--no-workers"], "--no-workers: unknown option"),
        (["--chekc"], "did you mean '--check'?"),
        (["--zzzzzzzz"], "--zzzzzzzz: unknown option; --help lists the options"),
        (["-Z"], "-Z: unknown option"),
        (["--workers"], "--workers: its value is missing; --help"),
        (["--preload-app=yes"], "--preload-app"),
        (["a:b", "c:d"], "'c:d': only one application can be served, and 'a:b' is given already"),
        (["--check", "--print-config"], "--print-config: cannot be combined with --check"),
        (["--admin-listen", ":9", "--admin-listen=:8"], "--admin-listen: given twice; the server has one admin address"),
        (["--workers", "many"], """--workers: 'many' is not valid; workers takes a whole number, from 1 to 1024, or "auto\""""),
        (["--listen", "localhost"], "--listen: 'localhost' has no port"),
        (["--max-body", "1T"], "--max-body: '1T' is not valid; max_body takes a number of bytes"),
        (["-e", "x", "a:b"], "APPLICATION and --eval: give one application, not two"),
        (["--config", "missing.toml"], "--config: no such file: 'missing.toml'"),
    ],
)
def test_refusals_of_the_command_line(argv: list[str], words: str) -> None:
    message = refusal(argv)
    assert words in message
    assert "\n" not in message


@given(st.lists(st.sampled_from([*flags(), "x", "--nonsense", "-Q", "--", "1", "--a=b"]), max_size=6))
def test_any_command_line_is_understood_or_a_setting_error(argv: list[str]) -> None:
    with suppress(SettingError):
        assert from_arguments(argv).action in Action


# The environment


def test_the_environment() -> None:
    layer = from_environment(
        {"STARMAN_WORKERS": "3", "STARMAN_LISTEN": ":80, [::1]:81,", "STARMAN_HOST": "", "WORKERS": "9", "starman_x": "1"}
    )
    settings = Settings(layer)
    assert settings.workers == 3
    assert settings.listen == (":80", "[::1]:81")
    assert settings.source("listen") == "STARMAN_LISTEN"
    assert settings.source("host") == "default"


def test_every_setting_has_its_variable() -> None:
    assert set(from_environment({setting.variable: "1" for setting in OPTIONS.values()})) == set(OPTIONS)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"STARMAN_WORKER": "3"}, "STARMAN_WORKER: unknown variable; did you mean 'STARMAN_WORKERS'?"),
        ({"STARMAN_WORKER": ""}, "did you mean 'STARMAN_WORKERS'?"),
        ({"STARMAN_THREADS": "x"}, "STARMAN_THREADS: 'x' is not valid; threads takes a whole number, from 0 to 10000"),
        ({"STARMAN_PRELOAD_APP": "perhaps"}, "STARMAN_PRELOAD_APP: 'perhaps' is not valid; preload_app takes true or false"),
    ],
)
def test_refusals_of_the_environment(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingError, match=re.escape(words)):
        command_line([], environ)


# The file


def test_starman_toml(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text(
        'app = "a:b"\nworkers = 3\nmax-body = "2M"\nlisten = [":80", "*:81"]\nmodules = "json"\n'
    )
    settings = command_line([], directory=tmp_path)
    assert (settings.app, settings.workers, settings.max_body, settings.listen) == ("a:b", 3, 2 << 20, (":80", "*:81"))
    assert settings.modules == ("json",)
    assert settings.source("max_body") == "starman.toml: max-body"


def test_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.starman]\nthreads = 2\n")
    settings = command_line([], directory=tmp_path)
    assert settings.threads == 2
    assert settings.source("threads") == "pyproject.toml: tool.starman.threads"


def test_starman_toml_comes_before_pyproject_toml(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text("")
    (tmp_path / "pyproject.toml").write_text("[tool.starman]\nthreads = 2\n")
    assert command_line([], directory=tmp_path).threads == 4


@pytest.mark.parametrize("text", ["[tool.other]\nthreads = 2\n", 'name = "starman"\n', "tool = 1 # starman\n", "this is no toml"])
def test_a_pyproject_toml_without_our_table_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert from_file(None, str(tmp_path)) == {}


def test_config_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text("threads = 2\n")
    (tmp_path / "other.toml").write_text("workers = 3\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "pyproject.toml").write_text("[tool.starman]\nbacklog = 5\n")
    settings = command_line(["--config", "other.toml"], directory=tmp_path)
    assert (settings.threads, settings.workers) == (4, 3)
    assert settings.source("workers") == "other.toml: workers"
    assert command_line(["--config", str(tmp_path / "other.toml")], directory="/").workers == 3
    assert command_line(["--config", "sub/pyproject.toml"], directory=tmp_path).backlog == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 3\nthreads = = 4\n", "starman.toml:2: invalid TOML: "),
        ("workers = 3\nlisten = [\n", "starman.toml:2: invalid TOML: "),
        ("wrokers = 3\n", "starman.toml: unknown setting 'wrokers'; did you mean 'workers'?"),
        ("max-boddy = 3\n", "starman.toml: unknown setting 'max-boddy'; did you mean 'max_body'?"),
        ("max-body = 3\nmax_body = 4\n", "starman.toml: 'max_body' is given twice, with - and with _; keep one"),
        ('workers = "many"\n', "starman.toml: workers: 'many' is not valid"),
        ("workers = true\n", "starman.toml: workers: True is not valid"),
        ("workers = 1.5\n", "starman.toml: workers: 1.5 is not valid"),
        ("preload-app = 1\n", "starman.toml: preload-app: 1 is not valid; preload_app takes true or false"),
        ("[workers]\ncount = 3\n", "starman.toml: workers: {'count': 3} is not valid"),
        ("listen = [80, [81]]\n", "starman.toml: listen: [80, [81]] is not valid"),
    ],
)
def test_refusals_of_the_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "starman.toml").write_text(text)
    with pytest.raises(SettingError) as caught:
        command_line([], directory=tmp_path)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_bytes(b"workers = 3\n# caf\xe9\n")
    with pytest.raises(SettingError, match=r"^starman\.toml:2: invalid TOML: not UTF-8"):
        command_line([], directory=tmp_path)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    largest = 4 * 1024 * 1024
    file = tmp_path / "starman.toml"
    file.write_text("workers = 3\n".ljust(largest, "\n"))
    assert command_line(["app"], directory=tmp_path).workers == 3
    file.write_text("workers = 3\n".ljust(largest + 1, "\n"))
    with pytest.raises(
        SettingError, match=f"^starman.toml: the file is larger than {largest} bytes, the limit for a settings file$"
    ):
        command_line(["app"], directory=tmp_path)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="cannot read the file: Is a directory"):
        command_line(["--config", "."], directory=tmp_path)


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool]\nstarman = 3\n")
    with pytest.raises(SettingError, match=re.escape("pyproject.toml: tool.starman must be a table")):
        command_line([], directory=tmp_path)


def test_an_unknown_key_of_pyproject_toml_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.starman]\nthread = 3\n")
    with pytest.raises(SettingError, match=re.escape("'tool.starman.thread'; did you mean 'threads'?")):
        command_line([], directory=tmp_path)


# Precedence


def test_command_line_then_environment_then_file_then_default(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text("workers = 11\nthreads = 12\nbacklog = 13\n")
    environ = {"STARMAN_WORKERS": "21", "STARMAN_THREADS": "22"}
    settings = command_line(["--workers", "31"], environ, tmp_path)
    assert (settings.workers, settings.threads, settings.backlog, settings.boot_timeout) == (31, 22, 13, 60.0)
    sources = [settings.source(name) for name in ("workers", "threads", "backlog", "boot_timeout")]
    assert sources == ["--workers", "STARMAN_THREADS", "starman.toml: backlog", "default"]


def test_an_overridden_value_is_not_checked() -> None:
    assert command_line(["--workers", "3"], {"STARMAN_WORKERS": "nonsense"}).workers == 3


@pytest.mark.parametrize(
    ("argv", "toml", "addresses"),
    [
        (["--port", "80"], 'listen = ":81"', ["0.0.0.0:80"]),
        (["--port", "80"], 'socket = "/s"', ["0.0.0.0:80"]),
        (["--port", "80"], 'host = "127.0.0.1"\nport = 81', ["127.0.0.1:80"]),
        (["--socket", "/t"], 'listen = ":81"', ["unix:/t"]),
        (["--listen", ":80"], 'port = 81\nsocket = "/s"', ["0.0.0.0:80"]),
        ([], 'listen = ":80"\nport = 81', ["0.0.0.0:80"]),
    ],
)
def test_where_to_listen_is_one_question(tmp_path: Path, argv: list[str], toml: str, addresses: list[str]) -> None:
    (tmp_path / "starman.toml").write_text(toml)
    settings = command_line(argv, directory=tmp_path)
    assert [str(address) for address in settings.addresses()] == addresses
    assert bool(settings.warnings()) is (not argv)


def test_which_application_is_one_question() -> None:
    settings = command_line(["-e", "x"], {"STARMAN_APP": "a:b"})
    assert (settings.app, settings.eval) == (None, "x")
    settings = command_line(["a:b"], {"STARMAN_EVAL": "x"})
    assert (settings.app, settings.eval) == ("a:b", None)


def test_merge_leaves_the_layers_alone() -> None:
    high, low = {"app": GivenValue("a", "1")}, {"eval": GivenValue("b", "2"), "threads": GivenValue(1, "2")}
    assert set(merge([high, low])) == {"app", "threads"}
    assert set(low) == {"eval", "threads"}


# Keywords


def application(environ: object, start_response: object) -> list[bytes]:
    return []


def test_an_application_that_is_neither_callable_nor_text_is_refused() -> None:
    with pytest.raises(SettingError, match=r"run\(app\): 3 is neither"):
        from_keywords(3, {}, {"STARMAN_APP": "a:b"}, "/nowhere")


def test_none_as_an_application_is_refused() -> None:
    """A factory without a return gives None: nothing else may be served in its place."""
    with pytest.raises(SettingError, match=r"run\(app\): the application is None"):
        from_keywords(None, {}, {"STARMAN_APP": "a:b"}, "/nowhere")


def test_keywords_come_before_the_environment(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text("workers = 11\nbacklog = 13\n")
    environ = {"STARMAN_WORKERS": "21", "STARMAN_THREADS": "22"}
    settings = from_keywords("a:b", {"workers": 31, "listen": ":80", "graceful_timeout": 2}, environ, str(tmp_path))
    assert (settings.app, settings.workers, settings.threads, settings.backlog) == ("a:b", 31, 22, 13)
    assert (settings.listen, settings.graceful_timeout) == ((":80",), 2.0)
    assert settings.source("workers") == "run(workers=...)"
    assert settings.source("app") == "run(app)"


def test_a_callable_puts_aside_every_other_application() -> None:
    settings = from_keywords(application, {}, {"STARMAN_EVAL": "x"}, "/nowhere")
    assert (settings.app, settings.eval) == (None, None)
    settings = from_keywords(application, {}, {"STARMAN_APP": "a:b"}, "/nowhere")
    assert (settings.app, settings.eval) == (None, None)


def test_without_an_application_the_environment_may_name_it() -> None:
    assert from_keywords(..., {}, {"STARMAN_APP": "a:b"}, "/nowhere").app == "a:b"
    assert from_keywords(..., {"eval": "x"}, {"STARMAN_APP": "a:b"}, "/nowhere").eval == "x"


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"wrokers": 3}, "run(wrokers=...): unknown setting 'wrokers'; did you mean 'workers'?"),
        ({"workers": "x"}, "run(workers=...): 'x' is not valid; workers takes"),
        ({"eval": "x"}, "run(app) and run(eval=...): give one application, not two"),
        ({"config": "x.toml"}, "run(config=...): unknown setting 'config'"),
    ],
)
def test_refusals_of_keywords(keywords: dict[str, object], words: str) -> None:
    for app in ("a:b", application):
        with pytest.raises(SettingError, match=re.escape(words)):
            from_keywords(app, keywords, {}, "/nowhere")


# What the master pays


LARGE = (
    "anyio argparse asyncio dataclasses difflib inspect logging multiprocessing re subprocess tempfile threading tomllib "
    "traceback typing urllib starman.wsgi"
)


def test_the_masters_settings_import_nothing_large() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from starman.config import addresses\n"
        "from starman import cli\n"
        "from starman import discovery\n"
        "from starman import loading\n"
        "from starman.config import settings\n"
        "from starman.config import sources\n"
        "settings.Settings.of()\n"
        "print(*sorted(set(sys.argv[2].split()) & set(sys.modules)))"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(Path(__file__).resolve().parents[3]), LARGE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_file_of_python_is_refused(tmp_path: Path) -> None:
    """`workers = 2` is valid in both languages."""
    (tmp_path / "gunicorn.conf.py").write_text("workers = 2\n")
    with pytest.raises(SettingError, match=r"takes TOML; .* run: starman-uv gunicorn -c gunicorn\.conf\.py …"):
        command_line(["--config", "gunicorn.conf.py"], directory=tmp_path)
