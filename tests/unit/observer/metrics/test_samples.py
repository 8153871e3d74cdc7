"""starman.observer.metrics.samples: what the memory of all workers, the status and the kernel make of the metrics."""

from __future__ import annotations

import re
from typing import Any

import pytest

from starman.observer.metrics.metric_table import METRICS, REASON_OF_COUNTER, REASON_OF_STATUS
from starman.observer.metrics.samples import is_ready, make_families
from starman.process.metrics_memory import COUNTERS, REFUSED
from tests.unit.observer.metrics.observed import document, observed, worker


def values(name: str, *, suffix: str = "", found: Any = None) -> dict[tuple[str, ...], float]:
    """The values of a metric by the values of its labels."""
    for metric, samples in make_families(found or observed()):
        if metric.name == name:
            return {tuple(value for _, value in sample.labels): sample.value for sample in samples if sample.suffix == suffix}
    return {}


def test_every_metric_has_a_value_when_everything_is_observed() -> None:
    found = observed()
    found.status["respawns"] = {"max_requests": 3}
    assert [family.metric for family in make_families(found)] == list(METRICS)


def test_requests_of_all_workers_are_summed_also_of_those_that_have_ended() -> None:
    name = "http_server_request_duration_seconds"
    assert values(name, suffix="_count") == {("GET", "200", "http", "1.1"): 10, ("GET", "404", "https", "1.0"): 2}
    assert values(name, suffix="_sum") == {("GET", "200", "http", "1.1"): 1.75, ("GET", "404", "https", "1.0"): 0.25}
    buckets = values(name, suffix="_bucket")
    assert buckets["GET", "200", "http", "1.1", "0.005"] == 9
    assert buckets["GET", "200", "http", "1.1", "0.01"] == 10
    assert buckets["GET", "404", "https", "1.0", "0.01"] == 0
    assert buckets["GET", "404", "https", "1.0", "+Inf"] == 2
    assert values("starman_queue_duration_seconds", suffix="_count") == {(): 12}
    assert values("starman_response_body_bytes_total") == {(): 21}
    assert values("starman_refusals_total")["fields_too_large",] == 6
    assert values("starman_refusals_total")["tls_handshake",] == 3


def test_gauges_are_those_of_workers_that_live() -> None:
    assert values("starman_queue_length") == {(): 3}
    assert values("http_server_active_requests") == {(): 5}
    assert values("starman_threads") == {("busy",): 2, ("idle",): 6, ("lost",): 0}
    assert values("starman_connections") == {("active",): 3, ("idle",): 1}


def test_maxima_are_those_since_the_last_scrape() -> None:
    assert values("starman_queue_length_max") == {(): 6}
    assert values("starman_loop_lag_max_seconds") == {("1",): 0.125, ("2",): 0.125}
    later = observed()._replace(since=50.0)
    assert values("starman_queue_length_max", found=later) == {(): 0}
    assert values("starman_loop_lag_max_seconds", found=later) == {("1",): 0, ("2",): 0}


def test_two_workers_of_one_number_during_a_restart_are_one() -> None:
    old, new = worker(1, 11, age_seconds=90.0, state="draining"), worker(1, 12, age_seconds=2.0)
    found = observed()._replace(status=document(old, new))
    assert values("starman_process_pss_bytes", found=found) == {("master", ""): 8, ("worker", "1"): 4000}
    assert values("starman_process_age_seconds", found=found) == {("master", ""): 100, ("worker", "1"): 2}
    assert values("starman_workers", found=found) == {("draining",): 1, ("ready",): 1}


def test_what_is_not_known_has_no_value() -> None:
    nothing = {"memory": {"rss": None, "pss": None, "private": None}, "cpu_seconds": None, "age_seconds": None}
    starting = worker(1, 0, **nothing, loop_silent_seconds=None, threads_busy=None, state="requested") | {"pid": None}
    found = observed()._replace(status=document(starting), regions=[], backlogs=[])
    assert ("worker", "1") not in values("starman_process_pss_bytes", found=found)
    assert values("starman_listen_backlog", found=found) == {}
    assert values("http_server_request_duration_seconds", found=found) == {}
    assert values("starman_queue_length_max", found=found) == {(): 0}


@pytest.mark.parametrize(
    ("phase", "ready", "expected"), [("running", 1, True), ("running", 0, False), ("starting", 1, False), ("stopping", 2, False)]
)
def test_a_server_is_ready_that_has_started_and_does_not_stop(phase: str, ready: int, expected: bool) -> None:
    assert is_ready(phase, ready) is expected
    status = document(phase=phase) | {"workers_ready": ready}
    assert values("starman_ready", found=observed()._replace(status=status)) == {(): expected}


def test_every_refusal_has_a_reason() -> None:
    assert set(REASON_OF_STATUS) == set(REFUSED)
    assert set(REASON_OF_COUNTER) <= set(COUNTERS)
    reasons = [*REASON_OF_STATUS.values(), *REASON_OF_COUNTER.values()]
    assert len(set(reasons)) == len(reasons)


def test_the_table_follows_the_conventions_of_prometheus() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.kind != "histogram" or metric.unit == "seconds"
        assert metric.help.endswith(".")
        assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in metric.labels)
