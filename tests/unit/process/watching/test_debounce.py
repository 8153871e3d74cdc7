"""A burst of changes is one reload, none is lost, and none waits for longer than LONGEST."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.process.watching.debounce import LONGEST, QUIET, Debounce


def test_a_change_settles_after_a_quiet_time() -> None:
    debounce = Debounce()
    assert debounce.settled_at is None
    assert debounce.add_changes(["a"], 10.0)
    assert debounce.settling
    assert debounce.settled_at == pytest.approx(10.0 + QUIET)
    assert debounce.take(10.0 + QUIET / 2) == []
    assert debounce.take(10.0 + QUIET) == ["a"]
    assert not debounce.settling
    assert debounce.take(20.0) == []


def test_a_further_change_makes_it_wait_and_is_no_new_burst() -> None:
    debounce = Debounce()
    assert debounce.add_changes(["a"], 10.0)
    assert not debounce.add_changes(["b", "a"], 10.04)
    assert debounce.take(10.0 + QUIET) == []
    assert debounce.take(10.04 + QUIET) == ["a", "b"]
    assert debounce.add_changes(["a"], 11.0), "the next burst"


def test_looking_without_finding_a_change_does_not_make_it_wait() -> None:
    debounce = Debounce()
    assert not debounce.add_changes([], 9.0)
    debounce.add_changes(["a"], 10.0)
    assert not debounce.add_changes([], 10.04)
    assert debounce.take(10.0 + QUIET) == ["a"]


def test_a_file_that_never_stops_changing_does_not_hold_up_the_others() -> None:
    debounce = Debounce()
    for step in range(1000):
        debounce.add_changes(["log"], 10.0 + step * QUIET / 2)
        if taken := debounce.take(10.0 + step * QUIET / 2):
            break
    assert taken == ["log"]
    assert step * QUIET / 2 == pytest.approx(LONGEST, abs=QUIET)


@given(st.lists(st.tuples(st.floats(0.001, 0.2), st.lists(st.sampled_from("abcd"), max_size=3)), max_size=60))
def test_every_change_is_taken_once_and_in_time(steps: list[tuple[float, list[str]]]) -> None:
    debounce = Debounce()
    now, waiting, since, begun, taken_bursts = 0.0, set[str](), 0.0, 0, 0
    for pause, paths in steps:
        # The caller looks at the instant at which the changes settle, if that comes first.
        if debounce.settled_at is not None and debounce.settled_at <= now + pause:
            assert debounce.settled_at <= since + LONGEST
            taken = debounce.take(debounce.settled_at)
            assert set(taken) == waiting
            assert len(taken) == len(set(taken))
            waiting, taken_bursts = set(), taken_bursts + 1
        now += pause
        begins = debounce.add_changes(paths, now)
        assert begins == (bool(paths) and not waiting)
        if begins:
            since, begun = now, begun + 1
        waiting |= set(paths)
        assert debounce.settling == bool(waiting)
    assert set(debounce.take(now + LONGEST)) == waiting
    assert begun == taken_bursts + bool(waiting)
