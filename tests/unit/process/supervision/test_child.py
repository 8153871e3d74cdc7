"""starman.process.supervision.child: the table of transitions, and names in the log."""

from __future__ import annotations

import pytest

from starman.process.supervision.child import TRANSITIONS, Mold, State, Worker


def test_every_state_has_transitions_and_gone_is_final() -> None:
    assert set(TRANSITIONS) == set(State)
    assert TRANSITIONS[State.GONE] == frozenset()
    assert all(State.GONE in after for state, after in TRANSITIONS.items() if state is not State.GONE)


def test_a_transition_that_the_table_lacks_is_an_error() -> None:
    worker = Worker(1, 1, slot=3, requested_at=0.0, deadline=60.0)
    worker.set_state(State.BOOTING)
    worker.set_state(State.READY)
    with pytest.raises(ValueError, match="worker 3 cannot go from ready to booting"):
        worker.set_state(State.BOOTING)


def test_log_names() -> None:
    worker = Worker(1, 1, slot=3, requested_at=0.0, deadline=60.0)
    assert worker.log_name() == "worker 3"
    worker.pid = 77
    assert worker.log_name() == "worker 3 (77)"
    mold = Mold(2, 0, requested_at=0.0, deadline=60.0)
    assert mold.log_name() == "the mold, which forks workers,"
    mold.pid = 78
    assert mold.log_name() == "the mold (78), which forks workers,"
