"""Logs each slow request once, with the stack of its thread, while it goes on. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted
from starman.serving.health.application_frames import application_frames, format_frames
from starman.serving.health.requests_in_flight import request_line

if TYPE_CHECKING:
    from starman.serving.executors.queued_request import QueuedRequest

# At most this many slow requests are logged in this time (seconds). Further ones are counted.
MOST_LOGGED = 10
PERIOD = 60.0


class SlowRequestLog:
    """The slow requests of one worker: those on which the application has worked for longer than a limit."""

    __slots__ = ("_ends_at", "_known", "_limit", "_logged", "_missing")

    def __init__(self, limit: float) -> None:
        """`limit`: in seconds (`slow_request`); 0: none is slow."""
        self._limit = limit
        # The slow requests that still run. They are kept, so that no other can have the same id.
        self._known: dict[int, QueuedRequest] = {}
        self._ends_at = 0.0
        self._logged = 0
        self._missing = 0

    def check(self, running: list[tuple[int, QueuedRequest]], now: float) -> None:
        """Log the requests that have become slow. `now` is monotonic."""
        self._end_period(now)
        if not self._limit:
            return
        slow = {}
        for ident, request in running:
            if request.application_seconds(now) >= self._limit:
                slow[id(request)] = request
                if id(request) not in self._known:
                    self.add(ident, request, now, "slow request", "so far; its stack")
        self._known = slow

    def add(self, ident: int, request: QueuedRequest, now: float, what: str, then: str) -> None:
        """Log `what`, the request, for how long it has run, `then`, and the stack of its thread; or only count it."""
        if not self._logged:
            self._ends_at = now + PERIOD
        if self._logged >= MOST_LOGGED:
            self._missing += 1
            return
        self._logged += 1
        stack = format_frames(application_frames(ident))
        seconds = request.application_seconds(now)
        log.warning(f"{what}: {request_line(request.head)} has run for {seconds:.1f} s {then}:\n{stack}")

    def _end_period(self, now: float) -> None:
        """Log how many were only counted, if the period is over."""
        if self._logged and now >= self._ends_at:
            if self._missing:
                log.warning(
                    f"and {counted(self._missing, 'more slow request')} {'was' if self._missing == 1 else 'were'} not logged: "
                    f"at most {MOST_LOGGED} are in {PERIOD:g} s"
                )
            self._logged = self._missing = 0
