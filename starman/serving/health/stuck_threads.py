"""Logs that all threads of a worker are stuck while requests wait for one: once when it begins, and once when it is over.

The worker's tick checks it, so it costs a request nothing. Loop only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted, while_serving
from starman.serving.health.requests_in_flight import running, waiting

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext

# The threads are stuck when none has finished a request for so long (seconds), and one has waited for a thread for as long.
STUCK_SECONDS = 5.0
# It is logged at most once in this time (seconds).
QUIET_SECONDS = 60.0


class StuckWatch:
    """The watch over one worker's threads."""

    __slots__ = ("_finished", "_since", "_stuck", "_told_at")

    def __init__(self, now: float) -> None:
        """`now` is monotonic."""
        self._finished = 0
        # When a request was last known to be finished, or no request waited.
        self._since = now
        self._stuck = False
        self._told_at = float("-inf")

    def look(self, context: ServiceContext, now: float) -> None:
        """Log the beginning or the end. `now` is monotonic."""
        executor = context.executor
        waits = executor.longest_wait(now)
        if executor.finished != self._finished or not waits:
            if self._stuck:
                self._stuck = False
                log.info(f"requests are being finished again, after {now - self._since:.1f} s")
            self._finished, self._since = executor.finished, now
        elif min(waits, now - self._since) >= STUCK_SECONDS and not self._stuck and now - self._told_at >= QUIET_SECONDS:
            self._stuck, self._told_at = True, now
            log.warning(
                f"all threads of this worker ({executor.awake}) are busy{while_serving(running(context), now)}: "
                f"none has finished a request for {now - self._since:.1f} s, "
                f"and {counted(waiting(context), 'request', 'are')} waiting"
            )
