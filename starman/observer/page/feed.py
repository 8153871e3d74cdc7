"""The events of the page: samples the server, keeps the history, and has all viewers send the same bytes. Loop only.

A viewer takes the newest event when it is ready for one, and never holds back the others.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starman.observer.master_link import MasterSilentError
from starman.observer.page.history import History

if TYPE_CHECKING:
    from starman.observer.metrics.reader import MetricsReader
    from starman.observer.status import StatusReader

# How many viewers there may be at a time.
MOST_VIEWERS = 8
# The time (seconds) between two samples, with a viewer and without.
VIEWED_SECONDS = 1.0
UNVIEWED_SECONDS = 5.0
# Samples take at most this part of a CPU: with many workers they are less frequent.
_CPU_PART = 0.05


class Feed:
    """The events, and the number of viewers."""

    __slots__ = ("_closed", "_event", "_history", "_joined", "_metrics", "_next", "_number", "_status", "viewers")

    def __init__(self, status: StatusReader, metrics: MetricsReader) -> None:
        self._status = status
        self._metrics = metrics
        self._history = History()
        self.viewers = 0
        # The last event and its number, and the future of the next one.
        self._event = b""
        self._number = 0
        self._next: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._joined = asyncio.Event()
        self._closed = False

    async def run(self) -> None:
        """Sample until the task is cancelled."""
        while True:
            used = await self._sample()
            self._joined.clear()
            pause = max(VIEWED_SECONDS if self.viewers else UNVIEWED_SECONDS, used / _CPU_PART)
            # The first viewer gets its first event at once.
            with suppress(TimeoutError):
                await asyncio.wait_for(self._joined.wait(), pause)

    async def join(self) -> tuple[int, bytes] | None:
        """Count one more viewer. Returns the number of the last event, and the event with the history, which comes
        before the next one. None: there are MOST_VIEWERS already."""
        if self.viewers >= MOST_VIEWERS:
            return None
        self.viewers += 1
        if self.viewers == 1:
            self._joined.set()
        return self._number, self._encode_history()

    def leave(self) -> None:
        """Count one viewer less."""
        self.viewers -= 1

    async def next_event(self, after: int) -> tuple[int, bytes] | None:
        """The newest event and its number, as soon as it is greater than `after`, with the history before it if there
        were others in between. None: there will be no more."""
        while self._number <= after and not self._closed:
            await asyncio.shield(self._next)
        if self._closed:
            return None
        missed = self._encode_history() if self._number > after + 1 else b""
        return self._number, missed + self._event

    def close(self) -> None:
        """End the streams of all viewers."""
        self._closed = True
        self._wake()

    def _encode_history(self) -> bytes:
        return encode_event("history", {"points": list(self._history.points), "marks": list(self._history.marks)})

    async def _sample(self) -> float:
        """Take one sample, and publish its event. Returns the CPU time that it has taken, in seconds."""
        # Reading the status of many workers takes most of it.
        begun = time.thread_time()
        try:
            status = await self._status.read()
        except MasterSilentError as error:
            self._publish("silent", {"text": f"the master {error}"})
            return 0.0
        at, now = time.time(), time.monotonic()
        point, marks = self._history.add(at, now, status, self._metrics.read_regions())
        if self.viewers:
            self._publish("status", {"point": point, "marks": marks, "status": status})
        return time.thread_time() - begun

    def _publish(self, name: str, document: dict[str, Any]) -> None:
        self._number += 1
        self._event = encode_event(name, document)
        self._wake()

    def _wake(self) -> None:
        waiting, self._next = self._next, asyncio.get_running_loop().create_future()
        waiting.set_result(None)


def encode_event(name: str, document: dict[str, Any]) -> bytes:
    """An event of a stream of server-sent events (HTML, section 9.2): its data is one line of JSON, in ASCII."""
    return f"event: {name}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n".encode()
