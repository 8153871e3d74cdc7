"""A worker's monitor: what its service reports to the master and reads of other workers. Implements
`serving.monitor`."""

from __future__ import annotations

import time
from collections import deque

from starman import log
from starman.process.messages import SlowRequest
from starman.process.metrics_memory import RegionWriter
from starman.process.worker.harakiri import HarakiriRequests
from starman.process.worker.heartbeat import WorkerHeartbeat
from starman.process.worker.recycle_request import RecycleRequest
from starman.process.worker.siblings import SiblingLoad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.scoreboard import WorkerPage


# At most one slow request is sent to the master in this time (seconds). So many more wait, the newest ones.
_SLOW_SECONDS = 1.0
MOST_WAITING = 10


class SlowRequestReports:
    """The `SlowRequests` of a worker's service. Loop only."""

    __slots__ = ("_channel", "_next_at", "_waiting")

    def __init__(self, channel: Channel) -> None:
        """`channel` leads to the master."""
        self._channel = channel
        self._next_at = 0.0
        self._waiting: deque[SlowRequest] = deque(maxlen=MOST_WAITING)

    def report(self, line: str, seconds: float, stack: str, *, timed_out: bool) -> None:
        """Send a report, or keep it until it may be sent."""
        self._waiting.append(SlowRequest(line, seconds, stack, timed_out=timed_out))
        self.send_due(time.monotonic())

    def send_due(self, now: float) -> None:
        """Send the oldest report that waits, if a second has passed since the last one. If the master does not read,
        try again a second later."""
        if self._waiting and now >= self._next_at:
            self._next_at = now + _SLOW_SECONDS
            if self._channel.send(self._waiting[0]):
                self._waiting.popleft()


class WorkerMonitor:
    """The `Monitor` of a worker's service."""

    __slots__ = ("harakiri", "heartbeat", "metrics", "recycle_request", "siblings", "slow_requests")

    def __init__(self, channel: Channel, slot: int, page: WorkerPage | None, settings: Settings) -> None:
        """`slot`: the worker's number. `page`: its page of the scoreboard; None if it has none."""
        self.recycle_request = RecycleRequest(channel, settings)
        self.heartbeat = WorkerHeartbeat(slot, page, self.recycle_request)
        log.begin_counting()
        self.metrics = None if page is None else RegionWriter(page.region)
        self.siblings = SiblingLoad(page)
        self.harakiri = HarakiriRequests()
        self.slow_requests = SlowRequestReports(channel)
