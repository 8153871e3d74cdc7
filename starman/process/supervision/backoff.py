"""Unexpected exits of workers and molds: logging and respawn back-off. Pure; part of the supervisor."""

from __future__ import annotations

from starman.process.supervision.actions import Level
from starman.process.supervision.child import Child, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Children

# A worker that was ready for less than this died at boot; one that lives this long shows that its code is sound. Seconds.
YOUNG = 1.0
PROVEN = 10.0
# The first wait after a death at boot; it doubles with each further one, up to the longest. Seconds.
FIRST_WAIT = 0.5
LONGEST_WAIT = 60.0


class Backoff:
    """When the next attempt may be made after deaths at boot.

    Exponential, and one attempt at a time until one of them becomes ready: a broken application costs one traceback
    per wait, however many workers it should have. (Starman in Perl logged 1178 errors in 8 s.)
    """

    __slots__ = ("counted_at", "failing", "failures", "not_before")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All is well again."""
        self.failures = 0
        self.failing = False
        self.counted_at = float("-inf")
        self.not_before = float("-inf")

    def failed(self, requested_at: float, now: float) -> bool:
        """A child asked for at `requested_at` has died at boot. False when its death was counted with an earlier one's:
        both were on their way at the same time."""
        if self.failing and requested_at <= self.counted_at:
            return False
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self.failing = True
        self.counted_at = now
        self.not_before = now + wait
        return True

    def succeeded(self) -> None:
        """An attempt has become ready. Whether it survives is to be seen, so the count of failures stays."""
        self.failing = False

    def allows(self, now: float, starting: int) -> bool:
        """Whether an attempt may be made while `starting` others are on their way."""
        return now >= self.not_before and (starting == 0 or not self.failing)


class CrashLog:
    """The deaths of one children, and the waits that follow from them: `workers` for its workers, `molds` for its molds."""

    __slots__ = ("_children", "_molds", "_workers")

    def __init__(self, children: Children, workers: Backoff, molds: Backoff) -> None:
        self._children = children
        self._workers = workers
        self._molds = molds

    def log_exit(self, child: Child, how: str, now: float) -> None:
        """`child` has died; `how` completes a sentence."""
        reason, details = child.exit_reason(how)
        if child.seconds_ready(now) >= PROVEN:
            self._backoff_of(child).reset()
        if child.seconds_ready(now) >= YOUNG and child.failure is None:
            self._children.log(Level.WARNING, f"{reason}; it is replaced")
            return
        counted, wait = self._count(child, now)
        self._children.log(Level.ERROR, f"{reason}; next attempt in {wait:.1f} s", details if counted else "")

    def count_early_drain(self, worker: Worker, now: float) -> None:
        """`worker` drains, though nobody of ours has decided it: soon after its boot, that is as bad as a death."""
        if worker.seconds_ready(now) < YOUNG:
            self._count(worker, now)

    def _count(self, child: Child, now: float) -> tuple[bool, float]:
        """Whether it was counted, and how many seconds to wait."""
        backoff = self._backoff_of(child)
        alike = [other for other in self._children if type(other) is type(child)]
        if any(other.seconds_ready(now) >= PROVEN and other.requested_at > backoff.counted_at for other in alike):
            backoff.reset()
        counted = backoff.failed(child.requested_at, now)
        return counted, max(0.0, backoff.not_before - now)

    def _backoff_of(self, child: Child) -> Backoff:
        return self._workers if isinstance(child, Worker) else self._molds
