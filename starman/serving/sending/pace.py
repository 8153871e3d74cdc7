"""How quickly the blocks of one response follow each other: whether they may leave together.

PEP 3333 wants each block to be on its way while the next one is made, and a write for each is the plain way. But an application
that makes rows of a table has a dozen of them ready in the time of one write. So behind the first few, blocks are gathered as
long as each comes at once behind the one before; one that had to be waited for is written at once, and by itself.
"""

from __future__ import annotations

from typing import Final

# A block that comes within this time (seconds) of the one before was ready, as far as anybody can tell: a write takes 5 to 10 µs.
AT_ONCE: Final = 0.0001
# How many blocks come like that before the next are believed to.
CONVINCING: Final = 3


class Pace:
    """Of one response, from its first block on. The thread's that runs it. Instants are monotonic."""

    __slots__ = ("_last", "_streak")

    def __init__(self, now: float) -> None:
        """Its first block is made."""
        self._last = now
        self._streak = 0

    def is_rapid(self, now: float) -> bool:
        """The next block is made. Whether the following one is likely to come at once."""
        self._streak = self._streak + 1 if now - self._last <= AT_ONCE else 0
        self._last = now
        return self._streak > CONVINCING
