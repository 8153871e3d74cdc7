"""starman.gunicorn.stand_in and stand_in_logger: what a configuration file finds when it imports gunicorn."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator

import pytest

from starman import log
from starman.gunicorn import log_handlers, stand_in
from starman.gunicorn.stand_in_logger import Logger


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "gunicorn"}
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "gunicorn"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_it_replaces_an_installed_gunicorn() -> None:
    stand_in.install()
    import gunicorn
    import gunicorn.config
    from gunicorn.glogging import Logger as found  # noqa: N813

    assert f"gunicorn/{gunicorn.__version__}" == gunicorn.SERVER_SOFTWARE
    assert gunicorn.config.AccessLogFormat.default.startswith("%(h)s %(l)s")
    assert gunicorn.config.Timeout.default == 30
    assert found is Logger
    gunicorn.SERVER_SOFTWARE = "own"
    stand_in.install()
    import gunicorn as again

    assert again.SERVER_SOFTWARE == "own"


def test_a_module_that_it_does_not_have_cannot_be_imported() -> None:
    stand_in.install()
    with pytest.raises(ModuleNotFoundError, match=r"gunicorn\.six"):
        import gunicorn.six  # noqa: F401


def test_modules_of_gunicorn_can_be_imported() -> None:
    stand_in.install()
    from gunicorn.app.base import BaseApplication
    from gunicorn.http.body import Body
    from gunicorn.http.errors import InvalidHeader, NoMoreData, ParseException
    from gunicorn.http.message import Request
    from gunicorn.http.wsgi import FileWrapper, Response
    from gunicorn.sock import TCPSocket
    from gunicorn.util import import_app

    assert issubclass(NoMoreData, OSError)
    assert issubclass(InvalidHeader, ParseException)
    assert all(isinstance(found, type) for found in (BaseApplication, Body, Request, Response, FileWrapper, TCPSocket))
    assert import_app("os:getcwd") is os.getcwd
    with pytest.raises(ImportError, match=r"cannot import name 'nothing' .*docs/coming-from-gunicorn\.md"):
        from gunicorn.util import nothing  # noqa: F401


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for level in ("debug", "info", "warning", "error", "critical"):
        monkeypatch.setattr(log, level, lambda text, level=level: found.append((level, text)))
    # pytest adds handlers to loggers that do not propagate.
    monkeypatch.setattr(log_handlers, "is_changed", lambda name: False)
    return found


def test_the_logger_writes_to_the_error_log(lines: list[tuple[str, str]]) -> None:
    logger = Logger()
    logger.info("worker %s of %d", "x", 3)
    logger.warning("%(name)s", {"name": "y"})
    logger.critical("100%")
    logger.debug("hidden")
    logger.log(logging.ERROR, "number")
    logger.log("warning", "name")
    logger.info("wrong %d", "x")
    assert lines == [
        ("info", "worker x of 3"),
        ("warning", "y"),
        ("critical", "100%"),
        ("error", "number"),
        ("warning", "name"),
        ("info", "wrong %d ('x',)"),
    ]


def test_the_logger_writes_tracebacks(lines: list[tuple[str, str]]) -> None:
    logger = Logger()
    try:
        raise KeyError("gone")
    except KeyError as error:
        logger.exception("failed")
        logger.error("failed", exc_info=error)
        logger.error("failed", exc_info=sys.exc_info())
    logger.error("failed", exc_info=None)
    assert [text.startswith("failed\nTraceback") for _, text in lines] == [True, True, True, False]


def test_the_level_is_that_of_the_error_log(lines: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "enabled", lambda level: level <= 20)
    settings = type("Settings", (), {"loglevel": "debug"})()
    Logger(settings).debug("shown")
    Logger(settings).error("hidden")
    assert lines == [("debug", "shown")]
    assert Logger(settings).loglevel == logging.DEBUG
    assert Logger(settings).error_log.name == "gunicorn.error"
    assert Logger(settings).access_log.name == "gunicorn.access"
