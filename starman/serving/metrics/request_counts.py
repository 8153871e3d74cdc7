"""Counts finished requests by method, status code, scheme and version, never by path, and measures how long they took.

Each thread counts in memory of its own, without a lock, and only the loop reads it (`RequestCounts.totals`). So an
observation costs 0.05 µs compiled, and is never lost. The buckets are those that OpenTelemetry advises for
`http.server.request.duration`.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starman.serving.executors.queued_request import RequestState

# Upper bounds (seconds) of the buckets. One more bucket has everything above.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
BUCKETS: Final = 15
_FIRST: Final = 0.005

# The methods that have a label of their own: a client must not be able to make labels.
_KNOWN: Final = frozenset((b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PUT", b"TRACE"))
OTHER_METHOD: Final = "_OTHER"

# The client left before its response was complete. Not a status of HTTP: nginx has introduced it, for logs.
_CLIENT_LEFT: Final = 499

# Method, scheme, status code, minor version.
SeriesKey = tuple[str, str, int, int]


class Histogram:
    """How many durations were in each bucket (not cumulative), and their sum in seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts: list[int] = [0] * BUCKETS
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        bucket = 0
        if seconds > _FIRST:
            for bound in BOUNDS:
                if seconds <= bound:
                    break
                bucket += 1
        self.counts[bucket] += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.counts = [own + more for own, more in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds


class _Series(Histogram):
    """The requests of one method, scheme, status and version. The key as the request has it: `method` may be any."""

    __slots__ = ("method", "minor", "scheme", "status")

    def __init__(self, method: bytes, scheme: str, status: int, minor: int) -> None:
        super().__init__()
        self.method = method
        self.scheme = scheme
        self.status = status
        self.minor = minor


class RequestCounter:
    """Counts the requests of one thread, which alone calls `count`. The loop reads the attributes at any time.

    finished: how many requests the thread has run to their end; those that have passed their deadlines are counted by
    the loop. queue: how long the requests waited for a thread, also those that no thread has run. body_sent,
    body_received: the bytes of all bodies.
    """

    __slots__ = ("_last", "_series", "body_received", "body_sent", "finished", "queue")

    def __init__(self) -> None:
        self._last = _Series(b"GET", "http", 200, 1)
        self._series: dict[tuple[bytes, str, int, int], _Series] = {(b"GET", "http", 200, 1): self._last}
        self.finished = 0
        self.queue = Histogram()
        self.body_sent = 0
        self.body_received = 0

    def count(self, request: RequestState, now: float) -> None:
        """Count a request that has run, and ended at `now` (monotonic), unless it was counted already."""
        if request.is_counted:
            return
        request.is_counted = True
        head = request.head
        status = request.status_code if request.status_code > 0 else _CLIENT_LEFT
        self.add(head.method, request.url_scheme(), status, head.minor, now - request.arrived_at)
        self.queue.observe(request.queue_seconds)
        self.body_sent += request.body_sent
        if request.body_received:
            self.body_received += request.body_received

    def add(self, method: bytes, scheme: str, status: int, minor: int, seconds: float) -> None:
        """Count a request of this key that took `seconds`."""
        series = self._last
        # Most requests have the same key as the one before.
        if series.status != status or series.method != method or series.minor != minor or series.scheme != scheme:
            series = self._find_series(method, scheme, status, minor)
        series.observe(seconds)

    def _find_series(self, method: bytes, scheme: str, status: int, minor: int) -> _Series:
        if method not in _KNOWN:
            method = b""
        key = (method, scheme, status, minor)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = _Series(method, scheme, status, minor)
        self._last = series
        return series

    def series(self) -> list[_Series]:
        """All series that have ever counted. Loop; the thread may add others meanwhile."""
        return list(self._series.values())


class RequestTotals:
    """What all threads of a worker have counted since its start."""

    __slots__ = ("body_received", "body_sent", "queue", "series")

    def __init__(self) -> None:
        self.series: dict[SeriesKey, Histogram] = {}
        self.queue = Histogram()
        self.body_sent = 0
        self.body_received = 0


class RequestCounts:
    """The counters of all threads of a worker, and of its loop."""

    __slots__ = ("_counters", "_own", "_unrun")

    def __init__(self) -> None:
        self._counters: list[RequestCounter] = []
        # Requests that end without a thread, by either side: the arguments of `RequestCounter.add`, how long they have
        # waited, and the bytes of both bodies. The steps of a deque are atomic.
        self._unrun: deque[tuple[bytes, str, int, int, float, float, int, int]] = deque()
        self._own = self.new_counter()  # the loop's

    def new_counter(self) -> RequestCounter:
        """A counter for one more thread. It stays when the thread ends. Loop, or the thread."""
        counter = RequestCounter()
        self._counters.append(counter)
        return counter

    def add_unrun(self, request: RequestState, status_code: int, now: float) -> None:
        """Count a request that no thread will count, because it does not run, or was answered with `status_code` while
        it runs. It ended at `now` (monotonic). Either side."""
        head, status, seconds = request.head, status_code or _CLIENT_LEFT, now - request.arrived_at
        key = (head.method, request.url_scheme(), status, head.minor)
        entry = (*key, seconds, request.queue_seconds, request.body_sent, request.body_received)
        # Marked late, so that a request for which there is no memory can be counted later.
        if request.is_counted:
            return
        request.is_counted = True
        self._unrun.append(entry)

    @property
    def finished(self) -> int:
        """How many requests threads have run to their end. Loop."""
        finished = 0
        for counter in self._counters:
            finished += counter.finished
        return finished

    def totals(self) -> RequestTotals:
        """What was counted until now. Loop."""
        own = self._own
        while self._unrun:
            method, scheme, status, minor, seconds, queued, sent, received = self._unrun.popleft()
            own.add(method, scheme, status, minor, seconds)
            own.queue.observe(queued)
            own.body_sent += sent
            own.body_received += received
        totals = RequestTotals()
        for counter in self._counters:
            totals.queue.add(counter.queue)
            totals.body_sent += counter.body_sent
            totals.body_received += counter.body_received
            for series in counter.series():
                if not any(series.counts):
                    continue
                name = series.method.decode("latin-1") or OTHER_METHOD
                key = (name, series.scheme, series.status, series.minor)
                found = totals.series.get(key)
                if found is None:
                    found = totals.series[key] = Histogram()
                found.add(series)
        return totals
