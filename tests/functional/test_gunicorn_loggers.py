"""Changes to gunicorn's loggers, by the configuration, its hooks, a class of loggers, or the application: they decide
what is in the access log, as in gunicorn."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.functional.support.harness import wait_until
from tests.functional.support.side_by_side import GUNICORN, STARMAN, running

APPLICATION = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "2"), ("X-Shop", "open")])
    return [b"ok"]
"""
# Each leaves the path /health out of the access log.
FILTER = """
import logging


class NoHealth(logging.Filter):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def filter(self, record):
        return record.args["U"] != self.path


def no_health(record):
    return "/health" not in record.getMessage()
"""
ON_STARTING = (
    FILTER
    + """
def on_starting(server):
    server.log.access_log.addFilter(NoHealth("/health"))
"""
)
ON_STARTING_BY_FUNCTION = (
    FILTER
    + """
def on_starting(server):
    server.log.access_log.addFilter(no_health)
"""
)
POST_FORK = (
    FILTER
    + """
def post_fork(server, worker):
    logging.getLogger("gunicorn.access").addFilter(lambda record: no_health(record))
"""
)
OF_THE_HANDLER = (
    FILTER
    + """
def post_worker_init(worker):
    for handler in worker.log.access_log.handlers:
        handler.addFilter(NoHealth("/health"))
"""
)
SETUP = (
    FILTER
    + """
from gunicorn.glogging import Logger


class OwnLogger(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.access_log.addFilter(NoHealth("/health"))


logger_class = OwnLogger
"""
)
ACCESS = """
from gunicorn import glogging


class OwnLogger(glogging.Logger):
    def access(self, resp, req, environ, request_time):
        assert request_time.total_seconds() < 60
        if req.path != "/health" and environ["PATH_INFO"] != "/health":
            super().access(resp, req, environ, request_time)


logger_class = OwnLogger
"""
FORMAT = "access_log_format = '%(m)s %(U)s %(q)s %(s)s %(B)s %({x-own}i)s %({X-Shop}o)s %({none}i)s'\n"
WAYS = {
    "on_starting": ON_STARTING,
    "on_starting by a function": ON_STARTING_BY_FUNCTION,
    "post_fork": POST_FORK,
    "a handler's filter": OF_THE_HANDLER,
    "setup": SETUP,
    "access": ACCESS,
}


def access_log(server: str, directory: Path, configuration: str, *paths: str) -> list[str]:
    """The lines of the access log after requests for these paths, without those that ask whether the server runs."""
    (directory / "project.py").write_text(APPLICATION)
    (directory / "gunicorn.conf.py").write_text(f"accesslog = 'access.log'\n{configuration}")
    with running(server, directory, ["-b", "127.0.0.1:0", "project"]) as found:
        for path in paths:
            found.request("GET", path, fields={"X-Own": "z"})
        found.request("GET", "/last")
        assert wait_until(lambda: any("/last" in line for line in found.lines("access.log"))), found.process.log
        return [line for line in found.lines("access.log") if "/ready" not in line and "/last" not in line]


@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
@pytest.mark.parametrize("way", WAYS)
def test_health_checks_are_left_out_of_the_access_log(tmp_path: Path, way: str, server: str) -> None:
    """By the same configuration for both servers: gunicorn itself shows that it writes the same."""
    pytest.importorskip("gunicorn")
    lines = access_log(server, tmp_path, WAYS[way] + FORMAT, "/health", "/a?b=1", "/health")
    assert lines == ["GET /a b=1 200 2 z open -"]


def test_filters_of_on_starting_reach_preloaded_and_new_workers(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(f"accesslog = 'access.log'\npreload_app = True\n{ON_STARTING}")
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "project"]) as found:
        found.process.signal(SIGHUP)
        found.process.wait_for("restarted: ")
        found.request("GET", "/health")
        found.request("GET", "/last")
        assert wait_until(lambda: any("/last" in line for line in found.lines("access.log")))
        assert not [line for line in found.lines("access.log") if "/health" in line]


@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
def test_a_filter_may_change_the_record(tmp_path: Path, server: str) -> None:
    pytest.importorskip("gunicorn")
    configuration = """
def redact(record):
    record.args["q"] = "***" if record.args["q"] else "none"
    return True


def post_fork(server, worker):
    worker.log.access_log.addFilter(redact)
"""
    assert access_log(server, tmp_path, configuration + FORMAT, "/a?secret=1", "/b") == [
        "GET /a *** 200 2 z open -",
        "GET /b none 200 2 z open -",
    ]


@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
def test_a_class_of_loggers_may_add_atoms(tmp_path: Path, server: str) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "own.py").write_text(
        "from gunicorn.glogging import Logger\n"
        "class OwnLogger(Logger):\n"
        "    def now(self):\n"
        "        return 'today'\n"
        "    def atoms(self, resp, req, environ, request_time):\n"
        "        found = super().atoms(resp, req, environ, request_time)\n"
        "        return {**found, 'shop': environ['PATH_INFO'].strip('/').upper()}\n"
    )
    configuration = "logger_class = 'own.OwnLogger'\naccess_log_format = '%(t)s %(shop)s %(U)s'\n"
    assert access_log(server, tmp_path, configuration, "/berlin") == ["today BERLIN /berlin"]


@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
def test_handlers_of_the_user_get_the_records(tmp_path: Path, server: str) -> None:
    pytest.importorskip("gunicorn")
    configuration = """
import logging


def post_fork(server, worker):
    handler = logging.FileHandler("access.log")
    handler.setFormatter(logging.Formatter("own %(name)s %(levelname)s %(message)s"))
    logging.getLogger("gunicorn.access").handlers = [handler]
"""
    assert access_log(server, tmp_path, configuration + FORMAT, "/a") == ["own gunicorn.access INFO GET /a  200 2 z open -"]


@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
def test_filters_in_a_configuration_of_logging_see_the_atoms(tmp_path: Path, server: str) -> None:
    pytest.importorskip("gunicorn")
    (tmp_path / "filters.py").write_text(FILTER)
    config = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"health": {"()": "filters.NoHealth", "path": "/health"}},
        "formatters": {"plain": {"format": "own %(message)s"}},
        "handlers": {
            "access": {"class": "logging.FileHandler", "filename": "access.log", "formatter": "plain"},
            "errors": {"class": "logging.StreamHandler"},
        },
        "root": {"level": "INFO", "handlers": []},
        "loggers": {
            "gunicorn.access": {"handlers": ["access"], "filters": ["health"], "level": "INFO", "propagate": False},
            "gunicorn.error": {"handlers": ["errors"], "level": "INFO", "propagate": False},
        },
    }
    configuration = f"logconfig_dict = {config!r}\n{FORMAT}"
    lines = access_log(server, tmp_path, configuration, "/health", "/a")
    assert [line for line in lines if line.startswith("own")] == ["own GET /a  200 2 z open -"]


@pytest.mark.parametrize("way", ["filter", "class"])
def test_a_filter_that_fails_loses_no_line(tmp_path: Path, way: str) -> None:
    body = "    raise ValueError('wrong filter')\n"
    configuration = {
        "filter": f"def wrong(record):\n{body}\ndef post_fork(server, worker):\n    worker.log.access_log.addFilter(wrong)\n",
        "class": "from gunicorn.glogging import Logger\nclass logger_class(Logger):\n"
        f"    def access(self, *arguments):\n    {body}",
    }[way]
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(f"accesslog = 'access.log'\n{FORMAT}{configuration}")
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "project"]) as found:
        found.request("GET", "/a")
        found.request("GET", "/b")
        assert wait_until(lambda: "GET /b  200 2 - open -" in found.lines("access.log"))
        assert found.process.log.count("the logger gunicorn.access failed") == 1
        assert found.process.log.count("ValueError: wrong filter") == 1


def test_no_client_forges_a_line_that_a_filter_has_changed(tmp_path: Path) -> None:
    configuration = """
def own(record):
    record.args = dict(record.args)
    return True


def post_fork(server, worker):
    worker.log.access_log.addFilter(own)


access_log_format = '"%(U)s" %(s)s'
"""
    assert access_log(STARMAN, tmp_path, configuration, "/a%0ab%22%1b") == ['"/a\\x0ab\\"\\x1b" 200']


def test_changes_that_do_not_reach_workers_are_named(tmp_path: Path) -> None:
    configuration = """
import logging


def on_starting(server):
    server.log.access_log.addFilter(lambda record: True)
    server.log.error_log.addHandler(logging.NullHandler())


def when_ready(server):
    server.log.access_log.setLevel("ERROR")
"""
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "project"]) as found:
        on_starting, when_ready = (f"the hook {name} of gunicorn.conf.py" for name in ("on_starting", "when_ready"))
        found.process.wait_for(f"{on_starting} adds a filter to gunicorn.access that cannot be copied to workers")
        found.process.wait_for(f"{on_starting} changes the handlers of gunicorn.error, which has no effect in workers")
        found.process.wait_for(f"{when_ready} changes the logger gunicorn.access, which has no effect in workers")


def test_filters_of_the_error_log_count_for_hooks_and_the_application(tmp_path: Path) -> None:
    configuration = """
def on_starting(server):
    server.log.error_log.addFilter(quiet)


def quiet(record):
    return "secret" not in record.getMessage()


def post_worker_init(worker):
    worker.log.warning("a secret of %s", "post_worker_init")
    worker.log.warning("seen")
"""
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "gunicorn.conf.py").write_text(configuration)
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "project"]) as found:
        found.process.wait_for(r"\[WARNING\] seen")
        assert "secret" not in found.process.log


def test_a_request_that_did_not_run_goes_through_the_logger_as_well(tmp_path: Path) -> None:
    slow = APPLICATION.replace("    start_response", "    time.sleep(1)\n    start_response")
    (tmp_path / "project.py").write_text(f"import time\n{slow}")
    (tmp_path / "gunicorn.conf.py").write_text(f"accesslog = 'access.log'\n{ACCESS}")
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "--threads", "1", "project"]) as found:
        clients = []
        for path in ("/occupies-the-thread", "/health", "/left"):
            clients.append(socket.create_connection(("127.0.0.1", found.port)))
            clients[-1].sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            # In this order, and each in the queue before the next one comes.
            time.sleep(0.2)
        for client in clients[1:]:
            # A reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert wait_until(lambda: any("/occupies" in line for line in found.lines("access.log")))
        assert wait_until(lambda: any('"GET /left HTTP/1.1" 499' in line for line in found.lines("access.log")))
        assert not any("/health" in line for line in found.lines("access.log"))
        clients[0].close()


def test_a_class_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "own.py").write_text("class Strange:\n    pass\n")
    arguments = ["-b", "127.0.0.1:0", "--logger-class", "own.Strange", "project"]
    with running(STARMAN, tmp_path, arguments) as found:
        found.process.wait_for(r"logger_class has no effect: <class 'own.Strange'> is not derived from gunicorn.glogging.Logger")
    done = subprocess.run(
        [sys.executable, "-m", "starman", "gunicorn", "-b", "127.0.0.1:0", "--logger-class", "own.Missing", "project"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "logger_class failed: AttributeError: module 'own' has no attribute 'Missing'" in done.stderr
