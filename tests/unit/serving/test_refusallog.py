"""starman.serving.refusallog: a line for each refusal; many are counted, and none is lost."""

from __future__ import annotations

import re

import pytest

from starman.serving.refusallog import MOST_LINES, PERIOD, RefusalLog, escaped

Capture = pytest.CaptureFixture[str]


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lines(capfd: Capture) -> list[str]:
    """The lines that were logged since the last call."""
    return [line.split("[INFO] ")[1] for line in capfd.readouterr().err.splitlines()]


def missing(text: str) -> int:
    found = re.match(r"and (\d+) more were refused", text)
    assert found is not None, text
    return int(found[1])


def test_a_few_have_a_line_each(clock: FakeClock, capfd: Capture) -> None:
    refusals = RefusalLog(clock)
    for number in range(MOST_LINES):
        refusals.add(f"refused {number}")
    clock.now += PERIOD
    refusals.write_due(clock.now)
    assert lines(capfd) == [f"refused {number}" for number in range(MOST_LINES)]


def test_further_refusals_are_counted_and_logged_by_the_tick(clock: FakeClock, capfd: Capture) -> None:
    refusals = RefusalLog(clock)
    for _ in range(MOST_LINES + 1234):
        refusals.add("refused")
        clock.now += 0.001
    refusals.write_due(clock.now)
    assert lines(capfd) == ["refused"] * MOST_LINES
    clock.now += PERIOD
    refusals.write_due(clock.now)
    refusals.write_due(clock.now + PERIOD)
    assert lines(capfd) == ["and 1234 more were refused: 50 lines are logged in 10 s"]


def test_the_next_period_begins_with_the_next_refusal_and_none_is_lost(clock: FakeClock, capfd: Capture) -> None:
    """A flood of 100 s without a tick: each refusal is logged or counted."""
    refusals = RefusalLog(clock)
    for _ in range(10_000):
        refusals.add("refused")
        clock.now += 0.01
    refusals.close()
    found = lines(capfd)
    told = [missing(line) for line in found if line != "refused"]
    assert found.count("refused") + sum(told) == 10_000
    assert len(found) <= (100 / PERIOD + 1) * (MOST_LINES + 1)
    assert found[MOST_LINES].startswith("and ")


def test_a_quiet_end_says_nothing(clock: FakeClock, capfd: Capture) -> None:
    refusals = RefusalLog(clock)
    refusals.close()
    refusals.add("refused")
    refusals.close()
    assert lines(capfd) == ["refused"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("refused 127.0.0.1: 400 caf\xe9", "refused 127.0.0.1: 400 caf\xe9"),
        ("a\r\n[2026-01-01] [1] [ERROR] forged", r"a\r\n[2026-01-01] [1] [ERROR] forged"),
        ("\x1b[2J\x07\x9b31m\x00\x7f", r"\x1b[2J\x07\x9b31m\x00\x7f"),
        ("\u2028\u202e\ud800", r"\u2028\u202e\ud800"),
    ],
)
def test_no_character_does_anything(text: str, written: str, clock: FakeClock, capfd: Capture) -> None:
    assert escaped(text) == written
    RefusalLog(clock).add(text)
    assert lines(capfd) == [written]
