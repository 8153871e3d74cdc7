"""starman.serving.metrics.request_counts: every request is counted once, in the bucket of its duration."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

from starman.serving.executors.queued_request import RequestState
from starman.serving.metrics.request_counts import BOUNDS, BUCKETS, Histogram, RequestCounts
from tests.unit.wsgi.heads import request


class FakeRequest(RequestState):
    def __init__(self, line: bytes = b"GET / HTTP/1.1", status_code: int = 200, scheme: str = "http") -> None:
        head, _, _ = request(line + b"\r\nHost: a\r\n\r\n")
        super().__init__(head)
        self.arrived_at = 100.0
        self.status_code = status_code
        self.scheme = scheme

    def url_scheme(self) -> str:
        return self.scheme


def counted(counts: RequestCounts) -> dict[Any, int]:
    return {key: sum(histogram.counts) for key, histogram in counts.totals().series.items()}


@pytest.mark.parametrize("bucket", range(BUCKETS))
def test_a_bucket_ends_with_its_bound(bucket: int) -> None:
    histogram = Histogram()
    seconds = BOUNDS[bucket] if bucket < len(BOUNDS) else BOUNDS[-1] + 0.001
    histogram.observe(seconds)
    assert histogram.counts.index(1) == bucket
    assert histogram.seconds == seconds
    if bucket < len(BOUNDS):
        histogram.observe(BOUNDS[bucket] + 1e-9)
        assert histogram.counts[bucket + 1] == 1


def test_requests_are_counted_by_method_scheme_status_and_version() -> None:
    counts = RequestCounts()
    counter = counts.new_counter()
    for each in (
        FakeRequest(),
        FakeRequest(),
        FakeRequest(b"HEAD / HTTP/1.1"),
        FakeRequest(b"GET / HTTP/1.0"),
        FakeRequest(status_code=404),
        FakeRequest(scheme="https"),
        FakeRequest(b"BREW / HTTP/1.1"),
        FakeRequest(b"PROPFIND / HTTP/1.1"),
        FakeRequest(status_code=0),
        FakeRequest(),
    ):
        counter.count(each, 100.5)
    assert counted(counts) == {
        ("GET", "http", 200, 1): 3,
        ("HEAD", "http", 200, 1): 1,
        ("GET", "http", 200, 0): 1,
        ("GET", "http", 404, 1): 1,
        ("GET", "https", 200, 1): 1,
        ("_OTHER", "http", 200, 1): 2,
        ("GET", "http", 499, 1): 1,
    }


def test_durations_waits_and_bytes_are_summed() -> None:
    counts = RequestCounts()
    for counter in (counts.new_counter(), counts.new_counter()):
        each = FakeRequest()
        each.queue_seconds, each.body_sent, each.body_received = 0.02, 1000, 10
        counter.count(each, 100.3)
    totals = counts.totals()
    (histogram,) = totals.series.values()
    assert histogram.seconds == pytest.approx(0.6)
    assert histogram.counts[BOUNDS.index(0.5)] == 2
    assert totals.queue.counts[BOUNDS.index(0.025)] == 2
    assert totals.queue.seconds == pytest.approx(0.04)
    assert (totals.body_sent, totals.body_received) == (2000, 20)


def test_a_request_is_counted_once_whichever_side_comes_first() -> None:
    counts = RequestCounts()
    counter = counts.new_counter()
    for status in (504, 0):
        answered, ran = FakeRequest(), FakeRequest()
        counts.add_unrun(answered, status, 101.0)
        counter.count(answered, 102.0)
        counter.count(ran, 101.0)
        counts.add_unrun(ran, status, 102.0)
    expected = {("GET", "http", 504, 1): 1, ("GET", "http", 499, 1): 1, ("GET", "http", 200, 1): 2}
    assert counted(counts) == counted(counts) == expected


def test_a_request_that_no_thread_finishes_has_waited_and_has_bytes_too() -> None:
    counts = RequestCounts()
    for status in (503, 504, 0):
        each = FakeRequest()
        each.queue_seconds, each.body_sent, each.body_received = 0.02, 1000, 10
        counts.add_unrun(each, status, 100.3)
    totals = counts.totals()
    assert totals.queue.counts[BOUNDS.index(0.025)] == 3
    assert totals.queue.seconds == pytest.approx(0.06)
    assert (totals.body_sent, totals.body_received) == (3000, 30)


def test_no_count_is_lost_while_threads_count_and_the_loop_reads() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        counts = RequestCounts()
        statuses = (200, 404, 500)

        def work() -> None:
            counter = counts.new_counter()
            for number in range(3000):
                counter.count(FakeRequest(status_code=statuses[number % 3]), 100.001)
                counts.add_unrun(FakeRequest(status_code=503), 503, 100.001)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        before = 0
        while any(thread.is_alive() for thread in threads):
            now = sum(counted(counts).values())
            assert now >= before
            before = now
        for thread in threads:
            thread.join()
        assert counted(counts) == {("GET", "http", status, 1): 4000 for status in statuses} | {("GET", "http", 503, 1): 12000}
    finally:
        sys.setswitchinterval(interval)
