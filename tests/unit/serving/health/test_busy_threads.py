"""starman.serving.health.busy_threads: when stuck threads are logged, and when not."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.proto.events import RequestHead
from starman.serving.context import ServiceContext
from starman.serving.health.busy_threads import QUIET_SECONDS, STUCK_SECONDS, StuckThreadsDetector

Capture = pytest.CaptureFixture[str]


class Worker:
    """Two threads run requests, one of which has lost its client; a third request waits from the first second on."""

    def __init__(self) -> None:
        self.now = 100.0
        self.queued_at = 100.0
        running, queued, gone = (
            SimpleNamespace(running=SimpleNamespace(head=self.head(name), queued_at=since), pending=[])
            for name, since in ((b"/run", 100.0), (b"/queued", 100.0), (b"/gone", 99.0))
        )
        connections = SimpleNamespace(active=lambda: [SimpleNamespace(_writer=writer) for writer in (running, queued)])
        self.pool = SimpleNamespace(finished=0, awake=2, longest_wait=self.longest_wait, _queue=deque([queued.running]))
        self.context = cast("ServiceContext", SimpleNamespace(executor=self.pool, connections=connections, lost=[gone]))
        self.detector = StuckThreadsDetector(self.now)

    @staticmethod
    def head(target: bytes) -> RequestHead:
        return cast("Any", SimpleNamespace(method=b"GET", target=target))

    def longest_wait(self, now: float) -> float:
        return now - self.queued_at if self.pool._queue else 0.0

    def pass_seconds(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            self.detector.check(self.context, self.now)


def test_it_names_what_runs_and_not_what_waits(capfd: Capture) -> None:
    worker = Worker()
    worker.pass_seconds(STUCK_SECONDS - 0.5)
    assert capfd.readouterr().err == ""
    worker.pass_seconds(30)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(
        "all threads of this worker (2) are busy while serving GET /gone (for 6.0 s), GET /run (for 5.0 s): "
        "none has finished a request for 5.0 s, and 1 request is waiting\n"
    )
    worker.pool.finished += 1
    worker.pass_seconds(0.5)
    assert "requests are being finished again, after 35.0 s" in capfd.readouterr().err
    worker.pass_seconds(QUIET_SECONDS - 40)
    assert capfd.readouterr().err == ""
    worker.pass_seconds(40)
    assert capfd.readouterr().err.count("are busy") == 1


def test_a_worker_that_finishes_requests_now_and_then_is_not_stuck(capfd: Capture) -> None:
    worker = Worker()
    for _ in range(30):
        worker.pass_seconds(STUCK_SECONDS - 0.5)
        worker.pool.finished += 1
    # Nor a worker in which nothing waits, however long its requests take.
    worker.pass_seconds(0.5)
    worker.pool._queue.clear()
    worker.pass_seconds(600)
    assert capfd.readouterr().err == ""
