"""The back-off of starts: how long a worker or mold that crashed is not started again. Pure; part of the
supervisor."""

from __future__ import annotations

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
