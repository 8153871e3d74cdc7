"""Logs each slow request once, with the stack of its thread, while it goes on. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman.serving.health.stack_log import StackLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.serving.executors.queued_request import RequestState
    from starman.serving.monitor import Monitor


class SlowRequestLog:
    """The slow requests of one worker: those on which the application has worked for longer than a limit."""

    __slots__ = ("_known", "_limit", "_stacks")

    def __init__(self, limit: float, monitor: Monitor | None) -> None:
        """`limit`: in seconds (`slow_request`); 0: none is slow. `monitor`: takes the reports; None: only log."""
        self._limit = limit
        self._stacks = StackLog("slow request", monitor, timed_out=False)
        # The slow requests that still run. They are kept, so that no other can have the same id.
        self._known: dict[int, RequestState] = {}

    def check(self, running: Sequence[tuple[int, RequestState]], now: float) -> None:
        """Log the requests that have become slow. `now` is monotonic."""
        self._stacks.end_period(now)
        if not self._limit:
            return
        slow = {}
        for ident, request in running:
            if request.application_seconds(now) >= self._limit:
                slow[id(request)] = request
                if id(request) not in self._known:
                    self._stacks.add(request, self._stacks.stack_of(ident), " so far", now)
        self._known = slow
