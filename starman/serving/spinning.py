"""Finds a loop that spins: it uses a CPU and does nothing, as when a descriptor was closed while the loop polls it.

The worker's tick checks it, so it costs a request nothing. Linux only, and only where `/proc/thread-self/io` can be read: a
process that has changed its user (`--user`) may not.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# The loop spins when it uses this part of a CPU for so long (seconds), while no request ends,
SPIN_SHARE = 0.25
SPIN_SECONDS = 10.0
# and it moves fewer bytes than this from tick to tick. Wake-ups by other threads move some bytes, and so does the check itself.
SPIN_BYTES = 4096

_MOVED = re.compile(rb"^[rw]char: (\d+)$", re.MULTILINE)


def bytes_moved() -> int | None:
    """How many bytes this thread has ever read and written; None when the system does not tell."""
    try:
        with open("/proc/thread-self/io", "rb") as file:
            return sum(map(int, _MOVED.findall(file.read())))
    except OSError:
        return None


class SpinWatch:
    """The watch over one loop. All methods are that loop's."""

    __slots__ = ("_began_at", "_computed", "_finished", "_left_at", "_left_with", "_measure", "_moved")

    def __init__(self, measure: Callable[[], int | None] = bytes_moved) -> None:
        """`measure` tells how many bytes the loop's thread has moved."""
        self._measure = measure
        # Since when the loop may be spinning (None: it is not), and the CPU time that it has used since.
        self._began_at: float | None = None
        self._computed = 0.0
        # As of the last look, and of the end of the last tick.
        self._finished = self._moved = 0
        self._left_at: float | None = None
        self._left_with = 0.0

    def leave(self, now: float, computed: float) -> None:
        """Call at the end of a tick; the loop's other work follows. `computed` is the CPU time of its thread, in seconds."""
        self._left_at, self._left_with = now, computed

    def look(self, now: float, computed: float, finished: int) -> str | None:
        """Call when the next tick begins. `finished`: how many requests have ever ended. Returns why the loop is to be given up;
        None: it is not."""
        if self._left_at is None:
            return None
        used, began_at, self._finished, before = computed - self._left_with, self._left_at, finished, self._finished
        if used < SPIN_SHARE * (now - began_at) or finished != before:
            self._began_at = None
            return None
        moved = self._measure()
        if moved is None:
            return None
        self._moved, moved_before = moved, self._moved
        if self._began_at is None or moved - moved_before >= SPIN_BYTES:
            self._began_at, self._computed = began_at, used
            return None
        self._computed += used
        seconds = now - self._began_at
        if seconds < SPIN_SECONDS:
            return None
        self._began_at = None
        return f"its loop has used {100 * self._computed / seconds:.0f} % of a CPU for {seconds:.0f} s, and nothing has moved"
