"""Gathers the metrics of a worker at each tick, and passes them to its monitor. Loop only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import log

if TYPE_CHECKING:
    from starman.serving.accepting.acceptor import Acceptor
    from starman.serving.context import ServiceContext
    from starman.serving.monitor import Metrics


def publish_metrics(context: ServiceContext, acceptor: Acceptor, metrics: Metrics, now: float, late: float) -> None:
    """Pass what the service has counted since its start to `metrics`, and its state at `now` (monotonic).

    `late`: how much later (seconds) than planned the loop has come to this tick.
    """
    executor = context.executor
    totals = executor.request_counts.totals()
    metrics.write_series({key: (histogram.counts, histogram.seconds) for key, histogram in totals.series.items()})
    metrics.write_queue(totals.queue.counts, totals.queue.seconds)
    refusals = context.refusal_counts
    counters = {"received_bytes": totals.body_received, "sent_bytes": totals.body_sent, "accepted": acceptor.accepted}
    counters["lost_threads"] = executor.lost_threads.total
    counters["queue_timeouts"], counters["full_queues"] = context.shedding.late, context.shedding.overflowed
    lines = {f"log_{level}": count for level, count in log.counts().items()}
    metrics.write_counters(counters | lines | refusals.closed, refusals.answered())
    connections = len(context.connections)
    active = context.connections.count_active()
    queued = executor.queue_length
    gauges: dict[str, float] = {
        "active_connections": active,
        "idle_connections": connections - active,
        "threads": executor.threads,
        "busy_threads": executor.awake,
        "lost": len(executor.lost_threads.threads),
        "queued": queued,
        "in_flight": queued + executor.awake,
        "spooled_bytes": context.spool_space.used,
    }
    longest_queue, executor.longest_queue = max(executor.longest_queue, queued), 0
    metrics.write_tick(now, gauges, longest_queue, late)
