"""--log-config: the records of all processes pass through Python's logging, in recipes that users have."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import Server, wait_until

APPLICATION = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/error":
        raise ValueError("broken")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""

# Handlers of a user, in a module beside the application.
HANDLERS = """
import logging, logging.handlers, queue, time

class Queued(logging.handlers.QueueHandler):
    def __init__(self, filename):
        super().__init__(queue.Queue())
        self.listener = logging.handlers.QueueListener(self.queue, logging.FileHandler(filename))
        self.listener.start()

class Failing(logging.Handler):
    def handle(self, record):
        raise RuntimeError("out of order")

class Hanging(logging.Handler):
    def handle(self, record):
        time.sleep(3600)
"""

INI = """
[loggers]
keys = root, error, access
[handlers]
keys = errors, access
[formatters]
keys = plain
[logger_root]
level = WARNING
handlers =
[logger_error]
qualname = gunicorn.error
level = INFO
propagate = 0
handlers = errors
[logger_access]
qualname = gunicorn.access
level = INFO
propagate = 0
handlers = access
[handler_errors]
class = FileHandler
args = ("errors",)
formatter = plain
[handler_access]
class = FileHandler
args = ("access",)
formatter = plain
[formatter_plain]
format = %(name)s %(levelname)s %(message)s
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return tmp_path


def with_handler(directory: Path, handler: dict[str, object], name: str = "starman.error") -> str:
    """The name of a configuration with one handler for both loggers."""
    config = {
        "version": 1,
        "formatters": {
            "plain": {"format": "%(name)s|%(levelname)s|%(process)d|%(message)s"},
            "json": {"()": "pythonjsonlogger.json.JsonFormatter", "fmt": "%(name)s %(levelname)s %(process)d %(message)s"},
        },
        "handlers": {"one": handler},
        "loggers": {logger: {"handlers": ["one"], "level": "INFO"} for logger in (name, name.replace("error", "access"))},
    }
    (directory / "log.json").write_text(json.dumps(config))
    return "log.json"


def to_file(formatter: str = "plain") -> dict[str, object]:
    return {"class": "logging.FileHandler", "filename": "out", "formatter": formatter}


def running(directory: Path, config: str, *arguments: str) -> Server:
    """A server on the UNIX socket `s`, when it answers."""
    given = ("--log-config", config, "--workers", "2", *arguments)
    server = Server("app:app", *given, cwd=directory, ready=False, listen=f"{directory}/s")
    assert wait_until(lambda: server.status is not None or answers(directory), 30)
    assert server.status is None, server.log
    return server


def answers(directory: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(f"{directory}/s") == 0


def get(server: Server, path: str) -> int:
    with server.client() as client:
        return client.get(path).status


def has(path: Path, words: str) -> bool:
    return wait_until(lambda: path.exists() and words in path.read_text(), 30)


@pytest.mark.parametrize("name", ["starman.error", "gunicorn.error"])
def test_all_processes_log_once_and_in_order(directory: Path, name: str) -> None:
    out = directory / "out"
    with running(directory, with_handler(directory, to_file(), name), "--access-log", "logging") as server:
        assert has(out, " ready: ")
        assert get(server, "/error") == 500
        assert has(out, "GET /error HTTP/1.1")
        assert server.stop() == 0
    text = out.read_text()
    assert re.search(rf"{name}\|INFO\|{server.pid}\|starman \S+ ready: ", text)
    assert re.search(rf"{name}\|ERROR\|\d+\|the application failed: GET /error\nTraceback ", text)
    assert text.count("ValueError: broken") == 1
    assert text.count("GET /error HTTP/1.1") == 1
    assert f"{name.replace('error', 'access')}|INFO|" in text
    assert text.rstrip().endswith("has ended")
    assert server.log == ""


def test_the_formatter_of_python_json_logger(directory: Path) -> None:
    pytest.importorskip("pythonjsonlogger")
    out = directory / "out"
    with running(directory, with_handler(directory, to_file("json"))) as server:
        assert get(server, "/error") == 500
        assert has(out, "broken")
    records = [json.loads(line) for line in out.read_text().splitlines()]
    failure = next(record for record in records if record["levelname"] == "ERROR")
    assert failure["message"] == "the application failed: GET /error"
    assert failure["exc_info"].endswith("ValueError: broken")


def test_a_file_for_fileconfig_with_the_loggers_of_gunicorn(directory: Path) -> None:
    (directory / "log.ini").write_text(INI)
    with running(directory, "log.ini", "--access-log", "logging") as server:
        assert get(server, "/") == 200
        assert has(directory / "access", '"GET / HTTP/1.1" 200')
    assert "gunicorn.error INFO starman" in (directory / "errors").read_text()


def test_a_queue_handler_logs_everything_before_the_end(directory: Path) -> None:
    with running(directory, with_handler(directory, {"()": "handlers.Queued", "filename": "out"})):
        assert has(directory / "out", " ready: ")
    assert (directory / "out").read_text().rstrip().endswith("has ended")


def test_the_listener_that_dictconfig_makes_is_started(directory: Path) -> None:
    """Python 3.12 makes one. Before, the configuration is wrong, and the error says where."""
    config = {
        "version": 1,
        "handlers": {
            "file": {"class": "logging.FileHandler", "filename": "out"},
            "queued": {"class": "logging.handlers.QueueHandler", "handlers": ["file"], "respect_handler_level": True},
        },
        "root": {"handlers": ["queued"], "level": "INFO"},
    }
    (directory / "log.json").write_text(json.dumps(config))
    if sys.version_info < (3, 12):
        done = starman("--log-config", "log.json", "--listen", f"{directory}/s", "app:app", cwd=directory)
        assert done.returncode == 2
        assert "Unable to configure handler 'queued'" in done.stderr
        return
    with running(directory, "log.json"):
        assert has(directory / "out", " ready: ")
    assert (directory / "out").read_text().rstrip().endswith("has ended")


def test_without_a_logger_for_the_server_root_and_standard_error_are_used(directory: Path) -> None:
    (directory / "log.toml").write_text('[formatters.plain]\nformat = "%(message)s"\n')
    with running(directory, "log.toml") as server:
        server.wait_for(rf"\[{server.pid}\] \[INFO\] starman \S+ ready: ")


@pytest.mark.parametrize("has_logger", [True, False])
def test_a_logger_that_is_not_used_is_named_on_standard_error(directory: Path, has_logger: bool) -> None:
    names = ["starman.error", *(["starman.access"] if has_logger else [])]
    config = {
        "handlers": {"one": {"class": "logging.FileHandler", "filename": "out"}},
        "loggers": {name: {"handlers": ["one"], "level": "INFO"} for name in names},
    }
    (directory / "log.json").write_text(json.dumps(config))
    with running(directory, "log.json") as server:
        assert has(directory / "out", "ready")
        assert ("has a logger for the access log, which is not used" in server.log) is has_logger


def test_a_handler_that_fails_loses_nothing(directory: Path) -> None:
    with running(directory, with_handler(directory, {"()": "handlers.Failing"})) as server:
        server.wait_for("a handler of log_config failed; .* RuntimeError: out of order")
        server.wait_for(r"\[INFO\] starman \S+ ready: ")
        assert get(server, "/error") == 500
        server.wait_for("ValueError: broken")
        assert server.log.count("out of order") == 1


def test_a_handler_that_hangs_holds_up_no_request_and_no_stop(directory: Path) -> None:
    server = running(directory, with_handler(directory, {"()": "handlers.Hanging"}))
    try:
        assert wait_until(lambda: len(server.worker_pids()) == 2, 30)
        for _ in range(20):
            assert get(server, "/error") == 500
        assert server.stop() == 0
        assert "has not logged the last records within 5 s, and is killed" in server.log
    finally:
        server.kill()


def test_usr1_opens_the_files_again(directory: Path) -> None:
    out = directory / "out"
    with running(directory, with_handler(directory, to_file())) as server:
        assert has(out, " ready: ")
        out.rename(directory / "old")
        server.signal(signal.SIGUSR1)
        assert has(out, "the logs are reopened")
        (directory / "log.json").write_text("{")
        server.signal(signal.SIGUSR1)
        server.wait_for("the logs are not opened again: log_config: .*log.json: ")
        assert get(server, "/error") == 500
        assert has(out, "broken")


def test_a_log_process_that_is_killed_is_started_again(directory: Path) -> None:
    out = directory / "out"
    with running(directory, with_handler(directory, to_file())) as server:
        assert has(out, " ready: ")
        pid = next(pid for pid in server.children() if b"starman log" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: pid not in server.children())  # what it has just read is lost
        assert get(server, "/error") == 500
        server.wait_for("the log process has ended; it is started again")
        assert has(out, "ValueError: broken")


def test_a_log_process_that_is_killed_before_the_stop_loses_nothing(directory: Path) -> None:
    config = with_handler(directory, to_file())
    with running(directory, config, "--access-log", "logging") as server:
        assert has(directory / "out", "ready")
        pid = next(pid for pid in server.children() if b"starman log" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(pid, signal.SIGKILL)
        server.wait_for("the log process has ended")
        assert get(server, "/last") == 200
    text = (directory / "out").read_text()
    assert "GET /last" in text
    assert re.search("starman .* has ended", text)


def test_an_upgrade_and_a_restart_go_on_with_it(directory: Path) -> None:
    out = directory / "out"
    with running(directory, with_handler(directory, to_file())) as server:
        server.signal(signal.SIGHUP)
        assert has(out, "restarting the workers")
        server.signal(signal.SIGUSR2)
        assert has(out, "has taken over")
        assert has(out, "restarted: ")
        assert get(server, "/error") == 500
        assert has(out, "ValueError: broken")
    assert out.read_text().rstrip().endswith("has ended")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("log.json", "{", "log.json: Expecting property name"),
        ("log.toml", "x", "log.toml: Expected '='"),
        ("log.ini", "[x]", "log.ini: KeyError: 'formatters'"),
        ("log.json", '{"handlers": {"x": {"class": "nowhere.Handler"}}}', "Unable to configure handler 'x' (ValueError"),
        ("log.json", "[]", "has no table at its top"),
        ("missing", None, "cannot read"),
    ],
)
def test_a_wrong_configuration_prevents_the_start(directory: Path, name: str, text: str | None, words: str) -> None:
    if text is not None:
        (directory / name).write_text(text)
    done = starman("--log-config", name, "--listen", f"{directory}/s", "app:app", cwd=directory)
    assert done.returncode == 2, done.stderr
    assert "log_config: " in done.stderr
    assert words in done.stderr


def test_settings_that_exclude_each_other(directory: Path) -> None:
    done = starman("--access-log", "logging", "app:app", cwd=directory)
    assert done.returncode == 2
    assert "access_log logging needs log_config" in done.stderr


def test_a_mapping_of_a_program(directory: Path) -> None:
    config = json.loads((directory / with_handler(directory, to_file())).read_text())
    (directory / "program.py").write_text(
        f"import starman\nstarman.run('app:app', listen='{directory}/s', workers=1, log_config={config!r})\n"
    )
    from tests.functional.support.harness import Process

    process = Process([sys.executable, "program.py"], cwd=directory)
    try:
        assert has(directory / "out", " ready: ")
        assert process.stop() == 0
    finally:
        process.kill()
    assert (directory / "out").read_text().rstrip().endswith("has ended")
