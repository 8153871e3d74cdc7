"""Logs when all threads of a worker are stuck while requests wait, and when they are not any more. Loop only.

The worker's tick checks this, so a request pays nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted, while_serving
from starman.serving.health.requests_in_flight import count_waiting, running_requests

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext

# The threads are stuck if none has finished a request for this long (seconds), and a request has waited for as long.
STUCK_SECONDS = 5.0
# At most one warning is logged in this time (seconds).
QUIET_SECONDS = 60.0


class StuckThreadsDetector:
    """Checks the threads of one worker."""

    __slots__ = ("_finished", "_since", "_stuck", "_told_at")

    def __init__(self, now: float) -> None:
        """`now` is monotonic."""
        self._finished = 0
        # When a request was last finished, or none waited.
        self._since = now
        self._stuck = False
        self._told_at = float("-inf")

    def check(self, context: ServiceContext, now: float) -> None:
        """Log that the threads are stuck, or that they are not any more. `now` is monotonic."""
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
                f"all threads of this worker ({executor.awake}) are busy{while_serving(running_requests(context), now)}: "
                f"none has finished a request for {now - self._since:.1f} s, "
                f"and {counted(count_waiting(context), 'request', 'are')} waiting"
            )
