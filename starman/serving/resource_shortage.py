"""Shortages of disk, memory and descriptors in a worker: the response to the client, and lines of the error log."""

from __future__ import annotations

import errno
import time
from collections import deque
from typing import TYPE_CHECKING

from starman import log
from starman.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.proto.events import RequestHead

# After a line of one kind, further ones are only counted for this long (seconds).
PERIOD = 10.0

# Errors that pass when other requests are answered. Other errors mean a defective installation: a missing directory,
# for example.
_PASSING = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


def refuse_body(error: Exception, head: RequestHead, shortages: ShortageLog) -> ProtocolError:
    """Log that the body of a request cannot be stored in a file or read from it, and return the response. Any thread.

    The status is 503 if the error may pass, else 500.
    """
    shortages.add("the spool file of a request body failed", str(error))
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _PASSING):
        refusal = ProtocolError(503, "there is no room for the body of the request now")
    else:
        refusal = ProtocolError(500, "Internal Server Error")
    refusal.to_head = head.method == b"HEAD"
    return refusal


class ShortageLog:
    """Logs shortages of one worker: one line of each kind in PERIOD seconds, then the number of further ones.

    Any thread may add a shortage; the loop logs it at its next tick. So no lock is needed, and no thread waits for the
    log.
    """

    __slots__ = ("_clock", "_kinds", "_news")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._news: deque[tuple[str, str]] = deque()
        # For each kind: when its period ends (monotonic), how many shortages are not logged, and the details of the
        # last one.
        self._kinds: dict[str, tuple[float, int, str]] = {}

    def add(self, kind: str, details: str = "") -> None:
        """Note a shortage. `kind` is a whole sentence, the same each time; `details` vary. Any thread."""
        self._news.append((kind, details))

    def write_due(self, now: float) -> None:
        """Log what is due. Called by the worker's tick. `now` is monotonic. Loop."""
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
        """Log how many more shortages there were: the worker ends. Loop."""
        self.write_due(self._clock())
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
