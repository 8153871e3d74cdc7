"""Recycling: how much a worker may be used before another takes its place, by requests, by age and by memory. Runs in workers.

Decides and measures; who is told, and what follows, is not its business.
"""

from __future__ import annotations

import re
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings

# The part of its greatest age at which a worker may already go, so that those that were started together do not go together.
LIFETIME_SPREAD = 0.1

_OWN = re.compile(rb"^(?:Private_\w+|SwapPss): +(\d+) kB$", re.MULTILINE)


class Recycling:
    """The bounds of one worker."""

    __slots__ = ("_memory_bytes", "_requests", "_settings", "_until")

    def __init__(self, settings: Settings, now: float, chance: Callable[[], float]) -> None:
        """Begins to count at the instant `now`. `chance` gives numbers from 0 to 1, which decide how much earlier or later than
        its siblings this worker goes."""
        self._settings = settings
        self._requests = settings.max_requests and settings.max_requests + round(settings.max_requests_jitter * chance())
        lifetime = settings.max_worker_lifetime
        self._until = now + lifetime * (1 - LIFETIME_SPREAD * chance()) if lifetime else float("inf")
        self._memory_bytes = settings.max_worker_memory

    def reason(self, finished: int, now: float, memory_bytes: int = 0) -> str | None:
        """Why another worker should take this one's place, to complete "it is replaced: ..."; None as long as it need not."""
        if 0 < self._requests <= finished:
            return f"it has served {finished} requests (max_requests)"
        if now >= self._until:
            return f"it is near the age of {self._settings.max_worker_lifetime:g} s (max_worker_lifetime)"
        if 0 < self._memory_bytes <= memory_bytes:
            return f"it holds {memory_bytes / (1 << 20):.1f} MiB (max_worker_memory)"
        return None


def used_bytes() -> int:
    """The memory that this process alone costs the machine: its private pages, and in proportion to those that share it what is
    swapped out. A page that others share counts nothing: its part of that (Pss) would be large whenever the others are few, as
    at the start. Blocks while the kernel counts. Any thread.

    Where the kernel does not say (macOS, some sandboxes of Linux): the most that has been resident at once, shared pages whole.
    """
    try:
        with open("/proc/self/smaps_rollup", "rb") as file:
            return 1024 * sum(map(int, _OWN.findall(file.read())))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
