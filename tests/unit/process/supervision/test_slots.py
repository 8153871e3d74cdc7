"""starman.process.supervision.slots: when a slot needs a worker."""

from __future__ import annotations

from starman.process.supervision.child import State, Worker
from starman.process.supervision.slots import Slot


def test_a_slot_needs_a_worker_when_it_is_empty_or_its_worker_is_to_be_replaced() -> None:
    slot = Slot(1, 1)
    assert slot.needs_worker
    first, second = (Worker(number, 1, slot=1, requested_at=0.0, deadline=60.0) for number in (1, 2))
    slot.add_worker(first)
    assert (slot.current, slot.incoming, slot.needs_worker) == (first, None, False)
    first.to_replace = True
    assert not slot.needs_worker, "it is not ready yet"
    first.state = State.READY
    assert slot.needs_worker
    slot.add_worker(second)
    assert (slot.current, slot.incoming, slot.needs_worker) == (first, second, False)
    slot.remove_worker(first)
    assert not slot.needs_worker
    slot.remove_worker(second)
    assert slot.needs_worker


def test_a_slot_rolls_when_a_worker_of_other_code_is_on_its_way() -> None:
    slot = Slot(1, 1)
    slot.incoming = Worker(1, 1, slot=1, requested_at=0.0, deadline=60.0)
    assert not slot.rolling_out
    slot.incoming = Worker(2, 2, slot=1, requested_at=0.0, deadline=60.0)
    assert slot.rolling_out
