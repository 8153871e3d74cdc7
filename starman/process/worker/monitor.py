"""A worker's monitor: what its service reports to the master and reads of other workers. Implements
`serving.monitor`."""

from __future__ import annotations

from starman import log
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


class WorkerMonitor:
    """The `Monitor` of a worker's service."""

    __slots__ = ("harakiri", "heartbeat", "metrics", "recycle_request", "siblings")

    def __init__(self, channel: Channel, slot: int, page: WorkerPage | None, settings: Settings) -> None:
        """`slot`: the worker's number. `page`: its page of the scoreboard; None if it has none."""
        self.recycle_request = RecycleRequest(channel, settings)
        self.heartbeat = WorkerHeartbeat(slot, page, self.recycle_request)
        log.begin_counting()
        self.metrics = None if page is None else RegionWriter(page.region)
        self.siblings = SiblingLoad(page)
        self.harakiri = HarakiriRequests()
