"""starman.config.platform_variables: PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS."""

from __future__ import annotations

from pathlib import Path

import pytest

from starman.config.platform_variables import PLATFORM_VARIABLES, from_platform
from starman.config.settings import Settings
from starman.config.sources import from_arguments, from_command_line, from_keywords
from starman.errors import SettingError

ENVIRON = {"PORT": "8080", "WEB_CONCURRENCY": "3"}


def settings_of(argv: list[str], environ: dict[str, str], directory: Path) -> Settings:
    return from_command_line(from_arguments(argv), environ, str(directory))


def test_each_variable_names_a_setting() -> None:
    for variable, name in PLATFORM_VARIABLES.items():
        assert list(from_platform({variable: "1"})) == [name]


def test_they_replace_the_defaults(tmp_path: Path) -> None:
    for settings in (settings_of([], ENVIRON, tmp_path), from_keywords("app", {}, ENVIRON, str(tmp_path))):
        assert [str(address) for address in settings.addresses()] == ["0.0.0.0:8080"]
        assert (settings.workers, settings.source("workers"), settings.source("port")) == (3, "WEB_CONCURRENCY", "PORT")
        assert settings.warnings() == ()


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_not_set(tmp_path: Path, value: str) -> None:
    settings = settings_of([], {"PORT": value, "WEB_CONCURRENCY": value}, tmp_path)
    assert (settings.source("port"), settings.source("workers")) == ("default", "default")


@pytest.mark.parametrize(
    ("argv", "environ", "toml", "address", "workers"),
    [
        (["--listen", ":80", "--workers", "1"], {}, "", "0.0.0.0:80", 1),
        (["--socket", "/s"], {"STARMAN_WORKERS": "2"}, "", "unix:/s", 2),
        ([], {"STARMAN_LISTEN": ":80"}, "", "0.0.0.0:80", 3),
        ([], {}, 'listen = ":80"\nworkers = 4', "0.0.0.0:80", 4),
        ([], {}, 'host = "127.0.0.1"', "127.0.0.1:8080", 3),
        (["--port", "81"], {}, "", "0.0.0.0:81", 3),
    ],
)
def test_every_other_place_comes_first(
    tmp_path: Path, argv: list[str], environ: dict[str, str], toml: str, address: str, workers: int
) -> None:
    (tmp_path / "starman.toml").write_text(toml)
    settings = settings_of(argv, {**ENVIRON, **environ}, tmp_path)
    assert [str(found) for found in settings.addresses()] == [address]
    assert settings.workers == workers
    assert settings.warnings() == ()


@pytest.mark.parametrize(("variable", "value"), [("PORT", "http"), ("PORT", "70000"), ("WEB_CONCURRENCY", "many")])
def test_an_error_names_the_variable(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(SettingError, match=rf"^{variable}: "):
        settings_of([], {variable: value}, tmp_path)


@pytest.mark.parametrize(
    ("variable", "value", "argv"),
    [
        ("PORT", "tcp://10.0.0.1:80", ["--listen", ":80"]),
        ("PORT", "http", ["--socket", "/s"]),
        ("WEB_CONCURRENCY", "many", ["--workers", "1"]),
        ("FORWARDED_ALLOW_IPS", "proxy", ["--forwarded-allow-ips", "10.0.0.1"]),
    ],
)
def test_a_bad_variable_that_is_not_used_is_no_error(tmp_path: Path, variable: str, value: str, argv: list[str]) -> None:
    assert settings_of(argv, {variable: value}, tmp_path).source(argv[0].removeprefix("--").replace("-", "_")) == argv[0]


def test_port_alone_names_no_socket_of_a_supervisor(tmp_path: Path) -> None:
    """systemd and start_server may have opened other sockets."""
    assert not settings_of([], ENVIRON, tmp_path).listens_somewhere
    assert settings_of(["--port", "80"], ENVIRON, tmp_path).listens_somewhere
