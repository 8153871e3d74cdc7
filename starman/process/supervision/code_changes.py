"""Replaces all workers at once when the application's files have changed (`--reload`). Pure; part of the supervisor.

Unlike a roll-out, this does not wait until new workers are ready: no request may get old code once a change is known.
Connections wait in the listener's backlog meanwhile.
"""

from __future__ import annotations

from starman.process.supervision.actions import Level
from starman.process.supervision.child import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Children
    from starman.process.supervision.failed_starts import FailedStarts
    from starman.process.supervision.hook_processes import HookProcesses
    from starman.process.supervision.rollout_steps import RolloutSteps
    from starman.process.supervision.slots import Slots
    from starman.process.supervision.watchdog import Watchdog


class CodeChanges:
    """The changes that the watcher has reported, and what follows from them in the next plan.

    settling: nothing is started, because more files may change.
    """

    __slots__ = ("_begins", "_children", "_failed_starts", "_hooks", "_reason", "_rollout_steps", "_watchdog", "settling")

    def __init__(
        self,
        children: Children,
        rollout_steps: RolloutSteps,
        failed_starts: FailedStarts,
        watchdog: Watchdog,
        hooks: HookProcesses,
    ) -> None:
        self._children = children
        self._rollout_steps = rollout_steps
        self._failed_starts = failed_starts
        self._watchdog = watchdog
        self._hooks = hooks
        self._begins = False
        # The files of a change that has settled, for the log; None: none has.
        self._reason: str | None = None
        self.settling = False

    def on_changing(self) -> None:
        """Files of the application are changing: have no worker serve their old code."""
        self._begins = self.settling = True

    def on_changed(self, reason: str) -> None:
        """The files have settled: have all slots get workers with new code. `reason` names the files."""
        self._begins = self._begins or not self.settling
        self.settling = False
        self._reason = reason

    def plan(self, slots: Slots, now: float) -> bool:
        """Plan what follows from the reports. Returns whether nothing is to be started yet."""
        if self._begins:
            self._begins = False
            self._end_workers(slots, now)
        if self._reason is not None and not self.settling:
            self._children.log(Level.INFO, f"reloading: {self._reason}")
            self._reason = None
            self._renew(slots, now)
        return self.settling

    def _end_workers(self, slots: Slots, now: float) -> None:
        """Drain the workers that serve. Kill those that start, or still drain since an earlier change: they run old
        code, and take the room of new workers."""
        for worker in self._children.workers():
            if worker.ready:
                self._children.drain_worker(worker, now)
            elif worker.state is not State.KILLED:
                self._children.kill(worker, now)
        for slot in slots:
            slot.current = slot.incoming = None

    def _renew(self, slots: Slots, now: float) -> None:
        # New code gets an attempt without waiting.
        self._failed_starts.workers.reset()
        self._failed_starts.molds.reset()
        self._failed_starts.hooks.reset()
        before = len(slots)
        terms = self._rollout_steps.renew(slots, now)
        self._watchdog.timeout = terms.worker_timeout
        self._hooks.on_change(before, len(slots))
