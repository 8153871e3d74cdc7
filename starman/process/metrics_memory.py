"""The metrics of workers in shared memory: one region for each page of the scoreboard, behind the pages.

A worker's loop writes its region, twice a second and at its end. The next worker with the same page goes on from
there: a region is never cleared, so sums over all regions never fall, and what a worker has counted outlives it. Only
gauges, such as the number of connections, end with the worker. A process that is killed loses what it has counted
since it last wrote.

`read_region` is pure: bytes of a region in, a `RegionEntry` out. An application can write anything to its region:
only the types of the values are certain. There are no locks.
"""

from __future__ import annotations

import math
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The size of a region, in bytes. What is never written costs no memory.
REGION_BYTES = 32_768
# How many buckets a histogram has: those of `serving.metrics`, of which the last one has no upper bound.
BUCKETS = 15
# How many different series of requests a region has. Further ones are counted as one series.
SERIES = 185
OVERFLOW = ("_OTHER", "http", 0, 1)
# Numbers that only grow, in the order of the region. New ones are appended.
COUNTERS = (
    *("received_bytes", "sent_bytes", "accepted", "queue_timeouts", "full_queues", "tls_failures", "proxy_failures"),
    *("lost_threads", "log_warning", "log_error", "log_critical", "log_exception"),
)
# The status codes of refused messages, each with a counter behind those above; other codes are counted as 400.
REFUSED = (400, 408, 413, 414, 417, 431, 500, 501, 503, 505)
# Numbers that the next tick replaces.
GAUGES = ("active_connections", "idle_connections", "threads", "busy_threads", "lost", "queued", "in_flight", "spooled_bytes")
# For how many ticks of a worker their maxima are kept: two minutes.
PEAKS = 240

_CELLS = 48  # reserved for counters
_GAUGE_CELLS = 24
_HISTOGRAM = struct.Struct(f"={BUCKETS}Qd")
_COUNTERS = struct.Struct(f"={len(COUNTERS) + len(REFUSED)}Q")
_GAUGES = struct.Struct(f"={len(GAUGES)}d")
_USED = struct.Struct("=Q")
_INSTANT = struct.Struct("=d")
# The instant of a tick, the longest queue, and how late the loop was (seconds).
_PEAK = struct.Struct("=dff")
# Method, scheme, status code, minor version.
_KEY = struct.Struct("=12s8sHBx")
_ROW = _KEY.size + _HISTOGRAM.size

# From the beginning of a region: how many series it has; the instant of the last tick; counters; the time in the
# queue; gauges; peaks, as a ring; series.
_USED_AT = 0
_TICK_AT = 8
_COUNTERS_AT = 16
_QUEUE_AT = _COUNTERS_AT + 8 * _CELLS
_GAUGES_AT = _QUEUE_AT + _HISTOGRAM.size
_PEAKS_AT = _GAUGES_AT + 8 * _GAUGE_CELLS
_SERIES_AT = 4608

_NOTHING = (*([0] * BUCKETS), 0.0)
_MOST = (1 << 64) - 1


class RegionEntry:
    """The contents of a region.

    series: of (method, scheme, status code, minor version) the counts of the buckets, not cumulative, and the sum in
    seconds. counters, refused: by name and by status code. queue: as one of `series`. ticked_at: when the worker's
    loop has last written, monotonic; 0.0: never. gauges: by name, as of then. peaks: (instant, longest queue, how late
    the loop was) of the last ticks, in no order.
    """

    __slots__ = ("counters", "gauges", "peaks", "queue", "refused", "series", "ticked_at")

    def __init__(self) -> None:
        self.series: dict[tuple[str, str, int, int], tuple[float, ...]] = {}
        self.counters: dict[str, int] = {}
        self.refused: dict[int, int] = {}
        self.queue: tuple[float, ...] = _NOTHING
        self.ticked_at = 0.0
        self.gauges: dict[str, float] = {}
        self.peaks: list[tuple[float, float, float]] = []


def read_region(region: bytes | memoryview) -> RegionEntry:
    """The contents of a region. Never raises."""
    entry = RegionEntry()
    counters = _COUNTERS.unpack_from(region, _COUNTERS_AT)
    entry.counters = dict(zip(COUNTERS, counters, strict=False))
    entry.refused = dict(zip(REFUSED, counters[len(COUNTERS) :], strict=True))
    entry.queue = _histogram(_HISTOGRAM.unpack_from(region, _QUEUE_AT))
    entry.ticked_at = _finite(_INSTANT.unpack_from(region, _TICK_AT)[0])
    entry.gauges = dict(zip(GAUGES, map(_finite, _GAUGES.unpack_from(region, _GAUGES_AT)), strict=True))
    for number in range(PEAKS):
        peak = _PEAK.unpack_from(region, _PEAKS_AT + number * _PEAK.size)
        if peak[0] > 0:
            entry.peaks.append((peak[0], _finite(peak[1]), _finite(peak[2])))
    used = min(_USED.unpack_from(region, _USED_AT)[0], SERIES)
    for number in range(used):
        at = _SERIES_AT + number * _ROW
        method, scheme, status, minor = _KEY.unpack_from(region, at)
        key = (_text(method), _text(scheme), status, minor)
        values = _histogram(_HISTOGRAM.unpack_from(region, at + _KEY.size))
        if key in entry.series:  # the application has written there
            values = tuple(map(sum, zip(values, entry.series[key], strict=True)))
        entry.series[key] = values
    return entry


def _text(raw: bytes) -> str:
    text = raw.rstrip(b"\0").decode("ascii", "replace")
    return text if text.replace("_", "").isalnum() else "_OTHER"


def _finite(value: float) -> float:
    return value if math.isfinite(value) and value >= 0 else 0.0


def _histogram(values: tuple[float, ...]) -> tuple[float, ...]:
    return (*values[:-1], _finite(values[-1]))


class RegionWriter:
    """Writes the region of one worker. Its loop alone calls."""

    __slots__ = ("_base", "_peak", "_region", "_rows", "_values")

    def __init__(self, region: memoryview) -> None:
        """Goes on from what earlier workers have counted in `region`."""
        self._region = region
        self._base = read_region(region)
        # The number of the row of each series, and what was last written.
        self._rows = {key: number for number, key in enumerate(self._base.series)}
        self._values: dict[int, tuple[float, ...]] = {}
        self._peak = 0
        if self._base.gauges != dict.fromkeys(GAUGES, 0.0):
            _GAUGES.pack_into(region, _GAUGES_AT, *([0.0] * len(GAUGES)))

    def write_series(self, series: Mapping[tuple[str, str, int, int], tuple[Sequence[int], float]]) -> None:
        """Write the series that have changed: the counts of the buckets, and the sum in seconds, since the start of
        this worker."""
        overflow: list[float] = list(_NOTHING)
        for key, (counts, seconds) in series.items():
            number = self._row(key)
            if number is None:
                overflow = [own + more for own, more in zip(overflow, (*counts, seconds), strict=True)]
            else:
                self._write_row(number, key, (*counts, seconds))
        if any(overflow):
            number = self._row(OVERFLOW, last=True)
            if number is not None:
                self._write_row(number, OVERFLOW, tuple(overflow))

    def _row(self, key: tuple[str, str, int, int], *, last: bool = False) -> int | None:
        """The row of a series, a new one if there is room; the last one is kept for OVERFLOW."""
        number = self._rows.get(key)
        if number is None and len(self._rows) < (SERIES if last or OVERFLOW in self._rows else SERIES - 1):
            number = self._rows[key] = len(self._rows)
        return number

    def _write_row(self, number: int, key: tuple[str, str, int, int], values: tuple[float, ...]) -> None:
        if self._values.get(number) == values:
            return
        self._values[number] = values
        at = _SERIES_AT + number * _ROW
        base = self._base.series.get(key, _NOTHING)
        method, scheme, status, minor = key
        _HISTOGRAM.pack_into(self._region, at + _KEY.size, *_sum(base, values))
        _KEY.pack_into(self._region, at, method.encode("ascii", "replace"), scheme.encode("ascii", "replace"), status, minor)
        if number >= _USED.unpack_from(self._region, _USED_AT)[0]:
            _USED.pack_into(self._region, _USED_AT, number + 1)

    def write_counters(self, counters: Mapping[str, int], refused: Mapping[int, int]) -> None:
        """Write what was counted since the start of this worker."""
        base = self._base
        values = [base.counters[name] + counters.get(name, 0) for name in COUNTERS]
        refusals = dict.fromkeys(REFUSED, 0)
        for status, count in refused.items():
            refusals[status if status in refusals else 400] += count
        values += [base.refused[status] + refusals[status] for status in REFUSED]
        _COUNTERS.pack_into(self._region, _COUNTERS_AT, *[min(value, _MOST) for value in values])

    def write_queue(self, counts: Sequence[int], seconds: float) -> None:
        """Write how long requests have waited for a thread, since the start of this worker."""
        _HISTOGRAM.pack_into(self._region, _QUEUE_AT, *_sum(self._base.queue, (*counts, seconds)))

    def write_tick(self, now: float, gauges: Mapping[str, float], longest_queue: int, lag: float) -> None:
        """Write the gauges as they are at `now` (monotonic), and the maxima since the last tick."""
        _GAUGES.pack_into(self._region, _GAUGES_AT, *[gauges.get(name, 0.0) for name in GAUGES])
        _PEAK.pack_into(self._region, _PEAKS_AT + self._peak * _PEAK.size, now, longest_queue, lag)
        self._peak = (self._peak + 1) % PEAKS
        _INSTANT.pack_into(self._region, _TICK_AT, now)


def _sum(base: tuple[float, ...], values: tuple[float, ...]) -> list[float]:
    added = [min(int(own + more), _MOST) for own, more in zip(base[:-1], values[:-1], strict=True)]
    return [*added, base[-1] + values[-1]]
