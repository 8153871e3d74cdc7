"""How many workers may be replaced at a time, so that workers that still finish their requests do not pile up. Pure; part of the
supervisor.

At most twice as many workers live as there are slots: for each slot one that serves, and one that starts, or was replaced and
finishes. At that limit, replacement waits until a worker has ended; a worker that is to be replaced serves meanwhile.
"""

from __future__ import annotations

from starman.log.in_flight import counted
from starman.process.supervision.actions import Level
from starman.process.supervision.backoff import PROVEN, Backoff
from starman.process.supervision.child import State
from starman.process.supervision.rollout import ADOPTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Children
    from starman.process.supervision.molds import Molds
    from starman.process.supervision.rollout import Rollout
    from starman.process.supervision.slots import Slot, Slots

WORKERS_A_SLOT = 2
# A wait is logged when it lasts longer than this (seconds).
LOG_AFTER = 1.0
# How often the log says that replacement waits. Seconds.
LOG_INTERVAL = 60.0


class Replacement:
    """The limit for one children, and the waits at that limit.

    After a long wait the next one is longer, from 0.5 s to a minute: workers that are to be replaced as soon as they serve are
    then replaced less and less often. The waits begin at 0.5 s again when there was room for 10 s. Roll-outs and empty slots wait
    for room only.
    """

    __slots__ = ("_backoff", "_children", "_crash_backoff", "_logged_at", "_molds", "_rollout", "_waiting_since")

    def __init__(self, children: Children, rollout: Rollout, molds: Molds, crash_backoff: Backoff) -> None:
        """`crash_backoff`: when a worker may be started again after one that has died."""
        self._children = children
        self._rollout = rollout
        self._molds = molds
        self._crash_backoff = crash_backoff
        self._backoff = Backoff()
        self._logged_at = float("-inf")
        # Since when a worker is to be replaced, or a slot to be filled, without room for it; None: nothing waits.
        self._waiting_since: float | None = None

    def spawn_room(self, slots: Slots) -> int:
        """How many more workers may be asked for now."""
        return min(self._children.spawn_room, self._capacity_left(slots))

    def allows(self, slots: Slots, now: float) -> bool:
        """Whether a worker that serves may make room for another now."""
        return self._capacity_left(slots) > 0 and self._backoff.allows(now, 0)

    def fill_slots(self, slots: Slots, now: float) -> None:
        """Order workers for the slots that have none, then for those whose worker is spent, the oldest first, as far as there is
        room and molds can fork. Log a warning when this waits."""
        room = self.spawn_room(slots)
        starting = sum(worker.starting for worker in self._children.workers())
        for slot in sorted(slots, key=_fill_order):
            if slot.needs_worker and slot.generation == ADOPTED:
                if slot.current is not None and self._rollout.target is not None:
                    continue  # spent: the roll-out replaces it in its turn
                slot.generation = self._rollout.target or self._rollout.generation
            mold = self._molds.mold_for(slot.generation)
            if mold is None or not slot.needs_worker:
                continue
            if room <= 0 or not self._crash_backoff.allows(now, starting):
                break
            if slot.current is not None and not self.allows(slots, now):
                break  # so are those behind it
            slot.add_worker(self._children.spawn_worker(slot, slot.generation, mold, now))
            room -= 1
            starting += 1
        self._log_wait(slots, now)

    def _log_wait(self, slots: Slots, now: float) -> None:
        """Call after as many workers as possible were replaced: note since when others wait for room."""
        if self._capacity_left(slots) > 0 or not (self._rollout.next_slots(slots) or any(slot.needs_worker for slot in slots)):
            self._waiting_since = None
            return
        if self._waiting_since is None:
            self._waiting_since = now
        if now - self._waiting_since < LOG_AFTER or now < self._backoff.not_before:
            return
        if now - self._backoff.not_before >= PROVEN:
            self._backoff.reset()
        self._backoff.failed(now, now)
        self._backoff.succeeded()
        if now - self._logged_at >= LOG_INTERVAL:
            self._logged_at = now
            finishing = counted(
                sum(worker.state is State.DRAINING for worker in self._children.workers()), "replaced worker", "are"
            )
            seconds = self._rollout.terms.graceful_timeout
            self._children.log(
                Level.WARNING,
                f"replacing workers waits: {finishing} still finishing requests, and no more may do so at once; "
                f"let workers live longer, lower graceful_timeout ({seconds:g} s), or raise min_send_rate",
            )

    def next_instant(self, now: float) -> float | None:
        """When to look again even if nothing happens; None for never."""
        instants = [self._backoff.not_before]
        instants += [] if self._waiting_since is None else [self._waiting_since + LOG_AFTER]
        return min((instant for instant in instants if instant > now), default=None)

    def _capacity_left(self, slots: Slots) -> int:
        alive = [worker.slot for worker in self._children.workers() if worker.state is not State.KILLED]
        # A slot that is gone counts as long as its worker finishes: room does not shrink with the number of slots.
        return WORKERS_A_SLOT * max(len(slots), max(alive, default=0)) - len(alive)


def _fill_order(slot: Slot) -> tuple[float, int]:
    """In which order slots are filled: first those without a worker, then those of the oldest workers."""
    return (float("-inf"), slot.number) if slot.current is None else (slot.current.requested_at, slot.number)
