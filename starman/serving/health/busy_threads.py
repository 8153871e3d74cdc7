"""Logs when all threads of a worker are busy while a request waits long for one, and when that is over. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import MOST_NAMED
from starman.serving.health.application_frames import application_frames, current_line
from starman.serving.health.requests_in_flight import count_waiting, request_line

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest

# At most one warning is logged in this time (seconds).
QUIET_SECONDS = 60.0


class BusyThreadsDetector:
    """Checks the threads of one worker, at each tick."""

    __slots__ = ("_limit", "_since", "_warned", "_warned_at")

    def __init__(self, limit: float) -> None:
        """`limit`: how long (seconds) a request may wait for a thread (`busy_warning`); 0: for ever."""
        self._limit = limit
        # Since when a request waits at any time, monotonic.
        self._since = 0.0
        self._warned = False
        self._warned_at = float("-inf")

    def check(self, context: ServiceContext, running: list[tuple[int, QueuedRequest]], now: float) -> None:
        """Log that a request has waited too long, or that none waits so long any more. `now` is monotonic."""
        waits = context.executor.longest_wait(now)
        if not self._limit or waits < self._limit:
            if self._warned:
                self._warned = False
                log.info(f"requests wait less than {self._limit:g} s for a thread again, after {now - self._since:.1f} s")
        elif not self._warned and now - self._warned_at >= QUIET_SECONDS:
            self._warned, self._warned_at, self._since = True, now, now - waits
            log.warning(
                f"{_busy_threads(context.executor.awake)}{_described(running, now)}; "
                f"{_waiting(count_waiting(context))} for {waits:.1f} s"
            )


def _busy_threads(number: int) -> str:
    if not number:  # all of them are lost, and no others can be started; or there are none (`--threads 0`)
        return "no thread of this worker is free"
    return "the only thread of this worker is busy" if number == 1 else f"all {number} threads of this worker are busy"


def _waiting(number: int) -> str:
    return "1 request has waited for a thread" if number == 1 else f"{number} requests wait for a thread, the first of them"


def _described(running: list[tuple[int, QueuedRequest]], now: float) -> str:
    """` while serving GET /x (for 2.1 s, at /srv/views.py:31 in report), ... and 3 more`; "" for none."""
    oldest = sorted(running, key=_age_first)
    if not oldest:
        return ""
    names = []
    for ident, request in oldest[:MOST_NAMED]:
        line = current_line(application_frames(ident))
        names.append(f"{request_line(request.head)} (for {now - request.queued_at:.1f} s{f', at {line}' if line else ''})")
    more = len(oldest) - len(names)
    return f" while serving {', '.join(names)}{f' and {more} more' if more else ''}"


def _age_first(each: tuple[int, QueuedRequest]) -> float:
    return each[1].queued_at
