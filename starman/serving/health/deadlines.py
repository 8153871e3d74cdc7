"""Ends requests that have passed their deadlines (`request_timeout`, `starman.deadline`). Loop only.

The client gets 504, or its response is cut; the thread counts as lost, and a spare takes its place. When too many
threads are lost, the worker is replaced.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted
from starman.serving.health.stack_log import StackLog

if TYPE_CHECKING:
    import asyncio

    from starman.config.settings import Settings
    from starman.serving.executors.executor import Executor
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.monitor import Monitor

# A check is made at least as often as this (seconds); deadlines that come earlier have a timer.
INTERVAL = 0.5


class Deadlines:
    """The deadlines of one service."""

    __slots__ = ("_executor", "_limit", "_logged", "_loop", "_monitor", "_stacks", "_timer")

    def __init__(self, settings: Settings, executor: Executor, loop: asyncio.AbstractEventLoop, monitor: Monitor | None) -> None:
        """`monitor` replaces the worker; None: nothing can."""
        self._executor = executor
        self._loop = loop
        self._monitor = monitor
        self._limit = settings.lost_threads or settings.threads
        self._stacks = StackLog("timed-out request")
        self._timer: asyncio.TimerHandle | None = None
        self._logged = False

    def check(self) -> None:
        """End the requests whose deadlines have passed, and set a timer for the next deadline if it comes soon."""
        now = time.monotonic()
        self._stacks.end_period(now)
        self._executor.start_missing()
        soonest = INTERVAL
        for ident, request in self._executor.running():
            limit = request.time_limit
            if limit > 0.0:
                left = limit - request.application_seconds(now)
                if left <= 0.0:
                    self._expire(ident, request, now)
                elif left < soonest:
                    soonest = left
        if soonest < INTERVAL:
            self._set_timer(soonest)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.check)

    def _expire(self, ident: int, request: QueuedRequest, now: float) -> None:
        stack = self._stacks.stack_of(ident)
        request.ends = True
        try:
            ending = request.expire(now)
            if not ending:
                return
            self._executor.lose(ident, request)
        finally:
            request.ends = False
        self._stacks.add(request, stack, f", so {ending} (request_timeout)", now)
        self._replace_worker()

    def _replace_worker(self) -> None:
        """Have the worker replaced if too many of its threads are lost."""
        lost = len(self._executor.lost_threads.threads)
        if lost < self._limit:
            return
        reason = f"{counted(lost, 'thread', 'are')} busy with requests that have timed out (lost_threads)"
        if self._monitor is not None:
            self._monitor.recycle_request.request(reason)
        elif not self._logged:
            self._logged = True
            log.error(f"{reason}: this program should be restarted")
