"""What the plots of the page show: a point for each sample of the last minutes, and marks for what has happened. Pure.

Rates are per second, durations in seconds, sizes in bytes, instants (`at`) in seconds since the epoch. None: unknown.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from starman.observer.metrics.samples import READY_PHASE
from starman.process.metrics_memory import BUCKETS
from starman.serving.metrics.request_counts import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.process.metrics_memory import RegionEntry

# How long (seconds) points and marks are kept, and how many of each at most.
KEPT_SECONDS = 600.0
MOST_POINTS = 620
MOST_MARKS = 200


class _Counts(NamedTuple):
    """What one region has counted. buckets: of the durations. errors: responses 5xx. ticked_at: monotonic."""

    buckets: tuple[float, ...]
    errors: float
    refused: float
    ticked_at: float


_NONE = _Counts((0.0,) * BUCKETS, 0.0, 0.0, 0.0)


class History:
    """Makes the points and marks from samples, and keeps those of the last KEPT_SECONDS."""

    __slots__ = ("_counts", "_sampled_at", "_status", "marks", "points")

    def __init__(self) -> None:
        self.points: deque[dict[str, Any]] = deque(maxlen=MOST_POINTS)
        self.marks: deque[dict[str, Any]] = deque(maxlen=MOST_MARKS)
        self._counts: list[_Counts] = []
        self._status: dict[str, Any] | None = None
        self._sampled_at = 0.0

    def add(
        self, at: float, now: float, status: dict[str, Any], regions: Sequence[tuple[RegionEntry, int]]
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Add a sample. `at`: its instant; `now`: the same, monotonic. Returns its point and its marks."""
        counts = [_count(region) for region, _ in regions]
        marks = _new_marks(at, self._status, status)
        point = {"at": round(at, 3), **self._rates(counts, now), **_gauges(status, regions, self._sampled_at)}
        self._counts, self._status, self._sampled_at = counts, status, now
        self.points.append(point)
        self.marks.extend(marks)
        for kept in (self.points, self.marks):
            while kept and kept[0]["at"] < at - KEPT_SECONDS:
                kept.popleft()
        return point, marks

    def _rates(self, counts: Sequence[_Counts], now: float) -> dict[str, float | None]:
        """The rates since the last sample. Workers publish twice a second, each in its own time: what a worker has
        counted belongs to the time between its own ticks."""
        if self._status is None:
            return dict.fromkeys(("rate", "errors", "refused", "p50", "p90", "p99"))
        elapsed = max(now - self._sampled_at, 0.001)
        buckets = [0.0] * BUCKETS
        rate = errors = refused = 0.0
        for number, after in enumerate(counts):
            before = self._counts[number] if number < len(self._counts) else _NONE
            seconds = after.ticked_at - before.ticked_at
            if not 0 < seconds < 2 * elapsed:  # the first tick of a worker, or the first one after a pause
                seconds = elapsed
            added = [max(0.0, new - old) for new, old in zip(after.buckets, before.buckets, strict=True)]
            buckets = [one + another for one, another in zip(buckets, added, strict=True)]
            rate += sum(added) / seconds
            errors += max(0.0, after.errors - before.errors) / seconds
            refused += max(0.0, after.refused - before.refused) / seconds
        return {
            "rate": round(rate, 2),
            "errors": round(errors, 2),
            "refused": round(refused, 2),
            **{f"p{part}": percentile(buckets, part / 100) for part in (50, 90, 99)},
        }


def percentile(buckets: Sequence[float], part: float) -> float | None:
    """The duration that `part` of all requests do not exceed: between the bounds of its bucket, in proportion. Beyond
    the last bound, that bound. None without requests."""
    wanted = sum(buckets) * part
    if not wanted:
        return None
    below, lower = 0.0, 0.0
    for count, bound in zip(buckets, BOUNDS, strict=False):
        if below + count >= wanted:
            return round(lower + (bound - lower) * (wanted - below) / count, 6)
        below, lower = below + count, bound
    return BOUNDS[-1]


def _count(region: RegionEntry) -> _Counts:
    buckets = [0.0] * BUCKETS
    errors = 0.0
    for (_, _, status, _), values in region.series.items():
        buckets = [one + another for one, another in zip(buckets, values, strict=False)]
        if status >= 500:
            errors += sum(values[:-1])
    shed = region.counters.get("queue_timeouts", 0) + region.counters.get("full_queues", 0)
    return _Counts(tuple(buckets), errors, sum(region.refused.values()) + shed, region.ticked_at)


def _gauges(status: dict[str, Any], regions: Sequence[tuple[RegionEntry, int]], since: float) -> dict[str, float | None]:
    """What is true now, and the longest queue of a worker since the last sample."""
    pids = {worker["pid"] for worker in status["workers"] if worker["pid"] is not None}
    live = [region for region, pid in regions if pid in pids]
    queued = sum(region.gauges.get("queued", 0.0) for region in live)
    peaks = [length for region in live for instant, length, _ in region.peaks if instant > since]
    sizes = [worker["memory"]["pss"] or worker["memory"]["rss"] or 0 for worker in status["workers"]]
    ages = [request["seconds"] for worker in status["workers"] for request in worker["requests"]]
    return {
        "queue": queued,
        "queue_max": max([queued, *peaks]),
        "busy": sum(worker["threads_busy"] or 0 for worker in status["workers"]),
        "threads": sum(region.gauges.get("threads", 0.0) for region in live),
        "memory": sum(sizes) or None,
        "oldest": max(ages, default=0.0),
    }


def _new_marks(at: float, before: dict[str, Any] | None, status: dict[str, Any]) -> list[dict[str, Any]]:
    """What has happened between two status documents, the oldest first. before: None: there is none, and what the
    master has kept has happened."""
    marks = []
    if before is None:
        age = status["age_seconds"]
        if age is not None:
            marks.append(_mark(at - age, "start", "the server has started"))
        if status["upgraded_seconds_ago"] is not None:
            text = f"upgrade: starman {status['version']} has taken over"
            marks.append(_mark(at - status["upgraded_seconds_ago"], "upgrade", text))
        lost, replaced = status["lost_workers"], status["replacements"]
    else:
        if status["generation"] != before["generation"]:
            marks.append(_mark(at, "restart", f"restart: generation {status['generation']} begins"))
        if status["workers_wanted"] != before["workers_wanted"]:
            marks.append(_mark(at, "scale", f"scale: {status['workers_wanted']} workers, {before['workers_wanted']} before"))
        if status["phase"] != before["phase"] == READY_PHASE:
            marks.append(_mark(at, "stopping", "the server stops"))
        lost = _newest(status["lost_workers"], status["lost_count"] - before["lost_count"])
        replaced = _newest(status["replacements"], status["replacement_count"] - before["replacement_count"])
    for entry in lost:
        marks.append(_mark(at - entry["seconds_ago"], "lost", f"worker {entry['number']} ({entry['pid']}) {entry['how']}"))
    for entry in replaced:
        text = f"worker {entry['number']} ({entry['pid']}) is replaced: {entry['reason']}"
        marks.append(_mark(at - entry["seconds_ago"], "replaced", text))
    return sorted((mark for mark in marks if mark["at"] >= at - KEPT_SECONDS), key=lambda mark: mark["at"])


def _newest(entries: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    return entries[-count:] if count > 0 else []


def _mark(at: float, kind: str, text: str) -> dict[str, Any]:
    return {"at": round(at, 3), "kind": kind, "text": text}
