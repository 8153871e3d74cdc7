"""Unexpected exits of workers and molds: logging and respawn back-off. Pure; part of the supervisor."""

from __future__ import annotations

from starman.process.supervision.actions import Level
from starman.process.supervision.child import Child, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Children

# A child that was ready for less than this has died at boot (seconds).
YOUNG = 1.0
# A child that was ready for this long shows that its code works (seconds).
PROVEN = 10.0
# The wait after the first failure at boot. It doubles with each further failure, up to the longest (seconds).
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0


class Backoff:
    """When the next start may be attempted after children that died at boot.

    The wait grows exponentially, and only one attempt runs at a time until one becomes ready. So a broken application
    costs one traceback per wait, whatever the number of workers. (Starman in Perl logged 1178 errors in 8 s.)
    """

    __slots__ = ("counted_at", "failing", "failures", "not_before")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all failures."""
        self.failures = 0
        self.failing = False
        self.counted_at = float("-inf")
        self.not_before = float("-inf")

    def failed(self, requested_at: float, now: float) -> bool:
        """A child requested at `requested_at` has died at boot. Returns False when the failure was already counted
        with another one, because both children were starting at the same time."""
        if self.failing and requested_at <= self.counted_at:
            return False
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self.failing = True
        self.counted_at = now
        self.not_before = now + wait
        return True

    def succeeded(self) -> None:
        """A child has become ready. The count of failures stays until one has proved that it survives."""
        self.failing = False

    def allows(self, now: float, starting: int) -> bool:
        """Whether a child may be started now, while `starting` others are starting."""
        return now >= self.not_before and (starting == 0 or not self.failing)


class CrashLog:
    """Logs unexpected exits, and sets the waits that follow."""

    __slots__ = ("_children", "_molds", "_workers")

    def __init__(self, children: Children, workers: Backoff, molds: Backoff) -> None:
        """`workers` and `molds` are the back-offs of the two kinds of children."""
        self._children = children
        self._workers = workers
        self._molds = molds

    def log_exit(self, child: Child, how: str, now: float) -> None:
        """Log that `child` has exited unexpectedly, and when it is replaced. `how` completes a sentence ("was killed
        by SIGKILL")."""
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

    def _count(self, child: Child, now: float) -> tuple[bool, float]:
        """Returns whether the failure was counted, and how many seconds to wait."""
        backoff = self._backoff_of(child)
        alike = [other for other in self._children if type(other) is type(child)]
        if any(other.seconds_ready(now) >= PROVEN and other.requested_at > backoff.counted_at for other in alike):
            backoff.reset()
        counted = backoff.failed(child.requested_at, now)
        return counted, max(0.0, backoff.not_before - now)

    def _backoff_of(self, child: Child) -> Backoff:
        return self._workers if isinstance(child, Worker) else self._molds
