"""Deaths that nobody has ordered: what the log says of them, and how long the next attempt waits. Pure; part of the roster."""

from __future__ import annotations

from starman.process.supervision.actions import Level
from starman.process.supervision.child import Member, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.supervision.children import Crew

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

    __slots__ = ("counted_at", "failures", "not_before", "tripped")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """All is well again."""
        self.failures = 0
        self.tripped = False
        self.counted_at = float("-inf")
        self.not_before = float("-inf")

    def failed(self, asked_at: float, now: float) -> bool:
        """A member asked for at `asked_at` has died at boot. False when its death was counted with an earlier one's:
        both were on their way at the same time."""
        if self.tripped and asked_at <= self.counted_at:
            return False
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.failures, 16))
        self.failures += 1
        self.tripped = True
        self.counted_at = now
        self.not_before = now + wait
        return True

    def passed(self) -> None:
        """An attempt has become ready. Whether it survives is to be seen, so the count of failures stays."""
        self.tripped = False

    def allows(self, now: float, starting: int) -> bool:
        """Whether an attempt may be made while `starting` others are on their way."""
        return now >= self.not_before and (starting == 0 or not self.tripped)


class Deaths:
    """The deaths of one crew, and the waits that follow from them: `workers` for its workers, `molds` for its molds."""

    __slots__ = ("_crew", "_molds", "_workers")

    def __init__(self, crew: Crew, workers: Backoff, molds: Backoff) -> None:
        self._crew = crew
        self._workers = workers
        self._molds = molds

    def report(self, member: Member, how: str, now: float) -> None:
        """`member` has died; `how` completes a sentence."""
        reason, details = member.reason(how)
        if member.lived(now) >= PROVEN:
            self._backoff_of(member).reset()
        if member.lived(now) >= YOUNG and member.failure is None:
            self._crew.say(Level.WARNING, f"{reason}; it is replaced")
            return
        counted, wait = self._count(member, now)
        self._crew.say(Level.ERROR, f"{reason}; next attempt in {wait:.1f} s", details if counted else "")

    def left(self, worker: Worker, now: float) -> None:
        """`worker` drains, though nobody of ours has decided it: soon after its boot, that is as bad as a death."""
        if worker.lived(now) < YOUNG:
            self._count(worker, now)

    def _count(self, member: Member, now: float) -> tuple[bool, float]:
        """Whether it was counted, and how many seconds to wait."""
        backoff = self._backoff_of(member)
        alike = [other for other in self._crew if type(other) is type(member)]
        if any(other.lived(now) >= PROVEN and other.asked_at > backoff.counted_at for other in alike):
            backoff.reset()
        counted = backoff.failed(member.asked_at, now)
        return counted, max(0.0, backoff.not_before - now)

    def _backoff_of(self, member: Member) -> Backoff:
        return self._workers if isinstance(member, Worker) else self._molds
