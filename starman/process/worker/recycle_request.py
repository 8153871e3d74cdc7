"""Requests the replacement of a worker that has reached a limit of `recycling`, and measures its memory for that."""

from __future__ import annotations

import random
import time

import anyio
import anyio.to_thread

from starman import log
from starman.process.messages import Recycle
from starman.process.worker.recycling import Recycling, used_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.process.channel import Channel

# The memory is measured once in this many seconds, or less often, so that it takes at most this share of the time. The
# kernel needs 5 ms for 200 MB.
MEASURE_SECONDS = 1.0
_MEASURE_SHARE = 0.005


class RecycleRequest:
    """The request that one worker sends to the master, once. Loop only."""

    __slots__ = ("_channel", "_memory_bytes", "_recycling", "_sent", "_settings")

    def __init__(self, channel: Channel, settings: Settings) -> None:
        """`channel` leads to the master. `settings` have the limits."""
        self._channel = channel
        self._settings = settings
        self._recycling: Recycling | None = None
        self._memory_bytes = 0
        self._sent = False

    def start(self, now: float) -> None:
        """Begin to count requests and age."""
        self._recycling = Recycling(self._settings, now, random.SystemRandom().random)

    def check(self, finished: int, now: float) -> None:
        """Send the request if the worker, which has finished that many requests, has reached a limit."""
        if self._recycling is not None and not self._sent:
            reason = self._recycling.reason(finished, now, self._memory_bytes)
            if reason is not None:
                self._sent = self._channel.send(Recycle(reason))

    def request(self, reason: str) -> None:
        """Have the worker replaced because of `reason`, unless it was requested before."""
        if not self._sent:
            self._sent = self._channel.send(Recycle(reason))

    async def measure_memory(self) -> None:
        """With max_worker_memory, measure the memory again and again, in a thread, until cancelled."""
        logged = False
        while self._settings.max_worker_memory:
            began = time.monotonic()
            try:
                self._memory_bytes = await anyio.to_thread.run_sync(used_bytes, abandon_on_cancel=True)
                logged = False
            except OSError as error:
                log.error(f"the memory of this worker cannot be measured, so max_worker_memory has no effect: {error}")
                return
            except (RuntimeError, MemoryError) as error:  # cannot start a thread
                if not logged:
                    log.error(f"the memory of this worker cannot be measured for now (max_worker_memory): {error}")
                logged = True
            await anyio.sleep(max(MEASURE_SECONDS, (time.monotonic() - began) / _MEASURE_SHARE))
