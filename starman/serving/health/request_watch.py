"""Watches the requests in a worker's threads: busy threads, slow requests and deadlines. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from starman.serving.health.busy_threads import BusyThreadsDetector
from starman.serving.health.deadline_setter import DeadlineSetter, IneffectiveDeadline
from starman.serving.health.deadlines import INTERVAL, Deadlines
from starman.serving.health.slow_requests import SlowRequestLog

if TYPE_CHECKING:
    import asyncio

    from starman.config.settings import Settings
    from starman.serving.context import ServiceContext
    from starman.serving.executors.executor import Executor
    from starman.serving.monitor import Monitor


class RequestWatch:
    """Watches the requests of one service.

    set_deadline: `starman.deadline` of the environ.
    """

    __slots__ = ("_busy_threads", "_deadlines", "_monitor", "_request_timeout", "_slow_requests", "set_deadline")

    def __init__(self, settings: Settings, executor: Executor, loop: asyncio.AbstractEventLoop, monitor: Monitor | None) -> None:
        """`monitor`: supervises the worker; None: there is no supervisor."""
        self._busy_threads = BusyThreadsDetector(settings.busy_warning)
        self._slow_requests = SlowRequestLog(settings.slow_request, monitor)
        self._deadlines = Deadlines(settings, executor, loop, monitor)
        self._monitor = monitor
        self._request_timeout = settings.request_timeout
        self.set_deadline: DeadlineSetter | IneffectiveDeadline = IneffectiveDeadline()
        if settings.threads:
            self.set_deadline = DeadlineSetter(executor, self._deadlines.check)

    def check(self, context: ServiceContext, now: float) -> None:
        """Check all requests that run. Called by each tick. `now` is monotonic."""
        running = context.executor.running()
        self._busy_threads.check(context, running, now)
        self._slow_requests.check(running, now)
        self._deadlines.check()
        if self._monitor is not None:
            self._monitor.slow_requests.send_due(now)

    async def check_short_deadlines(self) -> None:
        """Check more often than a tick if the deadline of all requests comes earlier. Until cancelled."""
        while 0.0 < self._request_timeout < INTERVAL:
            await anyio.sleep(self._request_timeout)
            self._deadlines.check()
