"""starman.serving.executors.schedule: when the loop parks, and what it does after each slice. The clocks are the
test's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving.executors.schedule import (
    COMPUTING,
    LONGEST_PARK,
    LONGEST_POOL,
    LONGEST_REQUEST,
    SHORTEST_POOL,
    SLICE,
    Mode,
    Schedule,
    Verdict,
)

NOW = 0.0
# What this process has computed before anything here.
USED = 100.0


def parked(ended_at: float = 0) -> Schedule:
    schedule = Schedule()
    schedule.parks(ended_at, USED, NOW)
    return schedule


def test_turns_are_taken_at_first() -> None:
    assert Schedule().mode(NOW) is Mode.TURNS


def test_parking_alone_changes_no_mode() -> None:
    assert parked().mode(NOW) is Mode.TURNS


def test_progress_parks_on() -> None:
    schedule = parked(7)
    assert schedule.after_slice(8, USED, NOW + SLICE) is Verdict.WAIT
    assert schedule.mode(NOW + SLICE) is Mode.TURNS


def test_progress_for_long_enough_asks() -> None:
    schedule = parked()
    assert schedule.after_slice(1, USED, NOW + LONGEST_PARK - SLICE / 2) is Verdict.WAIT
    assert schedule.after_slice(2, USED, NOW + LONGEST_PARK) is Verdict.ASK
    # It asks again, until the thread stops, and that changes no mode.
    assert schedule.after_slice(3, USED, NOW + LONGEST_PARK + SLICE) is Verdict.ASK
    assert schedule.mode(NOW + LONGEST_PARK + SLICE) is Mode.TURNS


def test_a_slice_that_took_long_asks_at_once() -> None:
    """The loop has not had the interpreter for a while."""
    assert parked().after_slice(1, USED, NOW + 10 * LONGEST_PARK) is Verdict.ASK


@pytest.mark.parametrize("ended_at", [0, 1, 12345])
def test_neither_progress_nor_work_opens_the_pool(ended_at: int) -> None:
    assert parked(ended_at).after_slice(ended_at, USED, NOW + SLICE) is Verdict.OPEN


def test_it_opens_the_pool_even_when_it_is_time_to_ask() -> None:
    schedule = parked()
    assert schedule.after_slice(1, USED, NOW + LONGEST_PARK) is Verdict.ASK
    assert schedule.after_slice(1, USED, NOW + LONGEST_PARK + SLICE) is Verdict.OPEN


def test_progress_is_that_of_the_last_slice_not_of_the_park() -> None:
    schedule = parked()
    assert schedule.after_slice(5, USED, NOW + SLICE) is Verdict.WAIT
    assert schedule.after_slice(5, USED, NOW + 2 * SLICE) is Verdict.OPEN


def test_what_was_finished_between_two_parks_is_no_progress_of_the_second() -> None:
    schedule = parked(0)
    schedule.after_slice(1, USED, NOW + SLICE)
    schedule.parks(9, USED, NOW + 2 * SLICE)
    assert schedule.after_slice(9, USED, NOW + 3 * SLICE) is Verdict.OPEN


def test_an_end_that_comes_late_is_progress() -> None:
    """Threads store their ends without a lock, so an earlier one may be stored later."""
    assert parked(9).after_slice(7, USED, NOW + SLICE) is Verdict.WAIT


def test_each_park_has_its_own_time() -> None:
    schedule = parked()
    later = NOW + 2 * LONGEST_PARK
    schedule.parks(1, USED, later)
    assert schedule.after_slice(2, USED, later + SLICE) is Verdict.WAIT


# Work


def test_a_request_that_computes_is_waited_for() -> None:
    schedule = parked()
    assert schedule.after_slice(0, USED + SLICE, NOW + SLICE) is Verdict.WAIT
    assert schedule.mode(NOW + SLICE) is Mode.TURNS


def test_a_part_of_the_time_is_enough() -> None:
    """Another program may have had the CPU for the rest."""
    assert parked().after_slice(0, USED + 1.1 * COMPUTING * SLICE, NOW + SLICE) is Verdict.WAIT
    assert parked().after_slice(0, USED + 0.9 * COMPUTING * SLICE, NOW + SLICE) is Verdict.OPEN


def test_work_is_that_of_the_last_slice() -> None:
    schedule = parked()
    schedule.after_slice(0, USED + SLICE, NOW + SLICE)
    assert schedule.after_slice(0, USED + SLICE, NOW + 2 * SLICE) is Verdict.OPEN


def test_what_was_computed_between_two_parks_is_no_work_of_the_second() -> None:
    schedule = parked()
    schedule.parks(0, USED + 5.0, NOW + SLICE)
    assert schedule.after_slice(0, USED + 5.0, NOW + 2 * SLICE) is Verdict.OPEN


def test_a_long_request_is_asked_to_be_the_last_and_waited_for_no_longer_than_that() -> None:
    schedule = parked()
    assert schedule.after_slice(0, USED + LONGEST_PARK, NOW + LONGEST_PARK) is Verdict.ASK
    assert schedule.after_slice(0, USED + LONGEST_REQUEST, NOW + LONGEST_REQUEST) is Verdict.OPEN


# The time of the pool


def opened(schedule: Schedule, at: float) -> float:
    """Park, find the threads blocked, and return for how long the pool is open."""
    schedule.parks(0, USED, at)
    assert schedule.after_slice(0, USED, at + SLICE) is Verdict.OPEN
    assert schedule.mode(at + SLICE) is Mode.POOL
    lasts = 0.0
    while schedule.mode(at + SLICE + lasts) is Mode.POOL:
        lasts += SLICE / 10
    return lasts


def test_the_pool_is_open_for_a_time() -> None:
    schedule = Schedule()
    assert opened(schedule, NOW) == pytest.approx(SHORTEST_POOL, rel=0.1)
    assert schedule.mode(NOW + 100.0) is Mode.TURNS


def test_the_time_doubles_while_parks_are_in_vain_up_to_a_bound() -> None:
    schedule = Schedule()
    times = [opened(schedule, NOW + number) for number in range(8)]
    assert times == pytest.approx([min(SHORTEST_POOL * 2**number, LONGEST_POOL) for number in range(8)], rel=0.1)


def test_a_park_with_progress_makes_it_short_again() -> None:
    schedule = Schedule()
    for number in range(4):
        opened(schedule, NOW + number)
    schedule.parks(0, USED, NOW + 10)
    schedule.after_slice(1, USED, NOW + 10 + SLICE)
    assert opened(schedule, NOW + 20) == pytest.approx(SHORTEST_POOL, rel=0.1)


def test_work_without_an_end_does_not() -> None:
    schedule = Schedule()
    opened(schedule, NOW)
    schedule.parks(0, USED, NOW + 10)
    schedule.after_slice(0, USED + SLICE, NOW + 10 + SLICE)
    assert opened(schedule, NOW + 20) == pytest.approx(2 * SHORTEST_POOL, rel=0.1)


def test_the_times_fit_each_other() -> None:
    assert 0 < SLICE < SHORTEST_POOL < LONGEST_PARK < LONGEST_REQUEST < LONGEST_POOL
    assert 0 < COMPUTING < 1


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(0.0, 2 * SLICE), st.floats(SLICE, 3 * SLICE), st.booleans()),
        min_size=1,
        max_size=60,
    )
)
def test_no_park_is_longer_than_its_bounds(looks: list[tuple[int, float, float, bool]]) -> None:
    """Whatever threads do: a park in which nothing ends is left with OPEN, and no time of the pool is out of
    bounds."""
    schedule = Schedule()
    now, used, ended_at = NOW, USED, 0.0
    parked_at = idle_since = now
    schedule.parks(ended_at, used, now)
    for done, computed, passed, anew in looks:
        now, used, ended_at = now + passed, used + computed, ended_at + done
        verdict = schedule.after_slice(ended_at, used, now)
        if done:
            idle_since = now
            assert verdict is not Verdict.OPEN
        assert (verdict is Verdict.ASK) == (verdict is not Verdict.OPEN and now - parked_at >= LONGEST_PARK)
        if not done and now - idle_since >= LONGEST_REQUEST:
            assert verdict is Verdict.OPEN
        if verdict is Verdict.OPEN:
            assert schedule.mode(now + 0.99 * SHORTEST_POOL) is Mode.POOL
            assert schedule.mode(now + 1.01 * LONGEST_POOL) is Mode.TURNS
        if verdict is Verdict.OPEN or anew:
            parked_at = idle_since = now
            schedule.parks(ended_at, used, now)
