"""Notes finished requests for `starman-uv trace`. Stands in the place of the access log while a trace goes on, and
passes everything on to it.

So a request costs nothing more while nothing is traced. Threads note records, and the loop takes them.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from starman.serving.access_log.logged_request import CLIENT_ADDRESS, LoggedRequest, refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starman.serving.access_log.request_log import RequestLog
    from starman.serving.access_log.trace_filter import TraceFilter
    from starman.wsgi.environ import Environ

# How many records wait for the loop. Further ones are lost.
MOST_RECORDS: Final = 5_000

# The longest target of a record, in characters. A longer one is cut, and ends with "…".
LONGEST_TARGET: Final = 2_000


class TracingLog:
    """A `RequestLog` that passes everything on to another one, if there is one, and notes the requests of a trace. Any
    thread may add; the loop takes."""

    make_request: Final = LoggedRequest

    __slots__ = ("_filters", "_inner", "_lost", "_place", "_records")

    def __init__(self, inner: RequestLog | None, filters: Sequence[TraceFilter], place: Mapping[str, int | None]) -> None:
        """`place`: what all records of this worker have in common."""
        self._inner = inner
        self._filters = filters
        self._place = place
        # Lines of JSON, and one None for each line that is lost. The steps of a deque are atomic.
        self._records: deque[bytes] = deque()
        self._lost: deque[None] = deque()

    def add(self, environ: Environ, status_code: int, body_bytes: int) -> None:
        """As in `RequestLog`, for a request that ended just when the trace began: it is not traced."""
        if self._inner is not None:
            self._inner.add(environ, status_code, body_bytes)

    def add_request(self, request: LoggedRequest) -> None:
        """As in `RequestLog`."""
        if self._inner is not None:
            self._inner.add_request(request)
        self._note(request)

    def add_not_run(self, request: LoggedRequest) -> None:
        """As in `RequestLog`."""
        if self._inner is not None:
            self._inner.add_not_run(request)
        self._note(request)

    def add_refusal(self, peer: str, status_code: int) -> None:
        """As in `RequestLog`."""
        if self._inner is not None:
            self._inner.add_refusal(peer, status_code)
        self._note(refused(peer, status_code))

    def _note(self, request: LoggedRequest) -> None:
        record = record_of(request)
        if not any(each.matches(record) for each in self._filters):
            return
        if len(self._records) >= MOST_RECORDS:
            self._lost.append(None)
        else:
            self._records.append(json.dumps({**record, **self._place}).encode("ascii"))

    @property
    def has_records(self) -> bool:
        """Whether there is something to take. Loop."""
        return bool(self._records or self._lost)

    def take(self, most_bytes: int) -> list[bytes]:
        """The oldest records, a line of JSON each, without its end: at least one if there is any, and together at most
        `most_bytes`. Loop."""
        lines: list[bytes] = []
        size = 0
        while self._records and (not lines or size + len(self._records[0]) < most_bytes):
            lines.append(self._records.popleft())
            size += len(lines[-1]) + 1
        return lines

    def take_lost(self) -> int:
        """How many records were lost since the last call. Loop."""
        count = len(self._lost)
        for _ in range(count):
            self._lost.popleft()
        return count


def record_of(request: LoggedRequest) -> dict[str, Any]:
    """What a trace shows of a request, for JSON: seconds since the epoch, seconds, and bytes.

    method, target: None if the message was refused before it became a request.
    """
    target = request.text("REQUEST_URI")
    if target is not None and len(target) > LONGEST_TARGET:
        target = f"{target[:LONGEST_TARGET]}…"
    return {
        "time": round(request.unix_time, 6),
        "client": request.text(CLIENT_ADDRESS),
        "method": request.text("REQUEST_METHOD"),
        "target": target,
        "protocol": request.text("SERVER_PROTOCOL"),
        "status": request.status_code,
        "seconds": round(request.seconds, 6),
        "queue_seconds": round(request.queue_seconds, 6),
        "body_bytes": request.body_bytes,
        "received_bytes": request.bytes_received,
    }
