"""starman.serving.health.busy_threads: when busy threads are logged, and when not."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.serving.context import ServiceContext
from starman.serving.health.busy_threads import QUIET_SECONDS, BusyThreadsDetector

Capture = pytest.CaptureFixture[str]

LIMIT = 5.0


class Worker:
    """Two threads run requests; a third request waits from the first second on."""

    def __init__(self, limit: float = LIMIT) -> None:
        self.now = 100.0
        self.queued_at = 100.0
        self.running = [(-1, self.request(b"/run", 100.0)), (-2, self.request(b"/earlier", 99.0))]
        self.pool = SimpleNamespace(awake=2, longest_wait=self.longest_wait, _queue=deque([self.request(b"/queued", 100.0)]))
        self.context = cast("ServiceContext", SimpleNamespace(executor=self.pool))
        self.detector = BusyThreadsDetector(limit)

    @staticmethod
    def request(target: bytes, since: float) -> Any:
        return SimpleNamespace(head=SimpleNamespace(method=b"GET", target=target), queued_at=since)

    def longest_wait(self, now: float) -> float:
        return now - self.queued_at if self.pool._queue else 0.0

    def pass_seconds(self, seconds: float) -> None:
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            self.detector.check(self.context, self.running, self.now)


def test_it_names_what_runs_and_not_what_waits(capfd: Capture) -> None:
    worker = Worker()
    worker.pass_seconds(LIMIT - 0.5)
    assert capfd.readouterr().err == ""
    worker.pass_seconds(30)
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(
        "all 2 threads of this worker are busy while serving GET /earlier (for 6.0 s), GET /run (for 5.0 s); "
        "1 request has waited for a thread for 5.0 s\n"
    )
    worker.pool._queue.clear()
    worker.pass_seconds(0.5)
    assert "requests wait less than 5 s for a thread again, after 35.0 s" in capfd.readouterr().err
    worker.pass_seconds(0.5)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        (0, "no thread of this worker is free while serving"),
        (1, "the only thread of this worker is busy while serving"),
        (3, "all 3 threads of this worker are busy while serving"),
    ],
)
def test_any_number_of_threads_and_of_requests_reads_well(capfd: Capture, threads: int, expected: str) -> None:
    worker = Worker()
    worker.pool.awake = threads
    worker.pool._queue.append(worker.request(b"/queued/too", 101.0))
    worker.pass_seconds(LIMIT)
    said = capfd.readouterr().err
    assert expected in said
    assert said.endswith("; 2 requests wait for a thread, the first of them for 5.0 s\n")


def test_it_is_logged_at_most_once_a_minute(capfd: Capture) -> None:
    worker = Worker()
    for _ in range(10):  # six seconds of trouble, then one without
        worker.queued_at = worker.now
        worker.pass_seconds(LIMIT)
        worker.queued_at = worker.now
        worker.pass_seconds(1)
    said = capfd.readouterr().err
    assert said.count("are busy") == said.count("wait less than") == 1
    worker.queued_at = worker.now
    worker.pass_seconds(QUIET_SECONDS)
    assert capfd.readouterr().err.count("are busy") == 1


def test_requests_that_wait_for_a_moment_only_are_not_logged(capfd: Capture) -> None:
    worker = Worker()
    for _ in range(30):
        worker.pass_seconds(LIMIT - 0.5)
        worker.queued_at = worker.now
    # Nor are long requests, if none waits for a thread.
    worker.pool._queue.clear()
    worker.pass_seconds(600)
    assert capfd.readouterr().err == ""


def test_without_a_limit_nothing_is_logged(capfd: Capture) -> None:
    Worker(limit=0).pass_seconds(600)
    assert capfd.readouterr().err == ""


def test_many_threads_are_counted(capfd: Capture) -> None:
    worker = Worker()
    worker.running = [(-1, worker.request(b"/%d" % number, 100.0 + number / 1000)) for number in range(12)]
    worker.pass_seconds(LIMIT)
    said = capfd.readouterr().err
    assert said.count("GET /") == 8
    assert " and 4 more; 1 request has waited" in said
