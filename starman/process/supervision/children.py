"""The living workers and molds of a supervisor, and the actions for the next plan. Pure."""

from __future__ import annotations

from starman.process.messages import SlowRequest
from starman.process.supervision.actions import Action, Drain, Kill, Level, LogLine, RetireMold, SpawnHooks, SpawnWorker
from starman.process.supervision.black_box import BlackBox
from starman.process.supervision.child import Child, HookProcess, Mold, State, Worker
from starman.process.supervision.respawns import Respawns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starman.process.handover import HandedWorker
    from starman.process.message_base import Message
    from starman.process.supervision.rollout import Terms
    from starman.process.supervision.slots import Slot

# A worker exits by itself after graceful_timeout. The master kills it when it lives this much longer (seconds).
SLACK = 2.0
# How long (seconds) a worker may take to exit that has not become ready: it has no request to finish.
BOOT_SLACK = 2.0
# How long (seconds) a retired mold may take to exit.
MOLD_SLACK = 5.0
# How long (seconds) a killed process may take to show as dead.
KILL_SLACK = 5.0
# At most this many workers are requested and not yet forked. The kernel limits the descriptors in flight, and a mold
# forks one worker after the other while the boot deadlines of all of them run.
MOST_REQUESTED = 32


class Children:
    """The children that have not exited, by number, and the actions for the next plan.

    black_box: keeps what has happened to workers. respawns: counts why they have ended.
    """

    __slots__ = ("_actions", "_children", "_numbers", "_terms_of", "black_box", "respawns")

    def __init__(self, terms_of: Callable[[int], Terms]) -> None:
        """`terms_of` returns the terms of a generation, which set the time limits of its children."""
        self._terms_of = terms_of
        self._children: dict[int, Child] = {}
        self._numbers = 0
        self._actions: list[Action] = []
        self.black_box = BlackBox()
        self.respawns = Respawns()

    def __iter__(self) -> Iterator[Child]:
        """Iterate over a copy: children may be added or removed meanwhile."""
        return iter(list(self._children.values()))

    def __len__(self) -> int:
        return len(self._children)

    def find_child(self, number: int) -> Child | None:
        """The child with this number; None after it has exited."""
        return self._children.get(number)

    def workers(self) -> list[Worker]:
        """All workers, in any state."""
        return [child for child in self._children.values() if isinstance(child, Worker)]

    @property
    def spawn_room(self) -> int:
        """How many more workers may be requested now."""
        return MOST_REQUESTED - sum(worker.state is State.REQUESTED for worker in self.workers())

    def add_action(self, action: Action) -> None:
        """Add `action` to the next plan."""
        self._actions.append(action)

    def log(self, level: Level, line: str, details: str = "") -> None:
        """Add a line to the error log, with `details` below it."""
        self.add_action(LogLine(level, f"{line}\n{details}" if details else line))

    def take_actions(self) -> list[Action]:
        """Return the actions added since the last call."""
        actions, self._actions = self._actions, []
        return actions

    def add_mold(self, generation: int, now: float) -> Mold:
        """Add a mold. The caller adds the action that creates it, which depends on the process that forks it."""
        mold = Mold(self._next_number(), generation, now, now + self._terms_of(generation).boot_timeout)
        self._children[mold.number] = mold
        return mold

    def spawn_worker(self, slot: Slot, generation: int, mold: Mold, now: float) -> Worker:
        """Have `mold` fork a worker for `slot`."""
        # Set the deadline before the fork, so that it also covers a worker that never sends a message.
        terms = self._terms_of(generation)
        worker = Worker(self._next_number(), generation, slot.number, now, now + terms.boot_timeout)
        worker.forked_by = mold.number
        self._children[worker.number] = worker
        self.add_action(SpawnWorker(worker.number, slot.number, generation, mold.number, terms.settings))
        return worker

    def spawn_hook_process(self, generation: int, mold: Mold, now: float, *, starting: bool) -> HookProcess:
        """Have `mold` fork a hook process. `starting`: it runs the `starting` hooks first."""
        terms = self._terms_of(generation)
        process = HookProcess(self._next_number(), generation, now, now + terms.boot_timeout)
        process.forked_by = mold.number
        self._children[process.number] = process
        self.add_action(SpawnHooks(process.number, mold.number, terms.settings, starting=starting))
        return process

    def adopt_worker(self, handed_worker: HandedWorker, generation: int) -> Worker:
        """Add a worker that the master had before its upgrade: ready, or already draining."""
        worker = Worker(self._next_number(), generation, handed_worker.slot, handed_worker.ready_at, handed_worker.ready_at)
        worker.pid, worker.ready_at, worker.to_replace = handed_worker.pid, handed_worker.ready_at, handed_worker.to_replace
        worker.set_state(State.BOOTING)
        worker.set_state(State.READY)
        if handed_worker.deadline:
            worker.set_state(State.DRAINING, handed_worker.deadline)
        self._children[worker.number] = worker
        return worker

    def drain_worker(self, worker: Worker, now: float) -> None:
        """Have `worker` finish its requests and exit. No effect on a worker that is already ending."""
        if worker.ending:
            return
        worker.failure = None  # no longer of interest
        # A silent worker does not see the order, so it keeps the deadline that the watchdog has set.
        deadline = worker.deadline if worker.silent else self.drain_deadline(worker, now)
        worker.set_state(State.DRAINING, now + BOOT_SLACK if worker.starting else deadline)
        self.add_action(Drain(worker.number))

    def drain_slot(self, slot: Slot, now: float) -> None:
        """Drain the workers of `slot`, which was removed."""
        for worker in (slot.current, slot.incoming):
            if worker is not None:
                self.drain_worker(worker, now)

    def drain_deadline(self, worker: Child, now: float) -> float:
        """The instant by which a worker that begins to drain now must have exited."""
        return now + self._terms_of(worker.generation).graceful_timeout + SLACK

    def retire_mold(self, mold: Mold, now: float) -> None:
        """Have `mold` exit. No effect on a mold that is already ending."""
        hangs, mold.failure = mold.failure is not None, None  # no longer of interest
        if mold.starting:
            # It is importing the application, and does not notice that its channel is closed.
            self.kill(mold, now)
        elif not mold.ending:
            mold.set_state(State.DRAINING, mold.deadline if hangs else now + MOLD_SLACK)
            self.add_action(RetireMold(mold.number))

    def kill(self, child: Child, now: float) -> None:
        """Have the process of `child` killed. Raises ValueError when it was killed before."""
        child.set_state(State.KILLED, now + KILL_SLACK)
        self.add_action(Kill(child.number))

    def remove(self, child: Child) -> None:
        """Remove `child`, which has exited."""
        child.set_state(State.GONE)
        del self._children[child.number]

    def keep_report(self, number: int, message: Message, now: float) -> None:
        """A worker reports what changes nothing, and is only kept: a slow request. No effect for other messages."""
        worker = self._children.get(number)
        if isinstance(worker, Worker) and isinstance(message, SlowRequest):
            self.black_box.on_slow_request(worker, message, now)

    def next_deadline(self) -> float | None:
        """The earliest deadline of all children; None when there is none."""
        return min((child.deadline for child in self._children.values() if child.deadline is not None), default=None)

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers
