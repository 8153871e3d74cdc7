"""What follows when a worker or mold fails or dies before it is ready, or soon after. Pure; part of the supervisor.

- During the first start of the server, the start fails: the server stops with the child's reason, and exit status 1.
- During a roll-out, a child that the roll-out needs ends it: the workers with the code from before go on.
- Later, the child is replaced after a wait that grows (`backoff`). The log says why it died and how long the wait is,
  with details once for all children that fail together.

The supervisor decides which of these it is (`Supervisor.on_exit`); this module does the last. A child that is not
ready within boot_timeout is killed (`deadlines`), and then counts as one that died.
"""

from __future__ import annotations

from starman.process.supervision.actions import Level
from starman.process.supervision.backoff import PROVEN, Backoff
from starman.process.supervision.child import Child, HookProcess, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Children

# A child that was ready for less than this has died at boot (seconds).
YOUNG = 1.0


class FailedStarts:
    """Logs unexpected exits, and counts those of children that died at boot.

    workers, molds, hooks: when one of each kind of children may be started again.
    """

    __slots__ = ("_children", "hooks", "molds", "workers")

    def __init__(self, children: Children) -> None:
        self._children = children
        self.workers = Backoff()
        self.molds = Backoff()
        self.hooks = Backoff()

    def note_ready(self, child: Child) -> None:
        """`child` has become ready: more than one of its kind may be started at a time again."""
        self._backoff_of(child).succeeded()

    def log_exit(self, child: Child, how: str, now: float) -> None:
        """Log that `child` has exited unexpectedly, and when it is replaced: at once, or after a wait if it died at
        boot. `how` completes a sentence ("was killed by SIGKILL")."""
        reason, details = child.exit_reason(how)
        if child.seconds_ready(now) >= PROVEN:
            self._backoff_of(child).reset()
        if child.seconds_ready(now) >= YOUNG and child.failure is None:
            self._children.log(Level.WARNING, f"{reason}; it is replaced")
            return
        counted, wait = self._count(child, now)
        self._children.log(Level.ERROR, f"{reason}; next attempt in {wait:.1f} s", details if counted else "")

    def count_early_drain(self, worker: Worker, now: float) -> None:
        """A worker has begun to drain without an order. Soon after its boot this counts as a failure."""
        if worker.seconds_ready(now) < YOUNG:
            self._count(worker, now)

    def next_instants(self, now: float) -> list[float]:
        """The ends of the waits that are not over at `now`."""
        return [backoff.not_before for backoff in (self.workers, self.molds, self.hooks) if backoff.not_before > now]

    def _count(self, child: Child, now: float) -> tuple[bool, float]:
        """Returns whether the failure was counted, and how many seconds to wait."""
        backoff = self._backoff_of(child)
        alike = [other for other in self._children if type(other) is type(child)]
        if any(other.seconds_ready(now) >= PROVEN and other.requested_at > backoff.counted_at for other in alike):
            backoff.reset()
        counted = backoff.failed(child.requested_at, now)
        return counted, max(0.0, backoff.not_before - now)

    def _backoff_of(self, child: Child) -> Backoff:
        if isinstance(child, HookProcess):
            return self.hooks
        return self.workers if isinstance(child, Worker) else self.molds
