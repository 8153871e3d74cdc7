"""starman.process.master.executor: what it logs of a stop, and of workers that are about to be killed."""

from __future__ import annotations

import time
from typing import Any

import pytest

from starman.process.master.executor import COUNT_SECONDS, Executor
from starman.process.supervision import actions
from starman.process.supervision.actions import Level


class FakeReader:
    """The scoreboard's reader: three requests are in flight. `described` has the links that it described."""

    def __init__(self) -> None:
        self.counted = False
        self.described: list[object] = []

    def all_have_counted(self) -> bool:
        return self.counted

    def count_in_flight(self) -> int:
        return 3

    def describe_requests(self, link: object, now: float) -> str:
        self.described.append(link)
        return " while serving"


class FakeLinks:
    """Links with one, of the child 7."""

    def find_link(self, number: int) -> str | None:
        return "link" if number == 7 else None


def executor_of(reader: FakeReader) -> Executor:
    """An executor with `reader`, and without children."""
    fakes: Any = reader, FakeLinks()
    unused: Any = None
    return Executor(unused, fakes[1], fakes[0], unused, lambda: None, unused)


LOGGED = "stopping: 3 requests are in flight and may take 30 s to finish; a second signal aborts them\n"


def test_the_stop_is_logged_when_all_workers_have_counted(capfd: pytest.CaptureFixture[str]) -> None:
    reader = FakeReader()
    executor = executor_of(reader)
    assert executor.next_instants() == []
    executor.perform(actions.LogStopping(30.0))
    executor.log_stop_when_counted(time.monotonic())
    assert "stopping" not in capfd.readouterr().err
    reader.counted = True
    for _ in range(2):
        executor.log_stop_when_counted(time.monotonic())
    assert capfd.readouterr().err.count(LOGGED) == 1
    assert executor.next_instants() == []


def test_the_stop_is_logged_soon_although_a_worker_has_not_counted(capfd: pytest.CaptureFixture[str]) -> None:
    executor = executor_of(FakeReader())
    executor.perform(actions.LogStopping(30.0))
    (instant,) = executor.next_instants()
    assert 0 <= instant - time.monotonic() <= COUNT_SECONDS
    executor.log_stop_when_counted(instant - 0.001)
    assert capfd.readouterr().err == ""
    executor.log_stop_when_counted(instant)
    assert capfd.readouterr().err.count(LOGGED.replace("stopping: ", "stopping: at least ")) == 1


def test_the_stop_is_logged_at_once_if_no_worker_has_to_count(capfd: pytest.CaptureFixture[str]) -> None:
    reader = FakeReader()
    reader.counted = True
    executor_of(reader).perform(actions.LogStopping(30.0))
    assert LOGGED in capfd.readouterr().err


@pytest.mark.parametrize(("child", "described"), [(0, [None]), (7, ["link"]), (8, [])])
def test_a_kill_is_logged_with_the_requests_of_one_worker_or_of_all(
    child: int, described: list[object], capfd: pytest.CaptureFixture[str]
) -> None:
    reader = FakeReader()
    executor_of(reader).perform(actions.LogKill(Level.WARNING, "it is killed", child))
    assert reader.described == described
    assert ("it is killed while serving\n" in capfd.readouterr().err) == bool(described)


def test_an_unknown_action_is_logged_once(capfd: pytest.CaptureFixture[str]) -> None:
    executor = executor_of(FakeReader())
    for _ in range(2):
        executor.perform(actions.Action())
    assert capfd.readouterr().err.count("the master could not carry out Action: TypeError: this action is unknown\n") == 1
