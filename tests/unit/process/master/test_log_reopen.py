"""starman.process.master.log_reopen: which children reopen their logs, and when the log says that all have."""

from __future__ import annotations

from typing import Any

import pytest

from starman.process.master import log_reopen as module
from starman.process.master.log_reopen import LogReopen
from starman.process.message_base import Message
from starman.process.messages import Reopen

MOLD, WORKER, TRIAL = 1, 2, -1


class FakeLink:
    """A link to a child that is no observer."""

    kinds = ()

    def __init__(self, number: int) -> None:
        self.number = number


class FakeLinks(list[FakeLink]):
    """Links to a mold, a worker and a trial. `sent` has the numbers and descriptors of the orders."""

    def __init__(self) -> None:
        super().__init__([FakeLink(MOLD), FakeLink(WORKER), FakeLink(TRIAL)])
        self.sent: list[tuple[int, list[int]]] = []
        self.closed: set[int] = set()

    def send(self, link: FakeLink, message: Message, fds: list[int]) -> bool:
        assert isinstance(message, Reopen)
        self.sent.append((link.number, fds))
        return link.number not in self.closed


class FakeErrorLog:
    """An error log with a file, or one that cannot be reopened."""

    def __init__(self) -> None:
        self.error: OSError | None = None

    def reopen(self) -> bool:
        if self.error is not None:
            raise self.error
        return True


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of the error log."""
    lines: list[str] = []
    for level in ("info", "error"):
        monkeypatch.setattr(module.log, level, lines.append)
    return lines


def log_reopen_of(links: FakeLinks, error_log: FakeErrorLog | None = None) -> LogReopen:
    fakes: Any = links, error_log or FakeErrorLog()
    return LogReopen(fakes[0], fakes[1])


def test_the_last_child_ends_it(lines: list[str]) -> None:
    links = FakeLinks()
    log_reopen = log_reopen_of(links)
    log_reopen.begin()
    assert links.sent == [(MOLD, [2]), (WORKER, [2])], "not the trial"
    log_reopen.on_reopened(MOLD)
    assert log_reopen.busy
    assert lines == ["reopening the logs"]
    log_reopen.on_reopened(WORKER)
    assert not log_reopen.busy
    assert lines == ["reopening the logs", "the logs are reopened"]


def test_a_child_answers_each_order(lines: list[str]) -> None:
    log_reopen = log_reopen_of(FakeLinks())
    log_reopen.begin()
    log_reopen.begin()
    for number in (MOLD, WORKER, MOLD):
        log_reopen.on_reopened(number)
    assert log_reopen.busy
    log_reopen.on_reopened(WORKER)
    assert lines[-1] == "the logs are reopened"
    assert lines.count("the logs are reopened") == 1


def test_a_child_that_has_ended_is_not_awaited(lines: list[str]) -> None:
    links = FakeLinks()
    links.closed.add(MOLD)
    log_reopen = log_reopen_of(links)
    log_reopen.begin()
    log_reopen.on_gone(WORKER)
    assert lines == ["reopening the logs", "the logs are reopened"]
    log_reopen.on_gone(WORKER)
    log_reopen.on_reopened(MOLD)
    assert len(lines) == 2


def test_children_keep_an_error_log_that_cannot_be_reopened(lines: list[str]) -> None:
    links, error_log = FakeLinks(), FakeErrorLog()
    error_log.error = PermissionError(13, "Permission denied")
    log_reopen_of(links, error_log).begin()
    assert [fds for _, fds in links.sent] == [[], []]
    assert lines[0] == "the error log stays as it is, because it cannot be opened again: Permission denied"
