"""The limit of workers that are replaced at a time, so that draining ones do not pile up. Part of the supervisor.

Pure. There are at most twice as many living workers as slots: one for each slot that serves, and one that starts, or
was replaced and finishes its requests. At the limit, replacement waits until a worker has exited. A worker that is to
be replaced serves meanwhile.
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
# Log a wait that lasts longer than this (seconds).
LOG_AFTER = 1.0
# Repeat the warning after this time at the earliest (seconds).
LOG_INTERVAL = 60.0


class Replacement:
    """The limit for all workers, and the waits at the limit.

    After a long wait the next wait is longer, from 0.5 s up to a minute, so workers that must be replaced as soon as
    they serve are replaced less and less often. The waits start again at 0.5 s after the limit was not reached for 10
    s. Roll-outs and empty slots wait for room only.
    """

    __slots__ = ("_backoff", "_children", "_crash_backoff", "_logged_at", "_molds", "_rollout", "_waiting_since")

    def __init__(self, children: Children, rollout: Rollout, molds: Molds, crash_backoff: Backoff) -> None:
        """`crash_backoff` decides when a worker may be started after one that has died."""
        self._children = children
        self._rollout = rollout
        self._molds = molds
        self._crash_backoff = crash_backoff
        self._backoff = Backoff()
        self._logged_at = float("-inf")
        # The instant at which replacements began to wait for room; None: none waits.
        self._waiting_since: float | None = None

    def spawn_room(self, slots: Slots) -> int:
        """How many more workers may be requested now."""
        return min(self._children.spawn_room, self._capacity_left(slots))

    def allows(self, slots: Slots, now: float) -> bool:
        """Whether a serving worker may be replaced now."""
        return self._capacity_left(slots) > 0 and self._backoff.allows(now, 0)

    def fill_slots(self, slots: Slots, now: float) -> None:
        """Request workers, as far as there is room and molds can fork: first for empty slots, then for those with a
        worker that is to be replaced, the oldest worker first. Log a warning when this waits for long."""
        room = self.spawn_room(slots)
        starting = sum(worker.starting for worker in self._children.workers())
        for slot in sorted(slots, key=_fill_order):
            if slot.needs_worker and slot.generation == ADOPTED:
                if slot.current is not None and self._rollout.target is not None:
                    continue  # to be replaced: the roll-out does that
                slot.generation = self._rollout.target or self._rollout.generation
            mold = self._molds.mold_for(slot.generation)
            if mold is None or not slot.needs_worker:
                continue
            if room <= 0 or not self._crash_backoff.allows(now, starting):
                break
            if slot.current is not None and not self.allows(slots, now):
                break  # the slots behind it are not allowed either
            slot.add_worker(self._children.spawn_worker(slot, slot.generation, mold, now))
            room -= 1
            starting += 1
        self._check_wait(slots, now)

    def _check_wait(self, slots: Slots, now: float) -> None:
        """Note when slots began to wait for room. After a long wait, make the next one longer, and log a warning. Call
        it after `fill_slots` has replaced what it could."""
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
        """When to plan again even if nothing happens; None: never."""
        instants = [self._backoff.not_before]
        instants += [] if self._waiting_since is None else [self._waiting_since + LOG_AFTER]
        return min((instant for instant in instants if instant > now), default=None)

    def _capacity_left(self, slots: Slots) -> int:
        alive = [worker.slot for worker in self._children.workers() if worker.state is not State.KILLED]
        # A removed slot counts until its worker has exited, so the room does not shrink with the number of slots.
        return WORKERS_A_SLOT * max(len(slots), max(alive, default=0)) - len(alive)


def _fill_order(slot: Slot) -> tuple[float, int]:
    """The order in which slots are filled: empty ones first, then by the age of their worker, the oldest first."""
    return (float("-inf"), slot.number) if slot.current is None else (slot.current.requested_at, slot.number)
