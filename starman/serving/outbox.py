"""Whole responses, held back while further requests wait, and then written one after the other.

A write to a socket runs the kernel's network code, often the receiver's too, and the processor forgets what it has learned of
the interpreter and the application: a Flask request that runs right behind another takes a third less time than one behind a
write. So while requests wait that are to run next, small responses are held back, for `LONGEST` at most: a request that takes
so long is answered at once, for then there is nothing to be gained. Nor is there when a request is the only one.

A response is held in its connection's `Writer`, ahead of all that is to follow it there; the outbox only knows who holds one.
It is emptied by the thread that fills it and, when that one is busy or blocked in its next request, by the loop: it looks
whenever a slice of its park has passed, and when a park ends. Whoever adds looks behind that whether the loop still parks. So
one of the two sees the other, and nothing stays.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starman.serving.writer import Writer

# For how long (seconds) responses are held back, and how large (bytes) they may be.
LONGEST: Final = 0.001
LARGEST: Final = 16_384


class Outbox:
    """Whose responses are held back, in one worker. Any side may call: the steps of a deque are atomic.

    writers: those that hold something. One may stand here twice, or with nothing left: that does no harm.
    until: the instant (monotonic) from which on nothing is to stay. Set by whoever writes; a stale one costs a batch, no more.
    """

    __slots__ = ("until", "writers")

    def __init__(self) -> None:
        self.writers: deque[Writer] = deque()
        self.until = 0.0

    def flush(self) -> None:
        """Write all that is held, in order."""
        writers = self.writers
        while writers:
            try:
                writer = writers.popleft()
            except IndexError:  # another side has taken the last
                return
            writer.flush()
