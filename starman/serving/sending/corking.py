"""What is held back for a moment, to be written together: whole responses, and blocks of one.

A write to a socket runs the kernel's network code, often the receiver's too, and the processor forgets what it has learned of
the interpreter and the application: a Flask request that runs right behind another takes a third less time than one behind a
write. So while requests wait that are to run next, small responses are held back, for `LONGEST` at most: a request that takes
so long is answered at once, for then there is nothing to be gained. Nor is there when a request is the only one. Blocks of one
response are held back for each other, when they come at once one after the other (`pace`).

Both are held in their connection's `Writer`, ahead of all that is to follow there; the corking only knows who holds something.
It is emptied by the thread that fills it and, when that one is busy or blocked in its next request or block, by the loop: it
looks whenever a slice of its park has passed, and when a park ends; for blocks, while it does not park, by a timer. Whoever adds
looks behind that whether the loop still does. So one of the two sees the other, and nothing stays.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from starman.serving.sending.writer import Writer

# For how long (seconds) anything is held back; how large (bytes) responses may be, and the blocks of one together.
LONGEST: Final = 0.001
LARGEST: Final = 16_384
MOST: Final = 131_072


class Corking:
    """Whose responses are held back, in one worker. Any side may call: the steps of a deque are atomic.

    writers: those that hold something. One may stand here twice, or with nothing left: that does no harm.
    until: the instant (monotonic) from which on nothing is to stay. Set by whoever writes; a stale one costs a batch, no more.
    watched: whether the loop looks by a timer. Any thread sets it, the loop takes it back.
    """

    __slots__ = ("_loop", "until", "watched", "writers")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self.writers: deque[Writer] = deque()
        self.until = 0.0
        self.watched = False

    def flush(self) -> None:
        """Write all that is held, in order."""
        writers = self.writers
        while writers:
            try:
                writer = writers.popleft()
            except IndexError:  # another side has taken the last
                return
            writer.flush()

    def watch(self) -> bool:
        """Have the loop look every millisecond, as long as it finds something. Any thread. False: it is closed."""
        if not self.watched:
            self.watched = True
            try:
                # Not by the pool's door: a park that begins meanwhile looks by itself, and need not end. Nor is the look itself
                # posted: it would find nothing yet, and the loop be woken once more for each few blocks.
                self._loop.call_soon_threadsafe(self._look_later)
            except RuntimeError:
                self.watched = False
        return self.watched

    def _look_later(self) -> None:
        self._loop.call_later(LONGEST, self._look)

    def _look(self) -> None:
        # Taken back before the look: whoever adds looks at this behind it.
        self.watched = False
        if self.writers:
            self.flush()
            self.watched = True
            self._look_later()
