"""starman.process.worker.monitor: how slow requests are reported to the master."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.messages import Notice, SlowRequest
from starman.process.worker.monitor import MOST_WAITING, WorkerMonitor


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """The master's end, and the worker's."""
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def received(master: Channel) -> list[str]:
    """The request lines of the slow requests that have arrived."""
    found = []
    while True:
        try:
            got = master.receive_if_any()
        except BlockingIOError:
            return found
        assert got is not None
        if isinstance(got[0], SlowRequest):
            found.append(got[0].line)


def test_one_a_second_is_sent_and_the_newest_others_wait(pair: tuple[Channel, Channel]) -> None:
    reports = WorkerMonitor(pair[1], 1, None, Settings.of()).slow_requests
    for number in range(MOST_WAITING + 4):
        reports.report(f"GET /{number}", 30.0, "stack", timed_out=False)
    now = time.monotonic()
    assert received(pair[0]) == ["GET /0"]
    reports.send_due(now)
    assert received(pair[0]) == []
    sent = []
    for second in range(1, 30):
        reports.send_due(now + 1.1 * second)
        arrived = received(pair[0])
        assert len(arrived) <= 1
        sent += arrived
    assert sent == [f"GET /{number}" for number in range(4, MOST_WAITING + 4)]


def test_a_report_that_finds_the_buffer_full_is_sent_later(pair: tuple[Channel, Channel]) -> None:
    reports = WorkerMonitor(pair[1], 1, None, Settings.of()).slow_requests
    while pair[1].send(Notice("x" * 4000)):
        pass
    reports.report("GET /slow", 30.0, "stack", timed_out=True)
    assert received(pair[0]) == []
    reports.send_due(time.monotonic() + 2.0)
    assert received(pair[0]) == ["GET /slow"]
