"""starman.serving.health.spinning_loop: a loop that uses a CPU and does nothing."""

from __future__ import annotations

import errno

import pytest

from starman import log
from starman.serving.health.spinning_loop import SPIN_BYTES, SPIN_SECONDS, SPIN_SHARE, WORK_SECONDS, SpinningLoopDetector

TICK = 0.5


@pytest.fixture
def log_lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(log, "warning", lines.append)
    return lines


class Loop:
    """One loop, and its ticks."""

    def __init__(self, *, inline: bool = False) -> None:
        self.now = self.computed = 0.0
        self.done = self.moved = 0
        self.refused: OSError | None = None
        self.measured = 0
        self.detector = SpinningLoopDetector(self.measure, inline=inline)

    def measure(self) -> int:
        self.measured += 1
        if self.refused is not None:
            raise self.refused
        return self.moved

    def tick(self, share: float, *, done: int = 0, moved: int = 100, own: float = 0.0) -> str | None:
        """Tick after the loop has used so much of a CPU. `own` is the CPU time of the tick itself, in seconds."""
        self.detector.end_tick(self.now, self.computed)
        self.now += TICK
        self.computed += share * TICK
        self.done += done
        self.moved += moved
        reasons: list[str] = []
        found = self.detector.check(self.now, self.computed, self.done)
        if found is not None:
            self.detector.report(found, reasons.append)
        self.computed += own
        return reasons[0] if reasons else None

    def run(self, seconds: float, share: float, **work: int) -> list[str]:
        reasons = [self.tick(share, **work) for _ in range(round(seconds / TICK))]
        return [reason for reason in reasons if reason is not None]


def test_a_loop_that_spins_is_given_up_after_a_while() -> None:
    loop = Loop()
    assert loop.run(SPIN_SECONDS - TICK, 1.0) == []
    assert loop.tick(1.0) == "its loop has used 100 % of a CPU for 10 s, and it has done almost nothing"
    # For example where other programs use most of the CPU.
    assert Loop().run(SPIN_SECONDS, 0.3) == ["its loop has used 30 % of a CPU for 10 s, and it has done almost nothing"]


ENOUGH = round(TICK / WORK_SECONDS)


@pytest.mark.parametrize(
    ("inline", "work"),
    [(False, {"done": ENOUGH}), (False, {"moved": SPIN_BYTES}), (True, {"done": 1}), (True, {"moved": SPIN_BYTES})],
)
def test_a_loop_that_works_is_left_alone(inline: bool, work: dict[str, int]) -> None:
    assert Loop(inline=inline).run(10 * SPIN_SECONDS, 1.0, **work) == []
    # Now and then is enough.
    loop = Loop(inline=inline)
    for _ in range(20):
        assert loop.run(SPIN_SECONDS - 2 * TICK, 1.0) == []
        assert loop.tick(1.0, **work) is None


def test_probes_do_not_hide_a_loop_that_spins() -> None:
    """A request or two in each tick do not explain so much CPU time, unless the application runs in the loop."""
    assert Loop().run(SPIN_SECONDS, 1.0, done=ENOUGH - 2) == [
        "its loop has used 100 % of a CPU for 10 s, and it has done almost nothing"
    ]
    assert len(Loop().run(SPIN_SECONDS, 1.0, done=2)) == 1


def test_a_loop_that_has_little_to_do_is_not_even_measured() -> None:
    loop = Loop()
    assert loop.run(10 * SPIN_SECONDS, SPIN_SHARE / 2) == []
    assert loop.measured == 0


def test_what_the_tick_itself_uses_does_not_count() -> None:
    """The tick checks the timeouts of all connections, and there may be very many."""
    loop = Loop()
    assert [loop.tick(0.0, own=TICK) for _ in range(100)] == [None] * 100


def test_where_the_system_does_not_tell_nothing_is_found(log_lines: list[str]) -> None:
    loop = Loop()
    loop.refused = FileNotFoundError(errno.ENOENT, "No such file or directory")
    assert loop.run(10 * SPIN_SECONDS, 1.0) == []
    assert log_lines == []


def test_where_the_system_refuses_the_figures_the_log_has_it_once(log_lines: list[str]) -> None:
    loop = Loop()
    loop.refused = PermissionError(errno.EACCES, "Permission denied")
    assert loop.run(SPIN_SECONDS - TICK, 1.0) == []
    assert log_lines == []
    assert loop.run(10 * SPIN_SECONDS, 1.0) == []
    assert log_lines == [
        "this worker may spin: its loop has used 100 % of a CPU for 10 s, and almost no request has ended. It is not replaced, "
        "because /proc/thread-self/io cannot be read: Permission denied (has the application changed its user?)"
    ]
    # For example while no descriptor was free.
    loop.refused = None
    loop.moved += SPIN_BYTES
    assert len(loop.run(SPIN_SECONDS + TICK, 1.0)) == 1
