"""Makes samples of the metrics from the status document and the regions of shared memory. Pure: memory in, samples
out."""

from __future__ import annotations

import re
from collections import Counter
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from starman.observer.metrics import metric_table as table
from starman.process.metrics_memory import BUCKETS
from starman.serving.metrics.request_counts import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from starman.observer.metrics.metric_table import Metric
    from starman.process.metrics_memory import RegionEntry

# The phase of the server (`process.status.Phase`) in which it serves.
READY_PHASE = "running"

_BOUNDS = (*map(repr, BOUNDS), "+Inf")
_NO_HISTOGRAM = (*([0] * BUCKETS), 0.0)


class Sample(NamedTuple):
    """One value. suffix: what follows the name of the metric, such as "_bucket". labels: (name, value)."""

    suffix: str
    labels: tuple[tuple[str, str], ...]
    value: float


class Family(NamedTuple):
    """A metric and its samples."""

    metric: Metric
    samples: list[Sample]


class Observed(NamedTuple):
    """What was observed at one moment. status: the status document. regions: those of all pages, also of workers that
    have ended, with the process id of the last worker, and whether it lives. backlogs: (listener, waiting, limit).
    since: when the last scrape was, monotonic."""

    status: dict[str, Any]
    regions: Sequence[tuple[RegionEntry, int]]
    backlogs: Sequence[tuple[str, int, int]]
    since: float


def make_families(observed: Observed) -> list[Family]:
    """All metrics, in the order of the table; those without a value are left out."""
    families = [*_of_requests(observed), *_of_workers(observed), *_of_processes(observed.status), *_of_server(observed)]
    order = {metric.name: number for number, metric in enumerate(table.METRICS)}
    return sorted((family for family in families if family.samples), key=lambda family: order[family.metric.name])


def _one(metric: Metric, value: float | None) -> Family:
    return Family(metric, [] if value is None else [Sample("", (), value)])


def _by_label(metric: Metric, values: Iterable[tuple[str, float]]) -> Family:
    """A metric with one label."""
    (label,) = metric.labels
    return Family(metric, [Sample("", ((label, name),), value) for name, value in values])


def _histogram(labels: tuple[tuple[str, str], ...], values: Sequence[float]) -> list[Sample]:
    cumulative = list(accumulate(values[:-1]))
    buckets = [Sample("_bucket", (*labels, ("le", bound)), count) for bound, count in zip(_BOUNDS, cumulative, strict=True)]
    return [*buckets, Sample("_count", labels, cumulative[-1]), Sample("_sum", labels, values[-1])]


def _added(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    return tuple(map(sum, zip(first, second, strict=True)))


def _live(observed: Observed) -> list[tuple[RegionEntry, dict[str, Any]]]:
    """The regions of workers that live, each with its part of the status document."""
    workers = {worker["pid"]: worker for worker in observed.status["workers"] if worker["pid"] is not None}
    return [(region, workers[pid]) for region, pid in observed.regions if pid in workers]


def _gauge(observed: Observed, name: str) -> float:
    return sum(region.gauges.get(name, 0.0) for region, _ in _live(observed))


def _of_requests(observed: Observed) -> list[Family]:
    series: dict[tuple[str, str, int, int], tuple[float, ...]] = {}
    queue: tuple[float, ...] = _NO_HISTOGRAM
    counters: Counter[str] = Counter()
    refused: Counter[int] = Counter()
    for region, _ in observed.regions:
        for key, values in region.series.items():
            series[key] = _added(series.get(key, _NO_HISTOGRAM), values)
        queue = _added(queue, region.queue)
        counters.update(region.counters)
        refused.update(region.refused)
    durations = []
    for (method, scheme, status, minor), values in sorted(series.items()):
        labels = zip(
            table.REQUEST_DURATION.labels, (method, str(status) if status else "_OTHER", scheme, f"1.{minor}"), strict=True
        )
        durations += _histogram(tuple(labels), values)
    reasons = [(reason, refused[status]) for status, reason in table.REASON_OF_STATUS.items()]
    reasons += [(reason, counters[name]) for name, reason in table.REASON_OF_COUNTER.items()]
    peaks = [peak[1] for region, _ in _live(observed) for peak in region.peaks if peak[0] > observed.since]
    running = sum(worker["threads_busy"] or 0 for worker in observed.status["workers"])
    queued = _gauge(observed, "queued")
    return [
        Family(table.REQUEST_DURATION, durations),
        _one(table.ACTIVE_REQUESTS, running + queued),
        Family(table.QUEUE_DURATION, _histogram((), queue)),
        _one(table.QUEUE_LENGTH, queued),
        _one(table.QUEUE_LENGTH_MAX, max([*peaks, 0.0])),
        _one(table.REQUEST_BYTES, counters["received_bytes"]),
        _one(table.RESPONSE_BYTES, counters["sent_bytes"]),
        _by_label(table.REFUSALS, reasons),
        _one(table.ACCEPTED, counters["accepted"]),
        _one(table.THREADS_LOST, counters["lost_threads"]),
    ]


def _of_workers(observed: Observed) -> list[Family]:
    status = observed.status
    states = Counter(worker["state"] for worker in status["workers"])
    threads, lost = _gauge(observed, "threads"), _gauge(observed, "lost")
    busy = min(threads, sum(worker["threads_busy"] or 0 for worker in status["workers"]))
    lags: dict[str, float] = {}
    for region, worker in _live(observed):
        late = [peak[2] for peak in region.peaks if peak[0] > observed.since]
        number = str(worker["number"])
        lags[number] = max([lags.get(number, 0.0), *late])
    silence: dict[str, float] = {}
    for worker in status["workers"]:
        if worker["loop_silent_seconds"] is not None:
            number = str(worker["number"])
            silence[number] = max(silence.get(number, 0.0), worker["loop_silent_seconds"])
    return [
        _by_label(table.WORKERS, sorted(states.items())),
        _one(table.WORKERS_WANTED, status["workers_wanted"]),
        _by_label(table.RESPAWNS, sorted(status.get("respawns", {}).items())),
        _by_label(table.THREADS, [("busy", busy), ("idle", max(0.0, threads - busy)), ("lost", lost)]),
        _by_label(table.LOOP_LAG, sorted(lags.items())),
        _by_label(table.LOOP_SILENCE, sorted(silence.items())),
        _by_label(
            table.CONNECTIONS,
            [("active", _gauge(observed, "active_connections")), ("idle", _gauge(observed, "idle_connections"))],
        ),
        _one(table.SPOOLED, _gauge(observed, "spooled_bytes")),
    ]


def _of_processes(status: dict[str, Any]) -> list[Family]:
    """Memory, CPU time and age of each process. Two workers of one number, during a restart, are one."""
    pss: Counter[tuple[str, str]] = Counter()
    private: Counter[tuple[str, str]] = Counter()
    cpu: Counter[tuple[str, str]] = Counter()
    ages: dict[tuple[str, str], float] = {}
    processes = [(("worker", str(worker["number"])), worker) for worker in status["workers"]]
    processes += [((_role(process["role"]), ""), process) for process in status["processes"]]
    for key, process in processes:
        for sums, value in (
            (pss, process["memory"]["pss"]),
            (private, process["memory"]["private"]),
            (cpu, process["cpu_seconds"]),
        ):
            if value is not None:
                sums[key] += value
        age = process.get("age_seconds")
        if age is not None:
            ages[key] = min(age, ages.get(key, age))
    if status["age_seconds"] is not None:
        ages["master", ""] = status["age_seconds"]
    found: list[tuple[Metric, dict[tuple[str, str], float]]] = [
        (table.MEMORY_PSS, dict(pss)),
        (table.MEMORY_PRIVATE, dict(private)),
        (table.CPU, dict(cpu)),
        (table.AGE, ages),
    ]
    return [
        Family(metric, [Sample("", tuple(zip(metric.labels, key, strict=True)), value) for key, value in sorted(values.items())])
        for metric, values in found
    ]


def _role(title: str) -> str:
    """A short name for the title of a process: "mold" for "a mold (17), which forks workers"."""
    return re.sub(r" \(.*", "", title).removeprefix("a ").removeprefix("the ")


def _of_server(observed: Observed) -> list[Family]:
    status = observed.status
    lines = Counter(status.get("log_lines", {}))
    for region, _ in observed.regions:
        for name, count in region.counters.items():
            if name.startswith("log_"):
                lines[name.removeprefix("log_")] += count
    lines.pop("exception", None)  # these are among the errors
    versions = (("version", status["version"]), ("python", status["python"]))
    return [
        Family(table.BACKLOG, [Sample("", (("listener", name),), waiting) for name, waiting, _ in observed.backlogs]),
        Family(table.BACKLOG_LIMIT, [Sample("", (("listener", name),), limit) for name, _, limit in observed.backlogs]),
        _by_label(table.LOG_LINES, sorted(lines.items())),
        Family(table.INFO, [Sample("", versions, 1)]),
        _one(table.READY, int(is_ready(status["phase"], status["workers_ready"]))),
    ]


def is_ready(phase: str, workers: int) -> bool:
    """Whether the server is ready for requests: it has started, does not stop, and a worker accepts connections.
    `workers`: how many do."""
    return phase == READY_PHASE and workers > 0
