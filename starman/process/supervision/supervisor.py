"""The supervisor: which workers and molds there are, and what to do next. Pure: no I/O, no os, no time.

The master reports events (`on_...`) and an operator's wishes (`restart`, `grow`, `shrink`, `stop`) with the instant at which they
happened, then performs what `plan(now)` returns. Every instant is monotonic, in seconds. One thread.
"""

from __future__ import annotations

from starman.log.in_flight import counted
from starman.process.forking import SECOND_STOP
from starman.process.status import Phase, ServerStatus
from starman.process.supervision.actions import (
    CloseListeners,
    Drain,
    Exit,
    FailStart,
    Forget,
    Level,
    LogKill,
    LogReady,
    LogStopping,
)
from starman.process.supervision.backoff import Backoff, CrashLog
from starman.process.supervision.child import Child, Mold, State, Worker
from starman.process.supervision.children import Children
from starman.process.supervision.deadlines import BootDeadlines
from starman.process.supervision.molds import Molds
from starman.process.supervision.replacement import Replacement
from starman.process.supervision.rollout import ADOPTED, PRISTINE, Rollout, Terms
from starman.process.supervision.slots import Slots
from starman.process.supervision.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.handover import Veteran
    from starman.process.supervision.actions import Action


class Supervisor:
    """The bookkeeping of one server's workers and molds."""

    __slots__ = (
        *(
            "_worker_backoff",
            "_boot_deadlines",
            "_children",
            "_crash_log",
            "_held",
            "_mold_backoff",
            "_molds",
            "_replacement",
            "_rollout",
        ),
        *("_released", "_slots", "_status", "_stopped_at"),
        "phase",
        "watchdog",
    )

    def __init__(self, terms: Terms) -> None:
        """A server that is about to start, on these terms."""
        self.phase = Phase.STARTING
        self._rollout = Rollout(terms)
        self._children = Children(self._rollout.terms_of)
        self.watchdog = Watchdog(self._children, terms.worker_timeout)
        self._boot_deadlines = BootDeadlines(self._children, self._rollout.terms_of)
        self._worker_backoff = Backoff()
        self._mold_backoff = Backoff()
        self._crash_log = CrashLog(self._children, self._worker_backoff, self._mold_backoff)
        self._slots = Slots(terms.workers, 1)
        self._molds = Molds(self._children, self._rollout, self._mold_backoff)
        self._replacement = Replacement(self._children, self._rollout, self._molds, self._worker_backoff)
        self._held = False
        self._released = False
        self._stopped_at = 0.0
        self._status = 0

    # What the master reports.

    def on_spawned(self, number: int, pid: int) -> None:
        """The child exists, as process `pid`."""
        child = self._children.find_child(number)
        if child is None:
            return
        child.pid = pid
        if child.state is State.REQUESTED:
            child.set_state(State.BOOTING, child.deadline)
        elif child.state is State.DRAINING:
            # The order to drain came before there was a process to give it to.
            self._children.add_action(Drain(number))

    def on_ready(self, number: int, now: float) -> None:
        """A worker accepts connections, or a mold has loaded what it should."""
        child = self._children.find_child(number)
        if child is None:
            return
        if child.state is State.DRAINING:
            # It became ready before it saw the order to drain, so it may have requests to finish after all.
            child.deadline = self._children.drain_deadline(child, now)
        if child.state is not State.BOOTING:
            return
        child.set_state(State.READY)
        child.ready_at, child.failure = now, None
        if isinstance(child, Worker):
            self._worker_backoff.succeeded()
            self._activate_worker(child, now)
        else:
            self._mold_backoff.succeeded()

    def _activate_worker(self, worker: Worker, now: float) -> None:
        """Only now that the new worker is ready does the old one go."""
        slot = self._slots.find_slot(worker.slot)
        if slot is not None and slot.incoming is worker:
            old, slot.current, slot.incoming = slot.current, worker, None
            slot.generation = worker.generation
            if old is not None:
                self._children.drain_worker(old, now)

    def on_recycle(self, number: int, reason: str) -> None:
        """A worker is to be replaced, and serves until another is ready. `reason` completes a sentence."""
        worker = self._children.find_child(number)
        if isinstance(worker, Worker) and worker.ready and not worker.to_replace:
            worker.to_replace = True
            self._children.log(Level.INFO, f"{worker.log_name()} is replaced: {reason}")

    def on_doomed(self, number: int, reason: str, now: float) -> None:
        """A worker is to be replaced, and should serve no more from now on. It drains at once if there is room for another one,
        else it is replaced as one that is spent."""
        worker = self._children.find_child(number)
        if isinstance(worker, Worker) and worker.ready:
            if not self._held and self._replacement.allows(self._slots, now):
                self._children.drain_worker(worker, now)
                self._remove_from_slot(worker)
            if not worker.to_replace:
                worker.to_replace = True
                self._children.log(Level.INFO, f"{worker.log_name()} is replaced: {reason}")

    def on_draining(self, number: int, now: float) -> None:
        """A worker has begun to drain; when it was not told to, its slot gets another at once."""
        worker = self._children.find_child(number)
        if isinstance(worker, Worker) and worker.ready:
            worker.set_state(State.DRAINING, self._children.drain_deadline(worker, now))
            self._remove_from_slot(worker)
            self._crash_log.count_early_drain(worker, now)

    def on_failed(self, number: int, message: str, details: str, now: float) -> None:
        """A child cannot start, or a mold that was ready cannot go on, and has said so. Its end follows."""
        child = self._children.find_child(number)
        if child is not None and not child.ending:
            child.failure = message, details
            if self.phase is Phase.STARTING:
                self._fail_start(message, details, now)

    def on_exit(self, number: int, how: str, now: float) -> None:
        """The process has ended; `how` completes a sentence: "was killed by SIGKILL"."""
        child = self._children.find_child(number)
        if child is None:
            return
        expected = child.ending and child.failure is None
        self._children.remove(child)
        fatal = self._remove_from_slot(child)
        if self.phase is Phase.STOPPING or expected:
            return
        if self.phase is Phase.STARTING:
            self._fail_start(*child.exit_reason(how), now)
        elif fatal:
            self._give_up_rollout(*child.exit_reason(how), now)
        else:
            self._crash_log.log_exit(child, how, now)

    def _remove_from_slot(self, child: Child) -> bool:
        """Take `child` from its place. True when a roll-out depends on it."""
        if isinstance(child, Worker):
            slot = self._slots.find_slot(child.slot)
            if slot is None:
                return False
            rolls = slot.rolling_out and slot.incoming is child
            slot.remove_worker(child)
            return rolls
        # The pristine one counts as well, as long as it cannot be made: all others are forked from it.
        needed = self._rollout.target is not None and child.generation in (PRISTINE, self._rollout.target)
        return self._molds.remove_mold(child) and needed and child.ready_at is None

    def _give_up_rollout(self, reason: str, details: str, now: float) -> None:
        """Give the roll-out up: what of it is still on its way must not take charge any more."""
        self._rollout.give_up()
        for slot in self._slots:
            if slot.rolling_out and slot.incoming is not None:
                self._children.drain_worker(slot.incoming, now)
                slot.incoming = None
        self._children.log(Level.ERROR, f"restart given up, the old workers stay: {reason}", details)

    # What an operator wishes.

    def restart(self, terms: Terms | None = None) -> None:
        """Roll out fresh code on these terms (None: as they are), a batch of workers at a time; during a roll-out: begin anew
        after its current step."""
        if self.phase is not Phase.STOPPING:
            self._rollout.request(terms)

    def grow(self) -> None:
        """One worker more."""
        if self.phase is not Phase.STOPPING:
            self._slots.add_slot(self._rollout.generation)
            self._children.log(Level.INFO, f"one worker more: {len(self._slots)}")

    def shrink(self, now: float) -> None:
        """One worker less, the last; never below one."""
        if self.phase is Phase.STOPPING:
            return
        if len(self._slots) == 1:
            self._children.log(Level.WARNING, "one worker is the least")
            return
        self._drop_last_slot(now)
        self._children.log(Level.INFO, f"one worker less: {len(self._slots)}")

    def _drop_last_slot(self, now: float) -> None:
        slot = self._slots.remove_last()
        for worker in (slot.current, slot.incoming):
            if worker is not None:
                self._children.drain_worker(worker, now)

    def stop(self, now: float) -> None:
        """End gracefully; asked again a second later, at once."""
        if self.phase is not Phase.STOPPING:
            seconds = self._rollout.terms.graceful_timeout
            self._children.add_action(LogStopping(seconds))
            self._begin_stop(now)
        elif now - self._stopped_at >= SECOND_STOP:
            if any(worker.state is not State.KILLED for worker in self._children.workers()):
                self._children.add_action(LogKill(Level.WARNING, "stopping at once: all workers are killed"))
                self._status = 1
            for child in self._children:
                if child.state is not State.KILLED:
                    self._children.kill(child, now)

    def server_status(self) -> ServerStatus:
        """How the server is."""
        restarting = self._rollout.target is not None or self._rollout.requested
        ready, alive_at = self._slots.ready_count, self.watchdog.last_alive()
        return ServerStatus(self.phase, restarting=restarting, ready=ready, wanted=len(self._slots), alive_at=alive_at)

    # An upgrade in place.

    def hold(self, *, on: bool) -> None:
        """Begin nothing new as long as it is on: no exited worker is replaced and a roll-out stands still. The first start
        goes on."""
        self._released = self._held and not on
        self._held = on

    @property
    def nothing_starting(self) -> bool:
        """Whether the server runs, and no worker is on its way to be ready."""
        return self.phase is Phase.RUNNING and not any(worker.starting for worker in self._children.workers())

    @property
    def terms(self) -> Terms:
        """The terms in use: as long as a roll-out is not over, those from before it."""
        return self._rollout.terms

    def slots_and_workers(self) -> tuple[int, list[Worker]]:
        """How many workers there shall be, and all that are not gone."""
        return len(self._slots), self._children.workers()

    def take_over(self, slots: int, workers: int) -> None:
        """Go on where an older image of the master was, with so many slots, and a roll-out. `workers`: what its settings said."""
        self.phase = Phase.RUNNING
        self._rollout.take_over(workers)
        self._slots = Slots(slots, ADOPTED)

    def adopt_worker(self, veteran: Veteran) -> int:
        """A worker of the older image; its number."""
        worker = self._children.adopt_worker(veteran, ADOPTED)
        slot = self._slots.find_slot(worker.slot)
        if slot is not None and worker.ready:
            slot.current = worker
        return worker.number

    # What to do.

    def plan(self, now: float) -> list[Action]:
        """What follows, at the instant `now`, from all that was reported. Each action is returned once, and is to be
        performed in order."""
        self._released = False
        self._check_deadlines(now)
        if self.phase is not Phase.STOPPING:
            # Before the roll-outs: one that was asked for during the start begins in this very plan, not at the next event.
            if self.phase is Phase.STARTING and self._slots.ready_count == len(self._slots):
                self.phase = Phase.RUNNING
                self._children.add_action(LogReady(len(self._slots)))
            # The first start is never held: it is settled only when all workers are ready.
            if not self._held or self.phase is Phase.STARTING:
                self._molds.plan_molds(self._slots, now)
                self._plan_rollout(now)
                self._replacement.fill_slots(self._slots, now)
        elif not self._children:
            self._children.add_action(Exit(self._status))
        return self._children.take_actions()

    def next_instant(self, now: float) -> float | None:
        """When to call `plan` again even if nothing happens; None: never."""
        if self._released:
            return now
        instants = [backoff.not_before for backoff in (self._worker_backoff, self._mold_backoff) if backoff.not_before > now]
        instants += [
            instant
            for instant in (self._children.next_deadline(), self.watchdog.next_instant(), self._replacement.next_instant(now))
            if instant is not None
        ]
        return min(instants, default=None)

    def _check_deadlines(self, now: float) -> None:
        """Deal with the children whose state has lasted too long."""
        for child in self._children:
            if child.deadline is None or child.deadline > now:
                continue
            if child.state is State.KILLED:
                self._children.add_action(Forget(child.number))
                self.on_exit(child.number, "was killed", now)
                continue
            if child.starting and self._boot_deadlines.extend(child, now):
                continue
            if isinstance(child, Worker) and not child.starting:
                late = "is not heard again" if child.silent else "did not end in time"
                self._children.add_action(LogKill(Level.WARNING, f"{child.log_name()} {late}: it is killed", child.number))
                if self.phase is Phase.STOPPING:
                    self._status = 1
            self._children.kill(child, now)
            if child.failure is not None and self.phase is Phase.STARTING:
                self._fail_start(*child.exit_reason(""), now)

    def _plan_rollout(self, now: float) -> None:
        """Take the next step of a roll-out: workers of the new code must be ready before the next slots have their turn."""
        under_way = any(slot.rolling_out for slot in self._slots)
        if not under_way and self.phase is Phase.RUNNING and self._rollout.begin():
            # Fresh code deserves a fresh attempt.
            self._mold_backoff.reset()
            self._molds.plan_molds(self._slots, now)
        target = self._rollout.target
        if target is None:
            return
        if all(slot.generation == target for slot in self._slots):
            self._finish_rollout(now)
        elif (mold := self._molds.mold_for(target)) is not None:
            for slot in self._rollout.next_slots(self._slots)[: max(0, self._replacement.spawn_room(self._slots))]:
                slot.incoming = self._children.spawn_worker(slot, target, mold, now)

    def _finish_rollout(self, now: float) -> None:
        wanted = self._rollout.finish()
        self.watchdog.timeout = self._rollout.terms.worker_timeout
        count = len(self._slots)
        self._children.log(Level.INFO, f"restarted: {counted(count, 'worker', 'are')} new")
        if wanted is not None and wanted != count:
            self._children.log(Level.INFO, f"the number of workers changes from {count} to {wanted}")
            for _ in range(wanted, count):
                self._drop_last_slot(now)
            for _ in range(count, wanted):
                self._slots.add_slot(self._rollout.generation)
        self._molds.plan_molds(self._slots, now)

    def _begin_stop(self, now: float) -> None:
        self.phase = Phase.STOPPING
        self._stopped_at = now
        self._children.add_action(CloseListeners())
        for child in self._children:
            if isinstance(child, Worker):
                self._children.drain_worker(child, now)
            elif isinstance(child, Mold):
                self._children.retire_mold(child, now)

    def _fail_start(self, reason: str, details: str, now: float) -> None:
        """Only once: further failures of the same start come in the phase STOPPING, and say nothing new."""
        self._status = 1
        self._children.add_action(FailStart(reason, details))
        self._begin_stop(now)
