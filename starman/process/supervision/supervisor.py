"""The supervisor: which workers and molds there are, and what to do next. Pure: no I/O, no clock.

The master reports events (`on_...`) and the operator's commands (`restart`, `grow`, `shrink`, `stop`) with the instant
at which they happened, then performs the actions that `plan(now)` returns. Every instant is monotonic, in seconds. One
thread.
"""

from __future__ import annotations

from starman.process.forking import SECOND_STOP
from starman.process.messages import ServerEvent
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
from starman.process.supervision.child import Child, HookProcess, Mold, State, Worker
from starman.process.supervision.children import Children
from starman.process.supervision.code_changes import CodeChanges
from starman.process.supervision.deadlines import BootDeadlines
from starman.process.supervision.failed_starts import FailedStarts
from starman.process.supervision.hook_processes import HookProcesses
from starman.process.supervision.molds import Molds
from starman.process.supervision.replacement import Replacement
from starman.process.supervision.rollout import ADOPTED, PRISTINE, Rollout, Terms
from starman.process.supervision.rollout_steps import RolloutSteps
from starman.process.supervision.slots import Slots
from starman.process.supervision.watchdog import Watchdog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.handover import HandedWorker
    from starman.process.supervision.actions import Action


class Supervisor:
    """The bookkeeping of one server's workers and molds."""

    __slots__ = (
        *("_boot_deadlines", "_failed_starts", "_held", "_released", "_replacement", "_rollout_steps", "_status", "_stopped_at"),
        *("children", "code_changes", "hooks", "molds", "phase", "rollout", "slots", "watchdog"),
    )

    def __init__(self, terms: Terms) -> None:
        """A server that is about to start, on these terms."""
        self.phase = Phase.STARTING
        self.rollout = Rollout(terms)
        self.children = Children(self.rollout.terms_of)
        self.watchdog = Watchdog(self.children, terms.worker_timeout)
        self._boot_deadlines = BootDeadlines(self.children, self.rollout.terms_of)
        self._failed_starts = FailedStarts(self.children)
        mold_backoff = self._failed_starts.molds
        self.slots = Slots(terms.workers, 1)
        self.molds = Molds(self.children, self.rollout, mold_backoff)
        self.hooks = HookProcesses(self.children, self.rollout, self.molds, self._failed_starts.hooks)
        self._replacement = Replacement(self.children, self.rollout, self.molds, self._failed_starts.workers)
        self._rollout_steps = RolloutSteps(self.children, self.rollout, self.molds, self._replacement, mold_backoff)
        self.code_changes = CodeChanges(self.children, self._rollout_steps, self._failed_starts, self.watchdog, self.hooks)
        self._held = False
        self._released = False
        self._stopped_at = 0.0
        self._status = 0

    # Events that the master reports.

    def on_spawned(self, number: int, pid: int) -> None:
        """The child exists, as process `pid`."""
        child = self.children.find_child(number)
        if child is None:
            return
        child.pid = pid
        if child.state is State.REQUESTED:
            child.set_state(State.BOOTING, child.deadline)
        elif child.state is State.DRAINING:
            # The order to drain came before its process existed.
            self.children.add_action(Drain(number))

    def on_ready(self, number: int, now: float) -> None:
        """A worker accepts connections, a mold has loaded its modules and can fork, or a hook process waits for
        events."""
        child = self.children.find_child(number)
        if child is None:
            return
        if child.state is State.DRAINING:
            # It became ready before it saw the order to drain, so it may have requests to finish.
            child.deadline = self.children.drain_deadline(child, now)
        if child.state is not State.BOOTING:
            return
        child.set_state(State.READY)
        child.ready_at, child.failure = now, None
        self._failed_starts.note_ready(child)
        if isinstance(child, Worker):
            self._activate_worker(child, now)
        elif isinstance(child, HookProcess):
            self.hooks.on_loaded(child)

    def _activate_worker(self, worker: Worker, now: float) -> None:
        """Put a new worker in charge of its slot. Only now that it is ready is the old worker drained."""
        slot = self.slots.find_slot(worker.slot)
        if slot is not None and slot.incoming is worker:
            old, slot.current, slot.incoming = slot.current, worker, None
            slot.generation = worker.generation
            if old is not None:
                self.children.drain_worker(old, now)

    def on_recycle(self, number: int, reason: str, now: float) -> None:
        """A worker is to be replaced, and serves until another is ready. `reason` completes a sentence."""
        worker = self.children.find_child(number)
        if isinstance(worker, Worker) and worker.ready and not worker.to_replace:
            self._replace(worker, reason, now)

    def _replace(self, worker: Worker, reason: str, now: float) -> None:
        worker.to_replace = True
        self.children.black_box.on_replaced(worker, reason, now)
        self.children.log(Level.INFO, f"{worker.log_name()} is replaced: {reason}")

    def on_drain_request(self, number: int, reason: str, now: float) -> None:
        """A worker is to be replaced, and should serve no more from now on. Drain it at once if there is room for
        another worker; else treat it as `on_recycle` does."""
        worker = self.children.find_child(number)
        if isinstance(worker, Worker) and worker.ready:
            if not self._held and self._replacement.allows(self.slots, now):
                self.children.drain_worker(worker, now)
                self._remove_from_slot(worker)
            if not worker.to_replace:
                self._replace(worker, reason, now)

    def on_draining(self, number: int, now: float) -> None:
        """A worker has begun to drain. If it had no order to, its slot gets another worker at once."""
        worker = self.children.find_child(number)
        if isinstance(worker, Worker) and worker.ready:
            worker.set_state(State.DRAINING, self.children.drain_deadline(worker, now))
            self._remove_from_slot(worker)
            self._failed_starts.count_early_drain(worker, now)

    def on_failed(self, number: int, message: str, details: str, now: float, status: int = 1) -> None:
        """A child reports that it cannot start, or a ready mold that it cannot go on. `status`: see `Failed`."""
        child = self.children.find_child(number)
        if child is not None and not child.ending:
            child.failure = message, details
            if self._is_needed_to_start(child):
                self._fail_start(message, details, now, status)

    def _is_needed_to_start(self, child: Child) -> bool:
        """Whether the first start fails without `child`."""
        return self.phase is Phase.STARTING and not (isinstance(child, HookProcess) and self.hooks.started)

    def on_exit(self, number: int, how: str, now: float, status: int | None = None) -> None:
        """The process has exited. `how` completes a sentence: "was killed by SIGKILL". `status`: its wait status;
        None: not known."""
        child = self.children.find_child(number)
        if child is None:
            return
        expected = child.ending and child.failure is None
        if isinstance(child, Worker):
            self.children.respawns.count(child)
            self.hooks.on_worker_exit(child, status)
            self.children.black_box.on_exit(child, how, now, status)
        elif isinstance(child, HookProcess):
            how += self.hooks.on_exit(child)
        self.children.remove(child)
        fatal = self._remove_from_slot(child)
        if self.phase is Phase.STOPPING or expected:
            return
        if self._is_needed_to_start(child) and not self.terms.reload:
            self._fail_start(*child.exit_reason(how), now)
        elif fatal:
            self._rollout_steps.give_up(self.slots, *child.exit_reason(how), now)
        else:
            self._failed_starts.log_exit(child, how, now)

    def _remove_from_slot(self, child: Child) -> bool:
        """Remove `child` from its slot or from the molds. Returns True when a roll-out cannot go on without it."""
        if isinstance(child, Worker):
            slot = self.slots.find_slot(child.slot)
            if slot is None:
                return False
            rolls = slot.rolling_out and slot.incoming is child
            slot.remove_worker(child)
            return rolls
        if isinstance(child, HookProcess):
            return False
        # The pristine mold counts too while it cannot start: all other molds are forked from it.
        needed = self.rollout.target is not None and child.generation in (PRISTINE, self.rollout.target)
        return self.molds.remove_mold(child) and needed and child.ready_at is None

    # The operator's commands.

    def restart(self, terms: Terms | None = None) -> None:
        """Roll out fresh code on these terms (None: on the newest ones), a batch of workers at a time. During a
        roll-out: begin again after its current step."""
        if self.phase is not Phase.STOPPING:
            self.hooks.add_event(ServerEvent("reloading"))
            self.rollout.request(terms)

    def scale(self, workers: int, now: float) -> None:
        """Have this number of workers run. Less than one: the last worker stays."""
        before = len(self.slots)
        if self.phase is Phase.STOPPING or workers == before:
            return
        if workers < 1:
            self.children.log(Level.WARNING, "cannot go below one worker")
            workers = 1
        while len(self.slots) < workers:
            self.slots.add_slot(self.rollout.generation)
        while len(self.slots) > workers:
            self.children.drain_slot(self.slots.remove_last(), now)
        self.hooks.on_change(before, workers)
        if workers != before:
            what = {1: "one worker more", -1: "one worker less"}.get(workers - before, f"workers scaled from {before}")
            self.children.log(Level.INFO, f"{what}: {workers}")

    def stop(self, now: float) -> None:
        """Stop gracefully. A second call, at least SECOND_STOP later, kills all workers."""
        if self.phase is not Phase.STOPPING:
            seconds = self.rollout.terms.graceful_timeout
            self.children.add_action(LogStopping(seconds))
            self._begin_stop(now)
        elif now - self._stopped_at >= SECOND_STOP:
            if any(worker.state is not State.KILLED for worker in self.children.workers()):
                self.children.add_action(LogKill(Level.WARNING, "stopping at once: all workers are killed"))
                self._status = 1
            for child in self.children:
                if child.state is not State.KILLED:
                    self.children.kill(child, now)

    def server_status(self) -> ServerStatus:
        """The present status of the server, for its observers."""
        restarting = self.rollout.target is not None or self.rollout.requested
        ready, alive_at = self.slots.ready_count, self.watchdog.last_alive()
        return ServerStatus(self.phase, restarting=restarting, ready=ready, wanted=len(self.slots), alive_at=alive_at)

    # Upgrades.

    def hold(self, *, on: bool) -> None:
        """While on, begin nothing new: exited workers are not replaced, and a roll-out stands still. The first start
        goes on."""
        self._released = self._held and not on
        self._held = on

    @property
    def nothing_starting(self) -> bool:
        """Whether the server runs, and neither a worker nor a hook process is starting."""
        starting = self.hooks.starting or any(worker.starting for worker in self.children.workers())
        return self.phase is Phase.RUNNING and not starting

    @property
    def terms(self) -> Terms:
        """The terms in use: until a roll-out has finished, the terms from before it."""
        return self.rollout.terms

    def take_over(self, slots: int, workers: int) -> None:
        """Go on after an upgrade of the master, with this number of slots, and begin a roll-out. `workers`: the number
        in the settings from before the upgrade."""
        self.phase = Phase.RUNNING
        self.hooks.take_over()
        self.rollout.take_over(workers)
        self.slots = Slots(slots, ADOPTED)

    def adopt_worker(self, handed_worker: HandedWorker) -> int:
        """Add a worker from before the upgrade; returns its number."""
        worker = self.children.adopt_worker(handed_worker, ADOPTED)
        slot = self.slots.find_slot(worker.slot)
        if slot is not None and worker.ready:
            slot.current = worker
        return worker.number

    # The plan.

    def plan(self, now: float) -> list[Action]:
        """Return the actions that follow, at the instant `now`, from all reports so far. Perform them in order. Each
        action is returned once."""
        self._released = False
        self._check_deadlines(now)
        if self.phase is not Phase.STOPPING:
            # Before the roll-outs: a restart requested during the start begins in this plan, not at the next event.
            if self.phase is Phase.STARTING and self.slots.ready_count == len(self.slots):
                self.phase = Phase.RUNNING
                self.children.add_action(LogReady(len(self.slots)))
                self.hooks.announce_ready()
            # The first start is never held: an upgrade waits until all workers are ready.
            if not self.code_changes.plan(self.slots, now) and (not self._held or self.phase is Phase.STARTING):
                self._plan_children(now)
        else:
            if all(isinstance(child, HookProcess) for child in self.children):
                self.hooks.finish(now)
            if not self.children:
                self.children.add_action(Exit(self._status))
        self.hooks.plan_events(now)
        return self.children.take_actions()

    def _plan_children(self, now: float) -> None:
        # The `starting` hooks come before the application is loaded.
        self.molds.plan_molds(self.slots, now, only_pristine=not self.hooks.started)
        if self.hooks.started:
            before = len(self.slots)
            if self._rollout_steps.plan_step(self.slots, now, running=self.phase is Phase.RUNNING):
                self.watchdog.timeout = self.terms.worker_timeout
                self.hooks.on_change(before, len(self.slots))
            self._replacement.fill_slots(self.slots, now)
        self.hooks.plan(now)

    def next_instant(self, now: float) -> float | None:
        """When to call `plan` again even if nothing happens; None: never."""
        if self._released:
            return now
        instants = self._failed_starts.next_instants(now)
        instants += [
            instant
            for instant in (
                self.children.next_deadline(),
                self.watchdog.next_instant(),
                self._replacement.next_instant(now),
                self.hooks.next_instant(),
            )
            if instant is not None
        ]
        return min(instants, default=None)

    def _check_deadlines(self, now: float) -> None:
        """Handle the children that have passed their deadline."""
        for child in self.children:
            if child.deadline is None or child.deadline > now:
                continue
            if child.state is State.KILLED:
                self.children.add_action(Forget(child.number))
                self.on_exit(child.number, "was killed", now)
                continue
            if child.starting and self._boot_deadlines.extend(child, now):
                continue
            if isinstance(child, Worker) and not child.starting:
                late = "is still silent" if child.silent else "did not end in time"
                self.children.add_action(LogKill(Level.WARNING, f"{child.log_name()} {late}: it is killed", child.number))
                if self.phase is Phase.STOPPING:
                    self._status = 1
            elif isinstance(child, HookProcess) and not child.starting:
                self.hooks.log_late(child)
            self.children.kill(child, now)
            if child.failure is not None and self._is_needed_to_start(child) and not self.terms.reload:
                self._fail_start(*child.exit_reason(""), now)

    def _begin_stop(self, now: float) -> None:
        self.phase = Phase.STOPPING
        self._stopped_at = now
        self.children.add_action(CloseListeners())
        self.hooks.begin_stop()
        for child in self.children:
            if isinstance(child, Worker):
                self.children.drain_worker(child, now)
            elif isinstance(child, Mold):
                self.children.retire_mold(child, now)

    def _fail_start(self, reason: str, details: str, now: float, status: int = 1) -> None:
        """Fail the first start, once: later failures of the same start come in the phase STOPPING and add nothing."""
        self._status = 1
        self.children.add_action(FailStart(reason, details, status))
        self._begin_stop(now)
