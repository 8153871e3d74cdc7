"""starman.observer.page.history: points, rates between ticks, percentiles, marks, and what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from starman.observer.page.history import KEPT_SECONDS, MOST_MARKS, MOST_POINTS, History, percentile
from starman.process.metrics_memory import BUCKETS, RegionEntry
from starman.serving.metrics.request_counts import BOUNDS
from tests.unit.observer.metrics.observed import counts, document, worker

GET, FAILED = ("GET", "http", 200, 1), ("GET", "http", 500, 1)


def status(*workers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    black_box = {"lost_workers": [], "lost_count": 0, "replacements": [], "replacement_count": 0, "upgraded_seconds_ago": None}
    return document(*(workers or (worker(1, 11, requests=[]),)), **{"generation": 1, **black_box, **fields})


def region(ticked_at: float, good: int, failed: int = 0, **gauges: float) -> tuple[RegionEntry, int]:
    entry = RegionEntry()
    entry.ticked_at = ticked_at
    entry.series = {GET: (*counts(good), 0.0), FAILED: (*counts(0, failed), 0.0)}
    entry.refused = {400: failed}
    entry.gauges = gauges
    return entry, 11


def test_the_first_sample_has_no_rates() -> None:
    history = History()
    point, marks = history.add(1000.0, 50.0, status(), [region(50.0, 5, threads=4, queued=2)])
    assert (point["rate"], point["p99"]) == (None, None)
    assert (point["at"], point["queue"], point["threads"], point["busy"], point["memory"]) == (1000.0, 2, 4, 1, 2000)
    assert marks == [{"at": 900.0, "kind": "start", "text": "the server has started"}]


def test_a_rate_belongs_to_the_time_between_the_ticks_of_its_worker() -> None:
    history = History()
    history.add(1000.0, 50.0, status(), [region(49.9, 100, 10), region(49.5, 0)])
    # The first worker has published after 1.5 s, the second after half a second.
    point, _ = history.add(1001.0, 51.0, status(), [region(51.4, 250, 25), region(50.0, 100)])
    assert (point["rate"], point["errors"], point["refused"]) == (pytest.approx(165 / 1.5 + 200), 10, 10)


def test_a_worker_that_publishes_nothing_has_no_rate_and_none_falls() -> None:
    history = History()
    history.add(1000.0, 50.0, status(), [region(49.9, 100)])
    assert history.add(1001.0, 51.0, status(), [region(49.9, 100)])[0]["rate"] == 0
    # An application has overwritten the region.
    assert history.add(1002.0, 52.0, status(), [region(51.9, 7)])[0]["rate"] == 0


def test_a_page_that_is_used_for_the_first_time_counts_from_zero() -> None:
    history = History()
    history.add(1000.0, 50.0, status(), [])
    assert history.add(1002.0, 52.0, status(), [region(51.9, 100)])[0]["rate"] == 50


@pytest.mark.parametrize(
    ("buckets", "part", "expected"),
    [
        ([0.0] * BUCKETS, 0.99, None),
        (counts(10), 0.5, BOUNDS[0] / 2),
        (counts(5, 5), 0.5, BOUNDS[0]),
        (counts(5, 5), 0.75, (BOUNDS[0] + BOUNDS[1]) / 2),
        (counts(0, 10), 1.0, BOUNDS[1]),
        ([*([0] * (BUCKETS - 1)), 3], 0.5, BOUNDS[-1]),
    ],
)
def test_percentiles(buckets: list[float], part: float, expected: float | None) -> None:
    assert percentile(buckets, part) == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_the_longest_queue_since_the_last_sample_and_the_oldest_request() -> None:
    history = History()
    entry, pid = region(50.0, 0, queued=1)
    entry.peaks = [(40.0, 9.0, 0.0), (50.5, 6.0, 0.0)]
    busy = worker(1, 11, requests=[{"thread": 1, "request": "GET /", "seconds": 7.5}])
    assert history.add(1000.0, 50.0, status(busy), [(entry, pid)])[0]["queue_max"] == 9
    point, _ = history.add(1001.0, 51.0, status(busy), [(entry, pid)])
    assert (point["queue"], point["queue_max"], point["oldest"]) == (1, 6, 7.5)


def test_marks_of_what_happens() -> None:
    history = History()
    history.add(1000.0, 50.0, status(), [])
    lost = [{"number": 1, "pid": 11, "seconds_ago": seconds, "how": f"was killed {seconds}"} for seconds in (70.0, 0.5)]
    replaced = [{"number": 2, "pid": 12, "seconds_ago": 0.75, "reason": "it is old"}]
    changed = {"generation": 2, "workers_wanted": 3, "phase": "stopping"}
    events = {"lost_workers": lost, "lost_count": 12, "replacements": replaced, "replacement_count": 1}
    history.add(1001.0, 51.0, status(lost_workers=lost[:1], lost_count=11), [])
    _, marks = history.add(1002.0, 52.0, status(**changed, **events), [])
    assert [(mark["at"], mark["kind"]) for mark in marks] == [
        (1001.25, "replaced"),
        (1001.5, "lost"),
        (1002.0, "restart"),
        (1002.0, "scale"),
        (1002.0, "stopping"),
    ]
    assert marks[1]["text"] == "worker 1 (11) was killed 0.5"
    assert marks[0]["text"] == "worker 2 (12) is replaced: it is old"
    assert history.add(1003.0, 53.0, status(**changed, **events), [])[1] == []


def test_a_new_observer_takes_over_what_the_master_has_kept() -> None:
    lost = [{"number": 1, "pid": 11, "seconds_ago": seconds, "how": "was killed"} for seconds in (KEPT_SECONDS + 1, 30.0)]
    _, marks = History().add(5000.0, 50.0, status(age_seconds=4000.0, lost_workers=lost, lost_count=2), [])
    assert [(mark["at"], mark["kind"]) for mark in marks] == [(4970.0, "lost")]


def test_an_upgrade_is_a_mark_between_the_start_and_what_has_happened_since() -> None:
    lost = [{"number": 1, "pid": 11, "seconds_ago": 5.0, "how": "was killed"}]
    kept = {"upgraded_seconds_ago": 30.5, "lost_workers": lost, "lost_count": 1}
    history = History()
    _, marks = history.add(5000.0, 50.0, status(age_seconds=400.0, **kept), [])
    assert [(mark["at"], mark["kind"]) for mark in marks] == [(4600.0, "start"), (4969.5, "upgrade"), (4995.0, "lost")]
    assert marks[1]["text"] == "upgrade: starman 1.2.3 has taken over"
    assert history.add(5001.0, 51.0, status(age_seconds=401.0, **kept | {"upgraded_seconds_ago": 31.5}), [])[1] == []


def test_only_the_last_minutes_are_kept() -> None:
    history = History()
    for second in range(int(KEPT_SECONDS) + 100):
        history.add(1000.0 + second, float(second), status(generation=second), [])
    assert history.points[0]["at"] == history.points[-1]["at"] - KEPT_SECONDS
    assert len(history.points) <= MOST_POINTS
    assert len(history.marks) <= MOST_MARKS
