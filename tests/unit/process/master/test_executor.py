"""starman.process.master.executor: when the master says that a stop has begun."""

from __future__ import annotations

import time
from typing import Any

import pytest

from starman.process.master.executor import COUNT_SECONDS, Orders
from starman.process.supervision import actions
from starman.process.supervision.actions import Level


class ScoreboardReader:
    """What the scoreboard would tell."""

    def __init__(self) -> None:
        self.counted = False
        self.asked: list[object] = []

    def all_have_counted(self) -> bool:
        return self.counted

    def count_in_flight(self) -> int:
        return 3

    def describe_requests(self, link: object, now: float) -> str:
        self.asked.append(link)
        return " while serving"


def orders_of(reader: ScoreboardReader) -> Orders:
    links: Any = type("Links", (), {"find_link": lambda _, number: "link" if number == 7 else None})()
    of_reader: Any = reader
    unused: Any = None
    return Orders(links, of_reader, unused, lambda number, how: None)


SAID = "stopping: 3 requests are in flight and may take 30 s to finish; a second signal cuts them\n"


def test_the_stop_message_waits_until_all_have_counted(capfd: pytest.CaptureFixture[str]) -> None:
    reader = ScoreboardReader()
    orders = orders_of(reader)
    assert orders.instants() == []
    orders.log_stopping(actions.LogStopping(30.0))
    orders.look(time.monotonic())
    assert "stopping" not in capfd.readouterr().err
    reader.counted = True
    for _ in range(2):
        orders.look(time.monotonic())
    assert capfd.readouterr().err.count(SAID) == 1
    assert orders.instants() == []


def test_the_stop_message_does_not_wait_for_long(capfd: pytest.CaptureFixture[str]) -> None:
    orders = orders_of(ScoreboardReader())
    orders.log_stopping(actions.LogStopping(30.0))
    (instant,) = orders.instants()
    assert 0 <= instant - time.monotonic() <= COUNT_SECONDS
    orders.look(instant - 0.001)
    assert capfd.readouterr().err == ""
    orders.look(instant)
    assert capfd.readouterr().err.count(SAID) == 1


def test_the_stop_message_is_logged_at_once_if_nothing_is_to_be_counted(capfd: pytest.CaptureFixture[str]) -> None:
    reader = ScoreboardReader()
    reader.counted = True
    orders_of(reader).log_stopping(actions.LogStopping(30.0))
    assert SAID in capfd.readouterr().err


@pytest.mark.parametrize(("child", "asked"), [(0, [None]), (7, ["link"]), (8, [])])
def test_what_is_cut_is_that_of_the_worker_or_of_all(child: int, asked: list[object]) -> None:
    reader = ScoreboardReader()
    orders_of(reader).log_kill(actions.LogKill(Level.WARNING, "it is cut", child))
    assert reader.asked == asked
