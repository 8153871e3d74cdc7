"""How much memory the bodies of a worker's requests may take together: without that bound each client would add its own."""

from __future__ import annotations

from collections import deque

# What every body may take (bytes) and nobody counts, no more than a request's head may: an ordinary request costs no count.
FREE_BYTES = 16_384


class BodyMemory:
    """What is left of one worker's memory for bodies. The loop takes, any thread gives back; there is no lock.

    each_bytes: a larger body goes to a spool file even if there is room. free_bytes: what each may have without asking.
    """

    __slots__ = ("_left", "_returned", "each_bytes", "free_bytes")

    def __init__(self, each_bytes: int, total_bytes: int) -> None:
        self.each_bytes = each_bytes
        self.free_bytes = min(FREE_BYTES, each_bytes)
        self._left = total_bytes
        # A number that threads add to would need a lock; a deque needs none, and is emptied by the one who takes.
        self._returned: deque[int] = deque()

    def take(self, count: int) -> bool:
        """Have so many bytes more. Loop. False: there is no room, and nothing is taken."""
        self._left = left = self.left
        if count > left:
            return False
        self._left = left - count
        return True

    def give_back(self, count: int) -> None:
        """Return what was taken. Any thread."""
        self._returned.append(count)

    @property
    def left(self) -> int:
        """How many bytes may still be taken. Loop."""
        returned = self._returned
        while returned:
            self._left += returned.popleft()
        return self._left
