"""Makes the lines of StatsD from two observations, with the names that gunicorn's metrics have. Pure.

gunicorn sends a packet for each request. Here the observer sends what has changed since the last time, so requests
pay nothing. A duration is that of its bucket: the mean if all requests were in one bucket, else the middle.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from starman.serving.metrics.request_counts import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starman.process.metrics_memory import RegionEntry

# The largest packet (bytes): what an Ethernet frame holds.
PACKET_BYTES = 1400
_LOWER = (0.0, *BOUNDS)
# What stands for a request above the last bound.
_UPPER = (*BOUNDS, BOUNDS[-1] * 2)


class Totals(NamedTuple):
    """What was counted until one moment. statuses: finished requests by status code. buckets, seconds: their
    durations. log_lines: by level; "exception": those of the errors that have a traceback."""

    statuses: Mapping[int, int]
    buckets: Sequence[int]
    seconds: float
    log_lines: Mapping[str, int]


# A level of the log that gunicorn counts by itself: an error with a traceback is no further error.
_EXCEPTION = "exception"

NOTHING = Totals({}, (0,) * len(_UPPER), 0.0, {})


def totals_of(regions: Sequence[RegionEntry], log_lines: Mapping[str, int]) -> Totals:
    """The sums over all regions. `log_lines`: those of other processes, which are added."""
    statuses: Counter[int] = Counter()
    buckets = [0] * len(_UPPER)
    seconds = 0.0
    lines = Counter(log_lines)
    for region in regions:
        for (_, _, status, _), values in region.series.items():
            counts = [int(value) for value in values[:-1]]
            statuses[status] += sum(counts)
            buckets = [own + more for own, more in zip(buckets, counts, strict=True)]
            seconds += values[-1]
        for name, count in region.counters.items():
            if name.startswith("log_"):
                lines[name.removeprefix("log_")] += count
    return Totals(statuses, buckets, seconds, lines)


def make_lines(before: Totals, now: Totals, workers: int, prefix: str, tags: str, backlog: int | None = None) -> Iterator[str]:
    """The lines for what has changed. `prefix` as the setting `statsd_prefix` has it, `tags` as `dogstatsd_tags`.
    `backlog`: how many connections wait to be accepted; None: not to be sent."""
    start = f"{prefix.rstrip('.')}." if prefix.rstrip(".") else ""
    end = f"|#{tags}" if tags else ""
    requests = sum(now.statuses.values()) - sum(before.statuses.values())
    if requests > 0:
        yield f"{start}gunicorn.requests:{requests}|c{end}"
    for status in sorted(now.statuses):
        more = now.statuses[status] - before.statuses.get(status, 0)
        if more > 0:
            yield f"{start}gunicorn.request.status.{status}:{more}|c{end}"
    for milliseconds, count in _durations(before, now):
        rate = "" if count == 1 else f"|@{1 / count:.9g}"
        yield f"{start}gunicorn.request.duration:{milliseconds:.6g}|ms{rate}{end}"
    yield f"{start}gunicorn.workers:{workers}|g{end}"
    if backlog is not None:
        yield f"{start}gunicorn.backlog:{backlog}|h{end}"
    lines = {level: count - before.log_lines.get(level, 0) for level, count in now.log_lines.items()}
    lines["error"] = lines.get("error", 0) - lines.get(_EXCEPTION, 0)
    for level, more in sorted(lines.items()):
        if more > 0:
            yield f"{start}gunicorn.log.{level}:{more}|c{end}"


def _durations(before: Totals, now: Totals) -> list[tuple[float, int]]:
    """Durations in milliseconds, each with how many requests took it."""
    changes = [new - old for new, old in zip(now.buckets, before.buckets, strict=True)]
    found = [(number, count) for number, count in enumerate(changes) if count > 0]
    if len(found) == 1:
        count = found[0][1]
        mean = (now.seconds - before.seconds) / count
        return [(1000 * max(mean, 0.0), count)]
    return [(500 * (_LOWER[number] + _UPPER[number]), count) for number, count in found]


def make_packets(lines: Iterator[str]) -> Iterator[bytes]:
    """Packets of whole lines, each of PACKET_BYTES at most, unless one line is longer."""
    packet = b""
    for line in lines:
        encoded = line.encode("utf-8", "replace")
        if packet and len(packet) + 1 + len(encoded) > PACKET_BYTES:
            yield packet
            packet = b""
        packet = packet + b"\n" + encoded if packet else encoded
    if packet:
        yield packet
