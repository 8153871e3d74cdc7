"""starman.gunicorn.print_config: --print-config and --to-toml."""

from __future__ import annotations

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
    text = toml(outcomes)
    read = Settings({name: GivenValue(value, name) for name, value in tomllib.loads(text).items()})
    assert read.snapshot()[0] == expected.snapshot()[0]
    assert "# worker_tmp_dir = /dev/shm: harmless: starman writes no heartbeat to a file" in text
    assert 'statsd_host = "x:1"' in text


def test_the_table_has_a_line_for_each_setting() -> None:
    lines = table(mapped(**GIVEN).found).splitlines()
    assert [line.split()[0] for line in lines if line.split()[0] in GIVEN] == [
        name for name in mapped(**GIVEN)._resolved.values if name in GIVEN
    ]
    found = next(line for line in lines if line.startswith("bind"))
    assert found.split("  ")[-1] == "-> listen = unix:x, 0.0.0.0:80, socket_mode = 0750"


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
