"""Temporary shortages of a worker (disk, descriptors): the response to the client, and the lines of the error log."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable

from starman import log
from starman.errors import ProtocolError

# For so long (seconds) after a line of one kind the next ones are counted.
PERIOD = 10.0

# Errors that pass as soon as other requests are answered. Others mean a defective installation, such as a missing directory.
_PASSING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


def refusal_for(error: Exception, *, to_head: bool) -> ProtocolError:
    """The response to a client whose body cannot be written to a file: 503 if the error may pass, else 500. Any thread.

    `to_head`: the request is a HEAD.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _PASSING):
        refusal = ProtocolError(503, "there is no room for the body of the request now")
    else:
        refusal = ProtocolError(500, "Internal Server Error")
    refusal.to_head = to_head
    return refusal


class ShortageLog:
    """The lines of one worker about shortages: of each kind one in PERIOD seconds, and then how many more there were.

    Any thread adds a line, and the loop writes it at its next tick. So no lock is needed and no thread waits for the log.
    """

    __slots__ = ("_clock", "_kinds", "_news")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news: deque[tuple[str, str]] = deque()
        # By kind: when its period ends (monotonic), how many lines are missing, and the details of the last.
        self._kinds: dict[str, tuple[float, int, str]] = {}

    def add(self, kind: str, details: str = "") -> None:
        """Note a shortage. `kind` is a whole sentence, the same each time; `details` follow it. Any thread."""
        self._news.append((kind, details))

    def check(self, now: float) -> None:
        """Write what is due, from the worker's tick. `now` is monotonic. Loop."""
        news = self._news
        while news:
            kind, details = news.popleft()
            until, missing, _ = self._kinds.get(kind, (0.0, -1, ""))
            if missing < 0:
                log.error(f"{kind}: {details}" if details else kind)
                until = now + PERIOD
            self._kinds[kind] = until, missing + 1, details
        for kind, (until, _, _) in list(self._kinds.items()):
            if now >= until:
                self._end(kind, now)

    def close(self) -> None:
        """The worker ends: write now how many more there were. Loop."""
        self.check(self._clock())
        for kind in list(self._kinds):
            self._end(kind, self._clock())

    def _end(self, kind: str, now: float) -> None:
        _, missing, details = self._kinds[kind]
        if missing:
            last = f"; the last: {details}" if details else ""
            log.error(f"{kind}, {missing} more {'time' if missing == 1 else 'times'} within {PERIOD:g} s{last}")
            self._kinds[kind] = now + PERIOD, 0, ""
        else:
            del self._kinds[kind]
