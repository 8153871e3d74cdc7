"""starman.gunicorn.command_line: the options of gunicorn in all spellings."""

from __future__ import annotations

import re

import pytest

from starman.errors import SettingError
from starman.gunicorn.command_line import help_text, parse_arguments, parse_variable


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-w", "4", "app:app"], {"workers": 4}),
        (["app:app", "--workers=4"], {"workers": 4}),
        (["-w4", "app:app"], {"workers": 4}),
        (["-w", "2", "app:app", "-w", "3"], {"workers": 3}),
        (["-b", ":80", "--bind", "unix:x", "app:app"], {"bind": [":80", "unix:x"]}),
        (["--conf", "x.py", "app:app"], {"config": "x.py"}),
        (["--access-logfile", "-", "--log-file", "e", "app:app"], {"accesslog": "-", "errorlog": "e"}),
        (["--limit-request-field_size", "9", "app:app"], {"limit_request_field_size": 9}),
        (["--no-sendfile", "--preload", "-D", "app:app"], {"sendfile": False, "preload_app": True, "daemon": True}),
        (["--proxy-protocol", "--umask", "022", "app:app"], {"proxy_protocol": "auto", "umask": 18}),
        (["app:app", "--proxy-protocol"], {"proxy_protocol": "auto"}),
        (["-e", "A=1", "--env", "B=2", "app:app"], {"raw_env": ["A=1", "B=2"]}),
        (["app:app"], {}),
    ],
)
def test_options_are_read_as_gunicorn_reads_them(argv: list[str], expected: dict[str, object]) -> None:
    assert parse_arguments(argv).given == expected


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--wrokers", "3"], "unrecognized arguments: --wrokers; did you mean '--workers'?; starman-uv gunicorn --help"),
        (["-w", "many"], "argument -w/--workers: invalid int value: 'many'"),
        (["-w"], "argument -w/--workers: expected one argument"),
        (["--worker", "3"], "ambiguous option: --worker could match --workers"),
        (["-m", "x"], "argument -m/--umask: invalid int value: 'x'"),
    ],
)
def test_a_wrong_command_line_is_an_error(argv: list[str], expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        parse_arguments(argv)


def test_the_variable_is_split_as_a_shell_does() -> None:
    assert parse_variable("--name 'my app' -w 2").given == {"proc_name": "my app", "workers": 2}
    with pytest.raises(SettingError, match="GUNICORN_CMD_ARGS: No closing quotation"):
        parse_variable("--name 'my")
    with pytest.raises(SettingError, match="GUNICORN_CMD_ARGS: unrecognized arguments: --nothing"):
        parse_variable("--nothing")


def test_help_names_the_command_and_every_option() -> None:
    text = help_text()
    assert text.startswith("usage: starman-uv gunicorn")
    assert "--limit-request-field_size INT" in text
    assert "--to-toml" in text


@pytest.mark.parametrize(
    ("option", "meant"), [("--workerz", "'--workers'"), ("--listen", "'--bind'"), ("--workerz=2", "'--workers'")]
)
def test_an_unknown_option_names_the_nearest(option: str, meant: str) -> None:
    with pytest.raises(SettingError, match=f"unrecognized arguments: {option}.*; did you mean {meant}"):
        parse_arguments([option, "2", "app:app"])
