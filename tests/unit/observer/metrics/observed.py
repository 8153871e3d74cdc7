"""Observations for tests: a status document, and regions of shared memory."""

from __future__ import annotations

from typing import Any

from starman.observer.metrics.samples import Observed
from starman.process.metrics_memory import BUCKETS, REGION_BYTES, RegionEntry, RegionWriter, read_region


def worker(number: int, pid: int, **fields: Any) -> dict[str, Any]:
    return {
        "number": number,
        "pid": pid,
        "state": "ready",
        "age_seconds": 12.5,
        "loop_silent_seconds": 0.25,
        "threads_busy": 1,
        "memory": {"rss": 3000, "pss": 2000, "private": 1000},
        "cpu_seconds": 1.5,
        **fields,
    }


def document(*workers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "version": "1.2.3",
        "python": "3.11.7",
        "pid": 1,
        "phase": "running",
        "age_seconds": 100.0,
        "workers_wanted": 2,
        "workers_ready": len(workers),
        "workers": list(workers),
        "processes": [{"role": "master", "pid": 1, "memory": {"rss": 9, "pss": 8, "private": 7}, "cpu_seconds": 0.5}],
        **fields,
    }


def counts(*first: int) -> list[int]:
    return [*first, *([0] * (BUCKETS - len(first)))]


def region(series: dict[tuple[str, str, int, int], tuple[list[int], float]], **gauges: float) -> RegionEntry:
    memory = memoryview(bytearray(REGION_BYTES))
    writer = RegionWriter(memory)
    writer.write_series(series)
    writer.write_counters({"received_bytes": 5, "sent_bytes": 7, "accepted": 3, "tls_failures": 1}, {431: 2})
    writer.write_queue(counts(4), 0.5)
    writer.write_tick(50.0, gauges, 6, 0.125)
    return read_region(memory)


def observed() -> Observed:
    """Two workers that live, and one that has ended."""
    get, missing = ("GET", "http", 200, 1), ("GET", "https", 404, 0)
    regions = [
        (region({get: (counts(3, 1), 0.5)}, threads=4, queued=2, active_connections=3, idle_connections=1), 11),
        (region({get: (counts(1), 0.25), missing: (counts(0, 0, 2), 0.25)}, threads=4, queued=1), 12),
        (region({get: (counts(5), 1.0)}, threads=4, queued=9), 13),
    ]
    return Observed(document(worker(1, 11), worker(2, 12)), regions, [("127.0.0.1:80", 2, 2048)], 0.0)
