"""Logs of a gunicorn configuration: levels, formats, and configurations of Python's `logging`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.harness import wait_until
from tests.functional.support.side_by_side import GUNICORN, STARMAN, running
from tests.unit.gunicorn.resolving import command

APPLICATION = """\
import logging

logging.getLogger("gunicorn.error").debug("hidden detail")


def application(environ, start_response):
    if environ["PATH_INFO"] == "/log":
        logging.getLogger("shop").info("of the application")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
CONFIGURATION: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(name)s %(levelname)s %(message)s"}},
    "handlers": {
        name: {"class": "logging.FileHandler", "filename": f"{name}.log", "formatter": "plain"}
        for name in ("errors", "access", "shop")
    },
    "root": {"level": "INFO", "handlers": []},
    "loggers": {
        "gunicorn.error": {"handlers": ["errors"], "level": "INFO", "propagate": False},
        "gunicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        "shop": {"handlers": ["shop"], "level": "INFO", "propagate": False},
    },
}
FORMS = ("dict", "json")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("server", [GUNICORN, STARMAN])
def test_a_configuration_of_logging_is_for_the_server_and_the_application(tmp_path: Path, server: str, form: str) -> None:
    """By the same files for both servers. gunicorn itself is run to show that it writes the same."""
    pytest.importorskip("gunicorn")
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "logging.json").write_text(json.dumps(CONFIGURATION))
    setting = f"logconfig_dict = {CONFIGURATION!r}" if form == "dict" else "logconfig_json = 'logging.json'"
    (tmp_path / "gunicorn.conf.py").write_text(f"{setting}\naccess_log_format = '%(m)s %(U)s %(s)s %(b)s'\n")
    bound = ["-b", "127.0.0.1:0"]
    with running(server, tmp_path, [*bound, "project"], log=tmp_path / "errors.log") as found:
        found.request("GET", "/log")
        assert wait_until(lambda: "gunicorn.access INFO GET /log 200 2" in found.lines("access.log"))
        assert found.lines("shop.log") == ["shop INFO of the application"]
        assert all(line.startswith("gunicorn.error INFO ") for line in found.lines("errors.log"))


def test_a_configuration_of_logging_may_name_a_class_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(APPLICATION)
    (tmp_path / "shades.py").write_text("import logging\n\n\nclass Red(logging.Formatter):\n    pass\n")
    changed = {**CONFIGURATION, "formatters": {"plain": {"()": "shades.Red", "fmt": "red %(message)s"}}}
    (tmp_path / "gunicorn.conf.py").write_text(f"logconfig_dict = {changed!r}\n")
    with running(STARMAN, tmp_path, ["-b", "127.0.0.1:0", "project"], log=tmp_path / "errors.log") as found:
        found.request("GET", "/log")
        assert found.lines("shop.log") == ["red of the application"]


def test_a_wrong_configuration_of_logging_prevents_the_start(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(APPLICATION)
    wrong = "{'handlers': {'x': {'class': 'no.Handler'}}}"
    (tmp_path / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:0'\nlogconfig_dict = {wrong}\n")
    done = command("project", cwd=tmp_path)
    assert done.returncode != 0
    assert "no.Handler" in done.stderr or "'x'" in done.stderr


def test_the_level_holds_for_hooks_and_the_application(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text(APPLICATION)
    hook = "def post_fork(server, worker):\n    worker.log.debug('detail of %s', 'post_fork')\n"
    (tmp_path / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:0'\nloglevel = 'debug'\n{hook}")
    with running(STARMAN, tmp_path, ["project"]) as found:
        found.process.wait_for(r"\[DEBUG\] detail of post_fork")
        found.process.wait_for(r"\[DEBUG\] hidden detail")
    (tmp_path / "gunicorn.conf.py").write_text(f"bind = '127.0.0.1:0'\n{hook}")
    with running(STARMAN, tmp_path, ["project"]) as found:
        assert "detail" not in found.process.log
