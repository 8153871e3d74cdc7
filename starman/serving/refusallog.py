"""What is said in the error log of clients that were refused: a line each, and of many at once only how many there were.

A client decides how often it is refused, so it must not decide how much is written, nor what: it sends no byte that gets
into the log as it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starman import log

# How many lines may be written in so many seconds. What is beyond that is counted.
MOST_LINES = 50
PERIOD = 10.0


class RefusalLog:
    """The lines of one worker, at most MOST_LINES in PERIOD seconds, and behind them how many are missing. Loop only."""

    __slots__ = ("_clock", "_ends_at", "_missing", "_written")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at = 0.0
        self._written = 0
        self._missing = 0

    def add(self, text: str) -> None:
        """Somebody was refused, and `text` says who and why. It may hold any character."""
        now = self._clock()
        self.check(now)
        if not self._written:
            self._ends_at = now + PERIOD
        if self._written < MOST_LINES:
            self._written += 1
            log.info(escaped(text))
        else:
            self._missing += 1

    def check(self, now: float) -> None:
        """Say what is missing when the period is over, from the worker's tick. `now` is monotonic."""
        if self._written and now >= self._ends_at:
            self.close()

    def close(self) -> None:
        """Say what is missing now: the worker ends."""
        if self._missing:
            log.info(f"and {self._missing} more were refused: {MOST_LINES} lines are logged in {PERIOD:g} s")
        self._written = self._missing = 0


def escaped(text: str) -> str:
    """`text` in one line, with what cannot be seen, or does something to a terminal, as Python writes it in a literal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
