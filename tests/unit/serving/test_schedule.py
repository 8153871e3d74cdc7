"""starman.serving.schedule: when the loop parks, and what it does after each slice. The clock is the test's."""

from __future__ import annotations

import pytest

from starman.serving.schedule import LONGEST_PARK, POOL_TIME, SLICE, Mode, Schedule, Verdict

NOW = 0.0


def parked(finished: int = 0) -> Schedule:
    schedule = Schedule()
    schedule.parks(finished, NOW)
    return schedule


def test_turns_are_taken_at_first() -> None:
    assert Schedule().mode(NOW) is Mode.TURNS


def test_parking_alone_changes_no_mode() -> None:
    assert parked().mode(NOW) is Mode.TURNS


def test_progress_parks_on() -> None:
    schedule = parked(7)
    assert schedule.after_slice(8, NOW + SLICE) is Verdict.WAIT
    assert schedule.mode(NOW + SLICE) is Mode.TURNS


def test_progress_for_long_enough_asks() -> None:
    schedule = parked()
    assert schedule.after_slice(1, NOW + LONGEST_PARK - SLICE / 2) is Verdict.WAIT
    assert schedule.after_slice(2, NOW + LONGEST_PARK) is Verdict.ASK
    # It asks again, until the thread stops, and that changes no mode.
    assert schedule.after_slice(3, NOW + LONGEST_PARK + SLICE) is Verdict.ASK
    assert schedule.mode(NOW + LONGEST_PARK + SLICE) is Mode.TURNS


def test_a_slice_that_took_long_asks_at_once() -> None:
    """The loop has not had the interpreter for a while."""
    assert parked().after_slice(1, NOW + 10 * LONGEST_PARK) is Verdict.ASK


@pytest.mark.parametrize("finished", [0, 1, 12345])
def test_no_progress_opens_the_pool(finished: int) -> None:
    assert parked(finished).after_slice(finished, NOW + SLICE) is Verdict.OPEN


def test_no_progress_opens_the_pool_even_when_it_is_time_to_ask() -> None:
    schedule = parked()
    assert schedule.after_slice(1, NOW + LONGEST_PARK) is Verdict.ASK
    assert schedule.after_slice(1, NOW + LONGEST_PARK + SLICE) is Verdict.OPEN


def test_progress_is_that_of_the_last_slice_not_of_the_park() -> None:
    schedule = parked()
    assert schedule.after_slice(5, NOW + SLICE) is Verdict.WAIT
    assert schedule.after_slice(5, NOW + 2 * SLICE) is Verdict.OPEN


def test_what_was_finished_between_two_parks_is_no_progress_of_the_second() -> None:
    schedule = parked(0)
    schedule.after_slice(1, NOW + SLICE)
    schedule.parks(9, NOW + 2 * SLICE)
    assert schedule.after_slice(9, NOW + 3 * SLICE) is Verdict.OPEN


def test_a_count_that_falls_is_progress() -> None:
    """Threads add without a lock, so an addition may undo others."""
    assert parked(9).after_slice(7, NOW + SLICE) is Verdict.WAIT


def test_each_park_has_its_own_time() -> None:
    schedule = parked()
    later = NOW + 2 * LONGEST_PARK
    schedule.parks(1, later)
    assert schedule.after_slice(2, later + SLICE) is Verdict.WAIT


def test_the_pool_is_open_for_a_time() -> None:
    schedule = parked()
    opened = NOW + SLICE
    schedule.after_slice(0, opened)
    assert schedule.mode(opened) is Mode.POOL
    assert schedule.mode(opened + POOL_TIME - SLICE) is Mode.POOL
    assert schedule.mode(opened + POOL_TIME) is Mode.TURNS
    assert schedule.mode(opened + 100.0) is Mode.TURNS


def test_blocked_threads_open_the_pool_anew() -> None:
    schedule = parked()
    schedule.after_slice(0, NOW + SLICE)
    again = NOW + SLICE + POOL_TIME
    schedule.parks(3, again)
    assert schedule.after_slice(3, again + SLICE) is Verdict.OPEN
    assert schedule.mode(again + POOL_TIME) is Mode.POOL


def test_the_times_fit_each_other() -> None:
    assert 0 < SLICE < LONGEST_PARK < POOL_TIME
