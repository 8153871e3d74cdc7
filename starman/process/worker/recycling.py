"""Decides when a worker is replaced by a new one: after a number of requests, at an age, or above an amount of memory.

Runs in workers. Only measures and decides: `monitor` sends the decision to the master.
"""

from __future__ import annotations

import re
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings

# A worker may be replaced this part of max_worker_lifetime earlier, so that workers started together are not replaced
# together.
LIFETIME_SPREAD = 0.1

_OWN = re.compile(rb"^(?:Private_\w+|SwapPss): +(\d+) kB$", re.MULTILINE)


class Recycling:
    """The limits of one worker."""

    __slots__ = ("_memory_bytes", "_requests", "_settings", "_until")

    def __init__(self, settings: Settings, now: float, chance: Callable[[], float]) -> None:
        """`now`: when the worker's age starts (monotonic). `chance` returns random numbers from 0 to 1, which spread
        the limits, so that workers are not all replaced at once."""
        self._settings = settings
        self._requests = settings.max_requests and settings.max_requests + round(settings.max_requests_jitter * chance())
        lifetime = settings.max_worker_lifetime
        self._until = now + lifetime * (1 - LIFETIME_SPREAD * chance()) if lifetime else float("inf")
        self._memory_bytes = settings.max_worker_memory

    def reason(self, finished: int, now: float, memory_bytes: int = 0) -> str | None:
        """Why the worker should be replaced, as the end of "worker 1 is replaced: ..."; None if no limit is reached.

        finished: requests that the worker has served. now: monotonic."""
        if 0 < self._requests <= finished:
            return f"it has served {finished} requests (max_requests)"
        if now >= self._until:
            return f"it is near the age of {self._settings.max_worker_lifetime:g} s (max_worker_lifetime)"
        if 0 < self._memory_bytes <= memory_bytes:
            return f"it holds {memory_bytes / (1 << 20):.1f} MiB (max_worker_memory)"
        return None


def used_bytes() -> int:
    """The memory that this process alone uses: its private pages, and its share of the swapped ones (SwapPss).

    Shared pages do not count: their share (Pss) would be large while few processes share them, as at the start. Blocks
    while the kernel counts. Any thread. Where the kernel does not tell (macOS, some sandboxes on Linux), the result is
    the peak resident size, with shared pages in full.
    """
    try:
        with open("/proc/self/smaps_rollup", "rb") as file:
            return 1024 * sum(map(int, _OWN.findall(file.read())))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
