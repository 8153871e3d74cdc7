"""starman.gunicorn.workers.logger_changes: what on_starting changes of the loggers reaches workers."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from starman import log
from starman.gunicorn import configuration_reader as reading
from starman.gunicorn.log_handlers import ACCESS
from starman.gunicorn.workers import logger_changes


class Path(logging.Filter):
    """Has a path."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is logged. The loggers and the file are as before at the end."""
    found: list[str] = []
    monkeypatch.setattr(log, "warning", found.append)
    fd = os.memfd_create("test")
    monkeypatch.setattr(reading, "logger_changes", fd)
    logger = logging.getLogger(ACCESS)
    monkeypatch.setattr(logger, "filters", [])
    monkeypatch.setattr(logger, "level", logger.level)
    yield found
    os.close(fd)


def test_filters_and_the_level_are_copied(warnings: list[str]) -> None:
    logger = logging.getLogger(ACCESS)
    before = logger_changes.seen()
    logger.addFilter(Path("/health"))
    logger.setLevel(logging.ERROR)
    logger_changes.leave(before, "on_starting")
    logger.filters = []
    logger.setLevel(logging.INFO)
    logger_changes.take_over()
    (copy,) = logger.filters
    assert isinstance(copy, Path)
    assert (copy.path, logger.level, warnings) == ("/health", logging.ERROR, [])


def test_nothing_is_copied_if_nothing_has_changed(warnings: list[str]) -> None:
    logger_changes.leave(logger_changes.seen(), "on_starting")
    logger_changes.take_over()
    assert (logging.getLogger(ACCESS).filters, warnings) == ([], [])


def test_what_cannot_be_copied_is_named(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger(ACCESS)
    before = logger_changes.seen()
    logger.addFilter(lambda record: True)
    logger_changes.leave(before, "the hook")
    logger_changes.warn(before, "the other")
    assert warnings[0].startswith("the hook adds a filter to gunicorn.access that cannot be copied to workers (")
    assert warnings[1].startswith("the other changes the logger gunicorn.access, which has no effect in workers: do it in")
    monkeypatch.setattr(reading, "logger_changes", -1)
    logger.addFilter(Path("/x"))
    logger_changes.leave(before, "the hook")
    logger_changes.take_over()
    assert warnings[-1].startswith("the hook changes the logger gunicorn.access, which has no effect in workers on this system")


def test_a_filter_whose_class_is_gone_is_named(warnings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before = logger_changes.seen()
    logging.getLogger(ACCESS).addFilter(Path("/x"))
    logger_changes.leave(before, "on_starting")
    monkeypatch.delitem(globals(), "Path")
    logger_changes.take_over()
    assert len(warnings) == 1
    assert warnings[0].startswith("a filter of on_starting for gunicorn.access cannot be copied (AttributeError: ")
