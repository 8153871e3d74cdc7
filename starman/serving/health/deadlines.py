"""Ends requests that have passed their deadlines (`request_timeout`, `starman.deadline`). Loop only.

The client gets 504, or its response is cut; the thread counts as lost, and a spare takes its place. When too many
threads are lost, the worker is replaced.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted
from starman.serving.executors.interruption import raise_in_thread
from starman.serving.health.application_frames import is_in_application
from starman.serving.health.stack_log import StackLog

if TYPE_CHECKING:
    import asyncio

    from starman.config.settings import Settings
    from starman.serving.executors.executor import Executor
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.monitor import Monitor

# A check is made at least as often as this (seconds); deadlines that come earlier have a timer.
INTERVAL = 0.5
# After so long (seconds) it is tried again to end a request, or to interrupt its thread, while the thread is in the
# server's own code.
_AGAIN = 0.05
# A thread in the server's own code is about to send a response, or has sent it, so the request goes on for so long
# (seconds). Otherwise the client of a response that is made just in time would get neither that nor 504.
_GRACE = 1.0


class Deadlines:
    """The deadlines of one service."""

    __slots__ = (
        *("_executor", "_interrupts", "_limit", "_logged", "_loop", "_monitor", "_request_timeout", "_stacks", "_timer"),
        "_to_interrupt",
    )

    def __init__(self, settings: Settings, executor: Executor, loop: asyncio.AbstractEventLoop, monitor: Monitor | None) -> None:
        """`monitor` replaces the worker, and takes reports; None: nothing does."""
        self._executor = executor
        self._loop = loop
        self._monitor = monitor
        self._request_timeout = settings.request_timeout
        self._limit = settings.lost_threads or settings.threads
        self._stacks = StackLog("timed-out request", monitor, timed_out=True)
        self._timer: asyncio.TimerHandle | None = None
        self._logged = False
        self._interrupts = settings.request_interrupt
        # Those that have expired, and were not in code of the application when it was to be interrupted.
        self._to_interrupt: list[tuple[int, QueuedRequest]] = []

    def check(self) -> None:
        """End the requests whose deadlines have passed, and set a timer for the next deadline if it comes soon."""
        now = time.monotonic()
        self._stacks.end_period(now)
        self._executor.start_missing()
        soonest = INTERVAL
        running = self._executor.running()
        self._to_interrupt = [each for each in self._to_interrupt if each in running and not self._interrupt(*each)]
        for ident, request in running:
            limit = request.time_limit
            if limit > 0.0:
                left = limit - request.application_seconds(now)
                if left <= 0.0 and (left < -_GRACE or is_in_application(ident)):
                    self._expire(ident, request, now)
                elif left <= 0.0:
                    soonest = min(soonest, _AGAIN)
                elif left < soonest:
                    soonest = left
        if self._to_interrupt:
            soonest = min(soonest, _AGAIN)
        if soonest < INTERVAL:
            self._set_timer(soonest)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.check)

    def _expire(self, ident: int, request: QueuedRequest, now: float) -> None:
        stack = self._stacks.stack_of(ident)
        setting = "request_timeout" if request.time_limit == self._request_timeout else "starman.deadline"
        request.ends = True
        try:
            ending = request.expire(now)
            if not ending:
                return
            self._executor.lose(ident, request)
        finally:
            request.ends = False
        if self._interrupts and not self._interrupt(ident, request):
            self._to_interrupt.append((ident, request))
        self._stacks.add(request, stack, f" ({setting}), and {ending}", now)
        self._replace_worker()

    def _interrupt(self, ident: int, request: QueuedRequest) -> bool:
        """Raise RequestTimeout in the thread, if it is in code of the application. The server's own code, which the
        application has called or has returned to, may hold a lock."""
        request.ends = True
        try:
            if not is_in_application(ident):
                return False
            request.is_interrupted = True
            raise_in_thread(ident)
            return True
        finally:
            request.ends = False

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
