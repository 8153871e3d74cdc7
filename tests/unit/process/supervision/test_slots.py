"""starman.process.supervision.slots: when a worker's place wants another."""

from __future__ import annotations

from starman.process.supervision.child import State, Worker
from starman.process.supervision.slots import Slot


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
