"""Load shedding: how long and how many requests may wait for a thread, and what the log says of refused ones.

The limits of one worker, from the settings `queue_timeout` and `max_queue`. `executors/shedding.py` enforces them.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import TYPE_CHECKING, Final

from starman import log

if TYPE_CHECKING:
    from starman.config.settings import Settings

# The reasons of a refusal, as the client reads them.
WAITED_TOO_LONG: Final = "the server is busy: this request has waited too long"
QUEUE_IS_FULL: Final = "the server is busy: too many requests wait"

# Shedding is over when no request was refused for this long (seconds). While it goes on, a line says so this often.
QUIET_SECONDS: Final = 10.0
STILL_SECONDS: Final = 60.0


class LoadShedding:
    """The limits, and the count of refusals.

    queue_timeout: how long (seconds) a request may wait for a thread; infinite if there is no limit. max_queue: how
    many may wait; 0: any number. late, overflowed: how many were refused since the start, for each reason. Loop only,
    up to date after `check`.
    """

    __slots__ = ("_began_at", "_counted", "_last_at", "_news", "_told_at", "late", "max_queue", "overflowed", "queue_timeout")

    def __init__(self, settings: Settings) -> None:
        self.queue_timeout = settings.queue_timeout or inf
        self.max_queue = settings.max_queue
        self.late = self.overflowed = 0
        # Appending to a deque is one step, so threads need no lock.
        self._news: deque[str] = deque()
        self._began_at: float | None = None  # monotonic; None: no shedding goes on
        self._counted = (0, 0)  # `late` and `overflowed` when it began
        self._last_at = self._told_at = 0.0

    @property
    def is_on(self) -> bool:
        """Whether any request may be refused."""
        return self.max_queue > 0 or self.queue_timeout < inf

    def note(self, reason: str) -> None:
        """A request was refused. Any thread."""
        self._news.append(reason)

    def check(self, now: float) -> None:
        """Count what was refused, and log the begin and the end of shedding. Loop, at each tick. `now` is
        monotonic."""
        before = (self.late, self.overflowed)
        while self._news:
            # Compiled modules have copies of their own of these constants, so `is` would not find them.
            if self._news.popleft() == WAITED_TOO_LONG:
                self.late += 1
            else:
                self.overflowed += 1
        if (self.late, self.overflowed) != before:
            self._last_at = now
            if self._began_at is None:
                self._began_at, self._told_at, self._counted = now, now, before
                log.warning(f"refusing requests {self._reason(before)}")
            elif now - self._told_at >= STILL_SECONDS:
                self._told_at = now
                log.warning(f"still refusing requests: {self._count(now - self._began_at)}")
        elif self._began_at is not None and now - self._last_at >= QUIET_SECONDS:
            self._end(now)

    def close(self, now: float) -> None:
        """Log how many were refused: the worker ends. Loop."""
        self.check(now)
        if self._began_at is not None:
            self._end(now)

    def _end(self, now: float) -> None:
        assert self._began_at is not None
        log.info(f"no longer refusing requests: {self._count(self._last_at - self._began_at)}")
        self._began_at = None

    def _reason(self, before: tuple[int, int]) -> str:
        if self.late > before[0]:
            return f"that have waited {self.queue_timeout:g} s for a thread (503, queue_timeout)"
        others = "1 other waits" if self.max_queue == 1 else f"{self.max_queue} others wait"
        return f"while {others} for a thread (503, max_queue)"

    def _count(self, seconds: float) -> str:
        """How many were refused since the shedding began: "7 were refused in 3 s (5 by queue_timeout, 2 by
        max_queue)"."""
        counts = [(self.late - self._counted[0], "queue_timeout"), (self.overflowed - self._counted[1], "max_queue")]
        refused = sum(count for count, _ in counts)
        reasons = [setting if count == refused else f"{count} by {setting}" for count, setting in counts if count]
        within = f" in {seconds:.0f} s" if seconds >= 1.0 else ""
        return f"{refused} {'was' if refused == 1 else 'were'} refused{within} ({', '.join(reasons)})"
