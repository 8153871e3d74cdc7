"""The watch over the loops of workers: which has been silent for too long, and what is ordered then. Pure, as the supervisor is.

A silent worker is first asked for the stacks of its threads, and killed a little later. If its loop is heard again meanwhile, it
is not killed; but it is replaced in any case.

A silence that the master itself has slept through says nothing: a whole machine stands still now and then, when it is suspended,
moved or short of CPU, and everybody on it wakes up at the same time. So whoever looks late looks once more before it asks.
"""

from __future__ import annotations

from starman.process.supervision.actions import DumpStacks, Level
from starman.process.supervision.child import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from starman.process.supervision.child import Worker
    from starman.process.supervision.children import Children

# How long (seconds) a silent worker may take to write its stacks, or to be heard again, before it is killed.
STACKS_SLACK = 2.0
# A look that comes so much later (seconds) than it was due was kept up by what may have kept up the workers as well.
LATE = 0.25


class Watch:
    """The watch of one supervisor, over its children."""

    __slots__ = ("_children", "timeout")

    def __init__(self, children: Children, timeout: float) -> None:
        """`timeout`: seconds of silence; 0: nobody is watched."""
        self._children = children
        self.timeout = timeout

    def look(self, beats: Mapping[int, float], now: float) -> None:
        """`beats` has the instant at which each worker's loop was last alive, by the number of the worker. Those that are ready
        are looked at: others have deadlines of their own."""
        for worker in self._children.workers():
            if worker.number in beats and worker.ready_at is not None:
                beat = max(beats[worker.number], worker.ready_at)
                if beat != worker.beat:
                    worker.beat, worker.excused_until = beat, None
                if not self.timeout:
                    continue
                seconds = now - beat
                if worker.silent and seconds < self.timeout:
                    self._pardon(worker, now)
                elif worker.ready and not worker.silent and seconds >= self.timeout and not self._excuses(worker, now):
                    self._ask(worker, seconds, now)

    def _excuses(self, worker: Worker, now: float) -> bool:
        """Whether a worker that has been silent for too long is given the time by which this look is late: once in a silence."""
        assert worker.beat is not None
        late = now - worker.beat - self.timeout
        if worker.excused_until is None and late >= LATE:
            worker.excused_until = now + min(late, self.timeout)
        return worker.excused_until is not None and now < worker.excused_until

    def _ask(self, worker: Worker, seconds: float, now: float) -> None:
        worker.silent = worker.spent = True
        worker.deadline = now + STACKS_SLACK
        reason = f"its loop has been silent for {seconds:.1f} s (worker_timeout)"
        self._children.order(DumpStacks(worker.number, f"{worker.title()} is replaced: {reason}"))

    def _pardon(self, worker: Worker, now: float) -> None:
        worker.silent = False
        if worker.state is State.READY:
            worker.deadline = None
        elif worker.state is State.DRAINING:
            worker.deadline = self._children.drained_by(worker, now)
        self._children.say(Level.WARNING, f"{worker.title()} is heard again")

    def heard(self) -> float | None:
        """When the loop of any worker that serves was last alive; None if none serves, or one does whose beats are not known."""
        beats = [worker.beat for worker in self._children.workers() if worker.ready]
        known = [beat for beat in beats if beat is not None]
        return max(known) if known and len(known) == len(beats) else None

    def next_instant(self) -> float | None:
        """When a worker will have been silent for too long, unless it is heard before; None for never."""
        if not self.timeout:
            return None
        watched = [worker for worker in self._children.workers() if worker.ready and not worker.silent]
        return min(
            (worker.excused_until or worker.beat + self.timeout for worker in watched if worker.beat is not None), default=None
        )
