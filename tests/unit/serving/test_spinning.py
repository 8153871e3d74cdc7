"""starman.serving.spinning: a loop that uses a CPU and does nothing."""

from __future__ import annotations

import sys

import pytest

from starman.serving.spinning import SPIN_BYTES, SPIN_SECONDS, SPIN_SHARE, SpinWatch, bytes_moved

TICK = 0.5


class Loop:
    """One loop, and its ticks."""

    def __init__(self) -> None:
        self.now = self.computed = 0.0
        self.finished = self.moved = 0
        self.readable = True
        self.measured = 0
        self.watch = SpinWatch(self.measure)

    def measure(self) -> int | None:
        self.measured += 1
        return self.moved if self.readable else None

    def tick(self, share: float, *, finished: int = 0, moved: int = 100, own: float = 0.0) -> str | None:
        """A tick after so much of a CPU was used; `own`: what the tick itself uses, in seconds."""
        self.watch.leave(self.now, self.computed)
        self.now += TICK
        self.computed += share * TICK
        self.finished += finished
        self.moved += moved
        reason = self.watch.look(self.now, self.computed, self.finished)
        self.computed += own
        return reason

    def run(self, seconds: float, share: float, **work: int) -> list[str]:
        reasons = [self.tick(share, **work) for _ in range(round(seconds / TICK))]
        return [reason for reason in reasons if reason is not None]


def test_a_loop_that_spins_is_given_up_after_a_while() -> None:
    loop = Loop()
    assert loop.run(SPIN_SECONDS - TICK, 1.0) == []
    assert loop.tick(1.0) == "its loop has used 100 % of a CPU for 10 s, and nothing has moved"
    # Where other programs have most of the CPU, too.
    assert Loop().run(SPIN_SECONDS, 0.3) == ["its loop has used 30 % of a CPU for 10 s, and nothing has moved"]


@pytest.mark.parametrize("work", [{"finished": 1}, {"moved": SPIN_BYTES}])
def test_a_loop_that_works_is_left_alone(work: dict[str, int]) -> None:
    assert Loop().run(10 * SPIN_SECONDS, 1.0, **work) == []
    # Once in a while is enough.
    loop = Loop()
    for _ in range(20):
        assert loop.run(SPIN_SECONDS - 2 * TICK, 1.0) == []
        assert loop.tick(1.0, **work) is None


def test_a_loop_that_has_little_to_do_is_not_even_measured() -> None:
    loop = Loop()
    assert loop.run(10 * SPIN_SECONDS, SPIN_SHARE / 2) == []
    assert loop.measured == 0


def test_what_the_tick_itself_uses_does_not_count() -> None:
    """It looks after the timeouts of all connections, and there may be very many."""
    loop = Loop()
    assert [loop.tick(0.0, own=TICK) for _ in range(100)] == [None] * 100


def test_where_the_system_does_not_tell_nothing_is_found() -> None:
    loop = Loop()
    loop.readable = False
    assert loop.run(10 * SPIN_SECONDS, 1.0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the figure is Linux's")
def test_bytes_are_counted_by_the_kernel() -> None:
    before = bytes_moved()
    assert before is not None
    with open("/dev/zero", "rb", buffering=0) as zeros, open("/dev/null", "wb", buffering=0) as null:
        null.write(zeros.read(1_000_000))
    after = bytes_moved()
    assert after is not None
    assert 2_000_000 <= after - before < 2_010_000
