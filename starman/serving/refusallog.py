"""Logs refused clients: one line each, and only their number when there are many. Loop only.

A client decides how often it is refused. It must not decide how much is written to the log, nor what: every byte that
it sends is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starman import log

# At most this many lines are written in this time (seconds). Further refusals are counted.
MOST_LINES = 50
PERIOD = 10.0


class RefusalLog:
    """Logs the refusals of one worker: at most MOST_LINES lines in PERIOD seconds, then the number of further ones."""

    __slots__ = ("_clock", "_ends_at", "_missing", "_written")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_at = 0.0
        self._written = 0
        self._missing = 0

    def add(self, text: str) -> None:
        """Log a refusal. `text` names the client and the reason; it may contain any character."""
        now = self._clock()
        self.write_due(now)
        if not self._written:
            self._ends_at = now + PERIOD
        if self._written < MOST_LINES:
            self._written += 1
            log.info(escaped(text))
        else:
            self._missing += 1

    def write_due(self, now: float) -> None:
        """Log how many refusals were only counted, if the period is over. Called by the worker's tick. `now` is
        monotonic."""
        if self._written and now >= self._ends_at:
            self.close()

    def close(self) -> None:
        """Log how many refusals were only counted: the worker ends."""
        if self._missing:
            log.info(f"and {self._missing} more were refused: {MOST_LINES} lines are logged in {PERIOD:g} s")
        self._written = self._missing = 0


def escaped(text: str) -> str:
    """Return `text` as one line. Invisible characters and those that control a terminal are escaped as in a Python
    literal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
