"""The watchdog: finds and replaces workers with a silent event loop. Pure; part of the supervisor.

A silent worker first writes the stacks of its threads, and is killed a little later. If its loop runs again meanwhile,
the worker is not killed, but it is replaced in any case.

A silence through which the master itself has slept says nothing: a whole machine stands still now and then, when it is
suspended, moved or short of CPU, and all processes on it wake up at the same time. So a check that comes late gives a
silent worker the same time again.
"""

from __future__ import annotations

from starman.process.supervision.actions import DumpStacks, Level
from starman.process.supervision.child import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from starman.process.supervision.child import Worker
    from starman.process.supervision.children import Children

# How long (seconds) a silent worker may take to write its stacks, or to go on, before it is killed.
STACKS_SLACK = 2.0
# A check that is late by this much (seconds) was delayed by something that may have delayed the workers, too.
LATE = 0.25


class Watchdog:
    """The watchdog over the workers of one supervisor."""

    __slots__ = ("_children", "timeout")

    def __init__(self, children: Children, timeout: float) -> None:
        """`timeout`: how long (seconds) a loop may be silent; 0: no limit."""
        self._children = children
        self.timeout = timeout

    def check(self, beats: Mapping[int, float], now: float) -> None:
        """Find silent workers. `beats` has the instant at which each loop was last alive, by the number of the worker.
        Only workers that became ready are checked: others have boot deadlines."""
        for worker in self._children.workers():
            if worker.number in beats and worker.ready_at is not None:
                beat = max(beats[worker.number], worker.ready_at)
                if beat != worker.alive_at:
                    worker.alive_at, worker.excused_until = beat, None
                if not self.timeout:
                    continue
                seconds = now - beat
                if worker.silent and seconds < self.timeout:
                    self._clear_silence(worker, now)
                elif (
                    worker.ready
                    and not worker.silent
                    and seconds >= self.timeout
                    and not self._allows_for_late_check(worker, now)
                ):
                    self._request_stacks(worker, seconds, now)

    def _allows_for_late_check(self, worker: Worker, now: float) -> bool:
        """Whether a silent worker still has the time by which this check is late. Granted once in a silence."""
        assert worker.alive_at is not None
        late = now - worker.alive_at - self.timeout
        if worker.excused_until is None and late >= LATE:
            worker.excused_until = now + min(late, self.timeout)
        return worker.excused_until is not None and now < worker.excused_until

    def _request_stacks(self, worker: Worker, seconds: float, now: float) -> None:
        worker.silent = worker.to_replace = True
        worker.deadline = now + STACKS_SLACK
        reason = f"its loop has been silent for {seconds:.1f} s (worker_timeout)"
        self._children.black_box.on_replaced(worker, reason, now)
        self._children.add_action(DumpStacks(worker.number, f"{worker.log_name()} is replaced: {reason}"))

    def _clear_silence(self, worker: Worker, now: float) -> None:
        worker.silent = False
        if worker.state is State.READY:
            worker.deadline = None
        elif worker.state is State.DRAINING:
            worker.deadline = self._children.drain_deadline(worker, now)
        self._children.log(Level.WARNING, f"{worker.log_name()} responds again")

    def last_alive(self) -> float | None:
        """The latest instant at which the loop of any serving worker was alive; None if no worker serves, or the beats
        of one are not known."""
        beats = [worker.alive_at for worker in self._children.workers() if worker.ready]
        known = [beat for beat in beats if beat is not None]
        return max(known) if known and len(known) == len(beats) else None

    def next_instant(self) -> float | None:
        """When a worker will have been silent for too long, unless its loop runs before; None: never."""
        if not self.timeout:
            return None
        watched = [worker for worker in self._children.workers() if worker.ready and not worker.silent]
        return min(
            (worker.excused_until or worker.alive_at + self.timeout for worker in watched if worker.alive_at is not None),
            default=None,
        )
