"""Logs requests with the stacks of their threads, and reports them to the master: a limited number. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log
from starman.log.in_flight import counted
from starman.serving.health.application_frames import application_frames, format_frames
from starman.serving.health.requests_in_flight import request_line

if TYPE_CHECKING:
    from starman.serving.executors.queued_request import RequestState
    from starman.serving.monitor import Monitor

# At most this many stacks are logged in this time (seconds). Further requests are counted.
MOST_LOGGED = 10
PERIOD = 60.0


class StackLog:
    """The requests of one worker that are logged for one reason."""

    __slots__ = ("_ends_at", "_logged", "_missing", "_monitor", "_timed_out", "_what")

    def __init__(self, what: str, monitor: Monitor | None, *, timed_out: bool) -> None:
        """`what` the requests are: "slow request". `monitor`: takes the reports; None: there is no master.
        `timed_out`: whether the requests were ended."""
        self._what = what
        self._monitor = monitor
        self._timed_out = timed_out
        self._ends_at = 0.0
        self._logged = 0
        self._missing = 0

    def stack_of(self, ident: int) -> str:
        """The stack of the thread `ident`; "" if it would not be logged."""
        return "" if self._logged >= MOST_LOGGED else format_frames(application_frames(ident))

    def add(self, request: RequestState, stack: str, then: str, now: float) -> None:
        """Log and report the request, for how long it has run, `then`, and the stack; or only count it. `now` is
        monotonic."""
        if not self._logged:
            self._ends_at = now + PERIOD
        if self._logged >= MOST_LOGGED:
            self._missing += 1
            return
        self._logged += 1
        seconds = request.application_seconds(now)
        line = request_line(request.head)
        log.warning(f"{self._what}: {line} has run for {seconds:.1f} s{then}; its stack:\n{stack}")
        if self._monitor is not None:
            self._monitor.slow_requests.report(line, seconds, stack, timed_out=self._timed_out)

    def end_period(self, now: float) -> None:
        """Log how many were only counted, if the period is over."""
        if self._logged and now >= self._ends_at:
            if self._missing:
                more = counted(self._missing, f"more {self._what}", "are")
                log.warning(f"{more} not logged: the limit is {MOST_LOGGED} in {PERIOD:g} s")
            self._logged = self._missing = 0
