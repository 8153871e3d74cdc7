"""starman.process.supervision.child: the table of transitions, and titles."""

from __future__ import annotations

import pytest

from starman.process.supervision.child import TRANSITIONS, Mold, State, Worker


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
