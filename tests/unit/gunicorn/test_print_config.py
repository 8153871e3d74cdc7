"""starman.gunicorn.print_config: --print-config and --to-toml."""

from __future__ import annotations

import logging
import sys
import tomllib
from pathlib import Path

from starman.config.option import GivenValue
from starman.config.settings import Settings
from starman.gunicorn.print_config import table, toml
from tests.unit.gunicorn.resolving import command, mapped

GIVEN = {
    "bind": ["unix:x", ":80"],
    "workers": 3,
    "umask": 0o27,
    "raw_env": ['A="1"\n\\', "B=\u202e"],
    "preload_app": True,
    "accesslog": "-",
    "errorlog": "-",
    "graceful_timeout": 0,
    "worker_tmp_dir": "/dev/shm",
    "statsd_host": "x:1",
    "user": 12,
    "limit_request_line": 0,
}


def test_the_file_gives_the_same_settings() -> None:
    outcomes = mapped(**GIVEN)
    expected = Settings({**outcomes.defaults, **outcomes.given})
    text = toml(outcomes).text
    read = Settings({name: GivenValue(value, name) for name, value in tomllib.loads(text).items()})
    assert read.snapshot()[0] == expected.snapshot()[0]
    assert "# worker_tmp_dir = /dev/shm: harmless: starman writes no heartbeat to a file" in text
    assert "the loggers gunicorn.error and gunicorn.access have no handlers" in text
    assert 'statsd_host = "x:1"' in text


LOGGING = {
    "handlers": {
        "console": {"class": "logging.StreamHandler", "stream": sys.stderr, "formatter": "own"},
        "never": {"class": "logging.handlers.QueueHandler", "queue": {"()": "queue.Queue", "maxsize": 10}},
    },
    "formatters": {"own": {"()": logging.Formatter, "fmt": 'own "%(message)s"\t\n', "defaults": {"a.b": 1.5, "": True}}},
    "loggers": {"shop.orders": {"level": "DEBUG", "handlers": ["console"], "propagate": False}},
    "filters": {"odd": {"()": "shop.Odd", "lists": [[1, 2], [{"a b": 3}], []]}},
}


def test_the_file_has_the_configuration_of_the_logs_as_a_table() -> None:
    """The settings after it are not taken for its keys."""
    outcomes = mapped(**GIVEN, logconfig_dict=LOGGING)
    written = toml(outcomes)
    read = tomllib.loads(written.text)
    assert written.missing == ""
    assert read["log_config"] == outcomes.given["log_config"].value
    assert read["log_config"]["formatters"]["own"]["()"] == "logging.Formatter"
    values = Settings({name: GivenValue(value, name) for name, value in read.items()})
    assert values.snapshot()[0] == Settings({**outcomes.defaults, **outcomes.given}).snapshot()[0]


def test_the_command_says_what_the_file_cannot_hold(tmp_path: Path) -> None:
    """TOML has no None."""
    logs = {"loggers": {"shop": {"level": "INFO", "filters": None}}}
    (tmp_path / "gunicorn.conf.py").write_text(f"logconfig_dict = {logs}\nworkers = 3\n")
    done = command("shop", "--to-toml", cwd=tmp_path)
    reason = "gunicorn.conf.py: logconfig_dict: log_config.loggers.shop.filters is None, which TOML cannot hold"
    assert done.returncode == 1
    assert f"starman: the settings above are incomplete: {reason}" in done.stderr
    assert f"# log_config is missing: {reason}" in done.stdout
    assert "log_config" not in tomllib.loads(done.stdout)
    assert tomllib.loads(done.stdout)["workers"] == 3


def test_the_table_has_a_line_for_each_setting() -> None:
    lines = table(mapped(**GIVEN)).splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in GIVEN] == [
        name for name in mapped(**GIVEN)._resolved.values if name in GIVEN
    ]
    found = next(line for line in lines if line.startswith("bind"))
    assert found.split("  ")[-1] == "-> listen = unix:x, 0.0.0.0:80, socket_mode = 0750"


def test_the_table_has_what_follows_from_the_defaults_of_gunicorn() -> None:
    """They decide, for example, what REMOTE_ADDR is."""
    lines = [" ".join(line.split()) for line in table(mapped()).splitlines()]
    assert "- gunicorn's default -> max_body = 0" in lines
    assert "- gunicorn's default -> forwarded = proto" in lines
    names = "SCRIPT_NAME, PATH_INFO"
    assert f"forwarder_headers {names} gunicorn's default -> forwarder_headers = {names}" in lines
    assert "- the command line -> app = app:app" in lines
    assert table(mapped(None, wsgi_app="app:app")).count("-> app = ") == 1


def test_the_command_prints_both(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def application(environ, start_response): return []\n")
    done = command("shop", "--print-config", "-w", "3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "workers 3 --workers -> workers = 3" in " ".join(done.stdout.split())
    assert "print_config" not in done.stdout
    assert "application  shop:application: loaded" in done.stdout
    done = command("shop", "--print-config", "--worker-class", "uvicorn.workers.UvicornWorker", cwd=tmp_path)
    assert done.returncode == 1
    assert "refused: uvicorn.workers.UvicornWorker serves ASGI" in done.stdout
