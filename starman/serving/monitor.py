"""The interface to a worker's monitor, which `process.worker.monitor` implements: heartbeat, load of siblings,
harakiri, slow requests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from threading import get_ident
from typing import Protocol

# How a thread records its request: it calls the function with (since, method, target) before, and sets the first byte
# of the buffer to 0 after. When the thread starts, it calls `record_thread` with the buffer.
RequestRecorder = tuple[Callable[[float, bytes, bytes], object], memoryview]
# How many bytes the identifier of a thread takes, at the end of the buffer.
_IDENT_BYTES = 8


class Heartbeat(Protocol):
    """Shows the master that the loop runs, and what it does."""

    def request_recorder(self, thread: int) -> RequestRecorder | None:
        """Where thread number `thread` (from 0) records its requests; None: nowhere.

        Loop, before the thread starts.
        """

    def tick(self, finished: int, connections: int, busy: int) -> None:
        """The loop is alive. Loop, twice a second.

        `finished` requests have ended, `connections` are open, and `busy` threads are awake.
        """

    def write_in_flight(self, requests: int) -> None:
        """The service drains, and `requests` are in flight. Loop, several times a second during a drain."""


class Siblings(Protocol):
    """The other workers that accept on the same listeners, and what they see of this worker."""

    def publish_load(self, connections: int, *, crowded: bool) -> None:
        """Publish to the siblings how many connections this worker has, and whether it is crowded. Loop."""

    def fewest_connections(self) -> int | None:
        """The smallest number of connections of a sibling that accepts and is not crowded. Loop.

        None: no such sibling.
        """

    def is_alone(self) -> bool:
        """Whether no sibling accepts on the same listeners. Loop."""


class Harakiri(Protocol):
    """Requests the end of this worker."""

    def request_end(self) -> None:
        """The application has asked for the end of this process, which accepts nothing any more: drain soon. Loop."""

    def give_up(self, reason: str) -> None:
        """The loop does not work properly: replace this process by another one, and begin to drain. `reason` completes
        the log line "it is replaced: ...". Loop."""


class Metrics(Protocol):
    """Where a worker publishes what it has counted since its start. Loop."""

    def write_series(self, series: Mapping[tuple[str, str, int, int], tuple[Sequence[int], float]]) -> None:
        """The requests of each method, scheme, status code and minor version: how many were in each bucket of their
        duration, and the sum in seconds."""

    def write_queue(self, counts: Sequence[int], seconds: float) -> None:
        """How long requests have waited for a thread: how many were in each bucket, and the sum in seconds."""

    def write_counters(self, counters: Mapping[str, int], refused: Mapping[int, int]) -> None:
        """Other counts, by their names in `process.metrics_memory`, and refused messages by their status code."""

    def write_tick(self, now: float, gauges: Mapping[str, float], longest_queue: int, lag: float) -> None:
        """The state at `now` (monotonic), by the names in `process.metrics_memory`; since the last tick, the longest
        queue, and how late (seconds) the loop was."""


class RecycleRequest(Protocol):
    """Requests the replacement of this worker."""

    def request(self, reason: str) -> None:
        """Have this worker replaced, once, when another one is ready. `reason` completes the log line "worker 1 is
        replaced: ...". Loop."""


class SlowRequests(Protocol):
    """Has the master keep the last slow requests of all workers."""

    def report(self, line: str, seconds: float, stack: str, *, timed_out: bool) -> None:
        """A request has run for `seconds`. `line`: its method and target; `stack`: the calls of its thread, a line
        each; `timed_out`: whether it was ended. Loop."""

    def send_due(self, now: float) -> None:
        """Send a report that waits, because only one a second is sent. `now` is monotonic. Loop, twice a second."""


class Monitor(Protocol):
    """Watches one worker. A service that runs without processes (`serve`) has none."""

    @property
    def heartbeat(self) -> Heartbeat:
        """Signs of life."""

    @property
    def metrics(self) -> Metrics | None:
        """Where to publish metrics; None: nowhere."""

    @property
    def siblings(self) -> Siblings:
        """The other workers."""

    @property
    def harakiri(self) -> Harakiri:
        """The end of the worker."""

    @property
    def recycle_request(self) -> RecycleRequest:
        """The replacement of the worker."""

    @property
    def slow_requests(self) -> SlowRequests:
        """The reports of slow requests."""


def no_recorder() -> RequestRecorder:
    """A record that is not read."""
    return _nothing, memoryview(bytearray(1 + _IDENT_BYTES))


def record_thread(buffer: memoryview) -> None:
    """Record the identifier of this thread, so that its requests are found in a dump of stacks. The thread that
    records its requests there."""
    buffer[-_IDENT_BYTES:] = get_ident().to_bytes(_IDENT_BYTES, sys.byteorder)


def _nothing(since: float, method: bytes, target: bytes) -> None:
    pass
