"""starman.process.metrics_memory: what workers count is read again, goes on in the next worker, and never falls."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from starman.process import metrics_memory as module
from starman.process.metrics_memory import (
    BUCKETS,
    COUNTERS,
    GAUGES,
    OVERFLOW,
    PEAKS,
    REFUSED,
    REGION_BYTES,
    SERIES,
    RegionWriter,
    read_region,
)
from starman.process.scoreboard import Scoreboard, region_of

GET = ("GET", "http", 200, 1)
POST = ("POST", "https", 404, 0)


def new_region() -> memoryview:
    return memoryview(bytearray(REGION_BYTES))


def counts(*first: int) -> list[int]:
    return [*first, *([0] * (BUCKETS - len(first)))]


def test_the_parts_of_a_region_do_not_overlap() -> None:
    assert module._COUNTERS.size <= 8 * module._CELLS
    assert module._GAUGES.size <= 8 * module._GAUGE_CELLS
    assert module._PEAKS_AT + PEAKS * module._PEAK.size <= module._SERIES_AT
    assert module._SERIES_AT + SERIES * module._ROW <= REGION_BYTES


def test_a_new_region_has_counted_nothing() -> None:
    entry = read_region(new_region())
    assert entry.series == {}
    assert set(entry.counters.values()) == set(entry.refused.values()) == set(entry.queue) == {0}
    assert entry.ticked_at == 0.0
    assert entry.peaks == []


def test_what_is_written_is_read_again() -> None:
    region = new_region()
    writer = RegionWriter(region)
    writer.write_series({GET: (counts(3, 1), 0.5), POST: (counts(0, 2), 0.25)})
    writer.write_counters({"sent_bytes": 17, "tls_failures": 2}, {431: 5, 499: 1})
    writer.write_queue(counts(7), 0.125)
    writer.write_tick(12.5, {"threads": 4, "queued": 9}, 11, 0.0625)
    entry = read_region(region)
    assert entry.series == {GET: (*counts(3, 1), 0.5), POST: (*counts(0, 2), 0.25)}
    assert entry.counters == dict.fromkeys(COUNTERS, 0) | {"sent_bytes": 17, "tls_failures": 2}
    assert entry.refused == dict.fromkeys(REFUSED, 0) | {431: 5, 400: 1}
    assert entry.queue == (*counts(7), 0.125)
    assert entry.ticked_at == 12.5
    assert entry.gauges == dict.fromkeys(GAUGES, 0.0) | {"threads": 4.0, "queued": 9.0}
    assert entry.peaks == [(12.5, 11.0, 0.0625)]


def test_the_next_worker_goes_on_with_the_counts_but_not_with_the_gauges() -> None:
    region = new_region()
    first = RegionWriter(region)
    first.write_series({GET: (counts(3), 1.0)})
    first.write_counters({"accepted": 4}, {503: 1})
    first.write_queue(counts(1, 1), 0.5)
    first.write_tick(1.0, {"threads": 4}, 3, 0.0)
    second = RegionWriter(region)
    assert read_region(region).series == {GET: (*counts(3), 1.0)}
    assert read_region(region).gauges["threads"] == 0.0
    second.write_series({POST: (counts(1), 2.0), GET: (counts(2, 1), 0.5)})
    second.write_counters({"accepted": 1}, {503: 2})
    second.write_queue(counts(5), 0.25)
    entry = read_region(region)
    assert entry.series == {GET: (*counts(5, 1), 1.5), POST: (*counts(1), 2.0)}
    assert (entry.counters["accepted"], entry.refused[503]) == (5, 3)
    assert entry.queue == (*counts(6, 1), 0.75)


def test_more_series_than_there_is_room_for_are_one_series() -> None:
    region = new_region()
    many = {("GET", "http", 100 + number, 1): (counts(1), 0.5) for number in range(300)}
    for number in (1, 2):
        RegionWriter(region).write_series(many)
        series = read_region(region).series
        assert len(series) == SERIES
        assert sum(sum(values[:-1]) for values in series.values()) == 300 * number
        assert series[OVERFLOW][0] == number * (300 - SERIES + 1)


def test_old_peaks_are_overwritten() -> None:
    region = new_region()
    writer = RegionWriter(region)
    for tick in range(1, PEAKS + 6):
        writer.write_tick(float(tick), {}, tick, 0.0)
    assert sorted(int(peak[0]) for peak in read_region(region).peaks) == list(range(6, PEAKS + 6))


KEYS = st.tuples(st.sampled_from(["GET", "PUT"]), st.just("http"), st.integers(200, 204), st.just(1))
Key = tuple[str, str, int, int]


@given(st.lists(st.dictionaries(KEYS, st.integers(0, 1 << 40), max_size=4), max_size=12), st.randoms())
def test_sums_never_fall_whatever_workers_come_and_go(steps: list[dict[Key, int]], chance: random.Random) -> None:
    region = new_region()
    writer, before, gone = RegionWriter(region), 0, 0
    totals: dict[Key, int] = {}
    for step in steps:
        for key, count in step.items():
            totals[key] = totals.get(key, 0) + count
        writer.write_series({key: (counts(count), 0.0) for key, count in totals.items()})
        now = sum(sum(values[:-1]) for values in read_region(region).series.values())
        assert now == gone + sum(totals.values())
        assert now >= before
        before = now
        if chance.random() < 0.3:
            writer, totals, gone = RegionWriter(region), {}, int(now)


@given(st.binary(min_size=64, max_size=512), st.integers(0, REGION_BYTES - 512))
def test_whatever_an_application_writes_there_is_read(noise: bytes, at: int) -> None:
    region = new_region()
    RegionWriter(region).write_series({GET: (counts(1), 1.0), POST: (counts(1), 1.0)})
    region[at : at + len(noise)] = noise
    entry = read_region(region)
    for (method, scheme, _, _), values in entry.series.items():
        assert method.replace("_", "").isalnum()
        assert scheme.replace("_", "").isalnum()
        assert all(value >= 0 for value in values)
    writer = RegionWriter(region)
    writer.write_series({GET: (counts(2), 1.0)})
    writer.write_counters({"accepted": 1}, {400: 1})
    writer.write_queue(counts(1), 1.0)


def write_and_read_again(board: Scoreboard) -> None:
    number = board.assign_page(())
    page = board.map_page(number)
    assert page is not None
    RegionWriter(page.region).write_series({GET: (counts(1), 1.0)})
    assert board.assign_page(()) == number
    again = board.map_page(number)
    assert again is not None
    assert read_region(again.region).series == {GET: (*counts(1), 1.0)}
    assert read_region(region_of(memoryview(board._memory), number)).series == {GET: (*counts(1), 1.0)}


def test_a_page_is_cleared_and_its_region_is_not() -> None:
    board = Scoreboard.create()
    write_and_read_again(board)
    board.close()
