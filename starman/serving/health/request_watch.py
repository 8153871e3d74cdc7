"""Watches the requests in a worker's threads, at each tick: busy threads and slow requests. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman.serving.health.busy_threads import BusyThreadsDetector
from starman.serving.health.slow_requests import SlowRequestLog

if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.serving.context import ServiceContext


class RequestWatch:
    """Watches the requests of one service."""

    __slots__ = ("_busy_threads", "_slow_requests")

    def __init__(self, settings: Settings) -> None:
        self._busy_threads = BusyThreadsDetector(settings.busy_warning)
        self._slow_requests = SlowRequestLog(settings.slow_request)

    def check(self, context: ServiceContext, now: float) -> None:
        """Check all requests that run. `now` is monotonic."""
        running = context.executor.running()
        self._busy_threads.check(context, running, now)
        self._slow_requests.check(running, now)
