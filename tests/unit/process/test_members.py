"""starman.process.members: the table of transitions, and the backoff."""

from __future__ import annotations

import pytest

from starman.process.members import TRANSITIONS, Backoff, Mold, Slot, State, Worker


def test_every_state_has_its_transitions_and_gone_is_the_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.GONE] == frozenset()
    assert all(State.GONE in after for state, after in TRANSITIONS.items() if state is not State.GONE)


def test_a_transition_that_the_table_lacks_is_an_error() -> None:
    worker = Worker(1, 1, slot=3, asked_at=0.0, deadline=60.0)
    worker.move(State.BOOTING)
    worker.move(State.READY)
    with pytest.raises(ValueError, match="worker 3 cannot go from ready to booting"):
        worker.move(State.BOOTING)


def test_titles() -> None:
    worker = Worker(1, 1, slot=3, asked_at=0.0, deadline=60.0)
    assert worker.title() == "worker 3"
    worker.pid = 77
    assert worker.title() == "worker 3 (77)"
    mold = Mold(2, 0, asked_at=0.0, deadline=60.0)
    assert mold.title() == "the mold"
    mold.pid = 78
    assert mold.title() == "the mold (78)"


def test_a_slot_wants_a_worker_when_it_has_none_or_one_that_is_spent_and_nobody_is_on_the_way() -> None:
    slot = Slot(1, 1)
    assert slot.wants
    first, second = (Worker(number, 1, slot=1, asked_at=0.0, deadline=60.0) for number in (1, 2))
    slot.expect(first)
    assert (slot.current, slot.incoming, slot.wants) == (first, None, False)
    first.spent = True
    assert not slot.wants, "it is still to become ready"
    first.state = State.READY
    assert slot.wants
    slot.expect(second)
    assert (slot.current, slot.incoming, slot.wants) == (first, second, False)
    slot.leave(first)
    assert not slot.wants
    slot.leave(second)
    assert slot.wants


def test_a_slot_rolls_when_a_worker_of_other_code_is_on_its_way() -> None:
    slot = Slot(1, 1)
    slot.incoming = Worker(1, 1, slot=1, asked_at=0.0, deadline=60.0)
    assert not slot.rolls
    slot.incoming = Worker(2, 2, slot=1, asked_at=0.0, deadline=60.0)
    assert slot.rolls


def test_backoff_doubles_counts_one_round_once_and_lets_one_try() -> None:
    backoff = Backoff()
    assert backoff.allows(0.0, starting=9)
    assert backoff.failed(asked_at=0.0, now=1.0)
    assert not backoff.failed(asked_at=0.0, now=1.1)
    assert not backoff.allows(1.4, starting=0)
    assert backoff.allows(1.5, starting=0)
    assert not backoff.allows(1.5, starting=1)
    assert backoff.failed(asked_at=1.5, now=1.6)
    assert not backoff.allows(2.5, starting=0)
    assert backoff.allows(2.6, starting=0)
    backoff.passed()
    assert backoff.allows(2.6, starting=5)
    backoff.reset()
    assert backoff.failed(asked_at=9.0, now=9.0)
    assert backoff.not_before == 9.5


def test_backoff_is_never_longer_than_a_minute() -> None:
    backoff = Backoff()
    for attempt in range(2000):
        backoff.failed(asked_at=attempt * 100.0 + 1, now=attempt * 100.0 + 2)
        assert backoff.not_before - (attempt * 100.0 + 2) <= 60.0
