"""The living workers and molds of a supervisor, and the actions ordered for them. Pure."""

from __future__ import annotations

from starman.process.supervision.actions import Action, Drain, Kill, Level, LogLine, RetireMold, SpawnWorker
from starman.process.supervision.child import Child, Mold, State, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starman.process.handover import Veteran
    from starman.process.supervision.rollout import Terms
    from starman.process.supervision.slots import Slot

# A worker ends by itself after graceful_timeout; the master waits this much longer before it cuts. Seconds.
SLACK = 2.0
# A worker that is still booting has no request to finish.
BOOT_SLACK = 2.0
# How long a retired mold may take to notice, and a killed process to be seen dead.
MOLD_SLACK = 5.0
KILL_SLACK = 5.0
# Workers asked for and not yet forked, at most: descriptors in flight have limits of their own, and all have one deadline while
# a mold forks them one after the other.
MOST_REQUESTED = 32


class Children:
    """The children that are not gone, by number, and the actions that wait for the next plan."""

    __slots__ = ("_actions", "_children", "_numbers", "_terms_of")

    def __init__(self, terms_of: Callable[[int], Terms]) -> None:
        """`terms_of` gives the terms of a generation: how long its children may take for what they do."""
        self._terms_of = terms_of
        self._children: dict[int, Child] = {}
        self._numbers = 0
        self._actions: list[Action] = []

    def __iter__(self) -> Iterator[Child]:
        """Over a copy: the children may change meanwhile."""
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    def find_child(self, number: int) -> Child | None:
        """The child of that number; None when it is gone."""
        return self._children.get(number)

    def workers(self) -> list[Worker]:
        """The workers, in whatever state."""
        return [child for child in self._children.values() if isinstance(child, Worker)]

    @property
    def spawn_room(self) -> int:
        """How many more workers may be asked for now."""
        return MOST_REQUESTED - sum(worker.state is State.REQUESTED for worker in self.workers())

    def add_action(self, action: Action) -> None:
        """Have `action` in the next plan."""
        self._actions.append(action)

    def log(self, level: Level, line: str, details: str = "") -> None:
        """Have a line, and details below it, in the error log."""
        self.add_action(LogLine(level, f"{line}\n{details}" if details else line))

    def take_actions(self) -> list[Action]:
        """The actions since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def add_mold(self, generation: int, now: float) -> Mold:
        """A mold that is about to be asked for; the caller gives the order, which depends on who forks it."""
        mold = Mold(self._next_number(), generation, now, now + self._terms_of(generation).boot_timeout)
        self._children[mold.number] = mold
        return mold

    def spawn_worker(self, slot: Slot, generation: int, mold: Mold, now: float) -> Worker:
        """Order a worker for `slot` from `mold`."""
        # The deadline stands before the fork, so that a worker that never says anything has one too.
        terms = self._terms_of(generation)
        worker = Worker(self._next_number(), generation, slot.number, now, now + terms.boot_timeout)
        worker.forked_by = mold.number
        self._children[worker.number] = worker
        self.add_action(SpawnWorker(worker.number, slot.number, generation, mold.number, terms.settings))
        return worker

    def adopt_worker(self, veteran: Veteran, generation: int) -> Worker:
        """A worker that was ready before there was this supervisor, and may be ending."""
        worker = Worker(self._next_number(), generation, veteran.slot, veteran.ready_at, veteran.ready_at)
        worker.pid, worker.ready_at, worker.to_replace = veteran.pid, veteran.ready_at, veteran.to_replace
        worker.set_state(State.BOOTING)
        worker.set_state(State.READY)
        if veteran.deadline:
            worker.set_state(State.DRAINING, veteran.deadline)
        self._children[worker.number] = worker
        return worker

    def drain_worker(self, worker: Worker, now: float) -> None:
        """Order `worker` to finish what it has, unless it is ending already."""
        if worker.ending:
            return
        worker.failure = None  # no longer of interest
        # One that is silent cannot hear of it, so the end that it is to have stays.
        deadline = worker.deadline if worker.silent else self.drain_deadline(worker, now)
        worker.set_state(State.DRAINING, now + BOOT_SLACK if worker.starting else deadline)
        self.add_action(Drain(worker.number))

    def drain_deadline(self, worker: Child, now: float) -> float:
        """When a worker that begins to drain now must have ended."""
        return now + self._terms_of(worker.generation).graceful_timeout + SLACK

    def retire_mold(self, mold: Mold, now: float) -> None:
        """Order `mold` to end, unless it is ending already."""
        hangs, mold.failure = mold.failure is not None, None  # no longer of interest
        if mold.starting:
            # It is busy with the application's import, and would not see its channel closed.
            self.kill(mold, now)
        elif not mold.ending:
            mold.set_state(State.DRAINING, mold.deadline if hangs else now + MOLD_SLACK)
            self.add_action(RetireMold(mold.number))

    def kill(self, child: Child, now: float) -> None:
        """Order the process of `child` killed; it must not have been cut before."""
        child.set_state(State.KILLED, now + KILL_SLACK)
        self.add_action(Kill(child.number))

    def remove(self, child: Child) -> None:
        """`child` is gone."""
        child.set_state(State.GONE)
        del self._children[child.number]

    def next_deadline(self) -> float | None:
        """The earliest of the children' deadlines; None when there is none."""
        return min((child.deadline for child in self._children.values() if child.deadline is not None), default=None)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers
