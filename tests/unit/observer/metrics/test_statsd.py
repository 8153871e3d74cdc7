"""starman.observer.metrics.statsd: the changes between two observations, with gunicorn's names."""

from __future__ import annotations

import pytest

from starman.observer.metrics.statsd import NOTHING, PACKET_BYTES, Totals, make_lines, make_packets, totals_of
from tests.unit.observer.metrics.observed import counts, observed


def lines(before: Totals, now: Totals, prefix: str = "", tags: str = "") -> list[str]:
    return list(make_lines(before, now, 3, prefix, tags))


def test_what_has_changed_is_sent() -> None:
    before = Totals({200: 5, 404: 1}, counts(6), 0.5, {"error": 2})
    now = Totals({200: 8, 404: 1, 500: 1}, counts(10), 0.508, {"error": 3, "warning": 1})
    assert lines(before, now) == [
        "gunicorn.requests:4|c",
        "gunicorn.request.status.200:3|c",
        "gunicorn.request.status.500:1|c",
        "gunicorn.request.duration:2|ms|@0.25",
        "gunicorn.workers:3|g",
        "gunicorn.log.error:1|c",
        "gunicorn.log.warning:1|c",
    ]
    assert lines(now, now) == ["gunicorn.workers:3|g"]


def test_errors_with_a_traceback_are_counted_apart_as_gunicorn_does() -> None:
    before = Totals({}, counts(0), 0.0, {"error": 2, "exception": 2})
    now = Totals({}, counts(0), 0.0, {"error": 7, "exception": 5, "warning": 0})
    assert lines(before, now)[1:] == ["gunicorn.log.error:2|c", "gunicorn.log.exception:3|c"]
    assert lines(now, Totals({}, counts(0), 0.0, {"error": 8, "exception": 6}))[1:] == ["gunicorn.log.exception:1|c"]


def test_the_backlog_is_a_histogram() -> None:
    found = list(make_lines(NOTHING, NOTHING, 3, "shop", "a:b", 4))
    assert found == ["shop.gunicorn.workers:3|g|#a:b", "shop.gunicorn.backlog:4|h|#a:b"]


@pytest.mark.parametrize(("prefix", "start"), [("", ""), ("shop", "shop."), ("shop.", "shop."), ("a.b..", "a.b."), (".", "")])
def test_the_prefix_ends_with_one_dot_and_tags_stand_at_the_end(prefix: str, start: str) -> None:
    assert lines(NOTHING, NOTHING, prefix, "env:test,shop") == [f"{start}gunicorn.workers:3|g|#env:test,shop"]


def test_durations_in_several_buckets_are_those_of_the_middles() -> None:
    now = Totals({200: 4}, [3, *([0] * 13), 1], 30.0, {})
    found = [line for line in lines(NOTHING, now) if "duration" in line]
    assert found == ["gunicorn.request.duration:2.5|ms|@0.333333333", "gunicorn.request.duration:15000|ms"]


def test_regions_of_all_workers_are_summed() -> None:
    totals = totals_of([region for region, _ in observed().regions], {"error": 1})
    assert totals.statuses == {200: 10, 404: 2}
    assert list(totals.buckets) == counts(9, 1, 2)
    assert totals.seconds == 2.0
    assert totals.log_lines == {"warning": 0, "error": 1, "critical": 0, "exception": 0}


def test_packets_hold_whole_lines() -> None:
    many = [f"gunicorn.request.status.{status}:1|c" for status in range(100, 400)] + ["x" * 2000]
    packets = list(make_packets(iter(many)))
    assert b"\n".join(packets).decode().split("\n") == many
    assert all(len(packet) <= PACKET_BYTES for packet in packets[:-1])
    assert list(make_packets(iter([]))) == []
