"""The steps of a roll-out: begin, replace a batch of workers, finish or give up. Pure; part of the supervisor."""

from __future__ import annotations

from starman.log.in_flight import counted
from starman.process.supervision.actions import Level

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.backoff import Backoff
    from starman.process.supervision.children import Children
    from starman.process.supervision.molds import Molds
    from starman.process.supervision.replacement import Replacement
    from starman.process.supervision.rollout import Rollout, Terms
    from starman.process.supervision.slots import Slots


class RolloutSteps:
    """The steps of all roll-outs of one supervisor."""

    __slots__ = ("_children", "_mold_backoff", "_molds", "_replacement", "_rollout")

    def __init__(
        self, children: Children, rollout: Rollout, molds: Molds, replacement: Replacement, mold_backoff: Backoff
    ) -> None:
        self._children = children
        self._rollout = rollout
        self._molds = molds
        self._replacement = replacement
        self._mold_backoff = mold_backoff

    def plan_step(self, slots: Slots, now: float, *, running: bool) -> bool:
        """Plan the next step. The next slots follow only when the workers of this step are ready. A requested roll-out
        begins if the server is `running`. Returns True when a roll-out has finished, and its terms are in use."""
        under_way = any(slot.rolling_out for slot in slots)
        if not under_way and running and self._rollout.begin():
            # Fresh code gets an attempt without waiting.
            self._mold_backoff.reset()
            self._molds.plan_molds(slots, now)
        target = self._rollout.target
        if target is None:
            return False
        if all(slot.generation == target for slot in slots):
            self._finish(slots, now)
            return True
        if (mold := self._molds.mold_for(target)) is not None:
            for slot in self._rollout.next_slots(slots)[: max(0, self._replacement.spawn_room(slots))]:
                slot.incoming = self._children.spawn_worker(slot, target, mold, now)
        return False

    def _finish(self, slots: Slots, now: float) -> None:
        wanted = self._rollout.finish()
        self._children.log(Level.INFO, f"restarted: {counted(len(slots), 'worker', 'are')} new")
        self._change_count(slots, wanted, now)
        self._molds.plan_molds(slots, now)

    def renew(self, slots: Slots, now: float) -> Terms:
        """Have all slots, which are empty, get workers of a new generation. A roll-out under way is part of it.
        Returns the terms of the generation."""
        wanted = self._rollout.renew()
        for slot in slots:
            slot.generation = self._rollout.generation
        self._change_count(slots, wanted, now)
        return self._rollout.terms

    def _change_count(self, slots: Slots, wanted: int | None, now: float) -> None:
        count = len(slots)
        if wanted is not None and wanted != count:
            self._children.log(Level.INFO, f"the number of workers changes from {count} to {wanted}")
            for _ in range(wanted, count):
                self._children.drain_slot(slots.remove_last(), now)
            for _ in range(count, wanted):
                slots.add_slot(self._rollout.generation)

    def give_up(self, slots: Slots, reason: str, details: str, now: float) -> None:
        """Give the roll-out up. Its workers that are still starting must not take charge any more."""
        self._rollout.give_up()
        for slot in slots:
            if slot.rolling_out and slot.incoming is not None:
                self._children.drain_worker(slot.incoming, now)
                slot.incoming = None
        self._children.black_box.on_failed_restart(reason, details, now)
        self._children.log(Level.ERROR, f"restart given up, the old workers stay: {reason}", details)
