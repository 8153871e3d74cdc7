"""Time: the Date and Server lines, made once a second for any thread that asks, and how a transfer comes along."""

from __future__ import annotations

import time
from typing import Final

from starman.proto.response import Stamp

# RFC 9110 §5.6.7: IMF-fixdate is English whatever the locale, so strftime's %a and %b will not do.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Clock:
    """Keeps the stamp of the current second. Two threads may both make a new one: either will do. When the system's time is set,
    it is right again within a second."""

    __slots__ = ("_cached", "_server")

    def __init__(self, server: str) -> None:
        """`server` is the value of the Server field, in latin-1, "" for none."""
        self._server = server
        self._cached = (0.0, Stamp("", server))

    def stamp(self, now: float) -> Stamp:
        """The lines for now, which is monotonic."""
        until, stamp = self._cached
        if now >= until:
            unix_time = time.time()
            stamp = Stamp(fixdate(unix_time), self._server)
            self._cached = (now + 1 - unix_time % 1, stamp)
        return stamp


# After this long (seconds) without a request, a connection gives its second descriptor back.
REST_SECONDS: Final = 1.0

# When parsing heads and bodies of one connection has taken so long (seconds), others have their turn: one read may bring
# 40,000 chunks of a byte, or several heads that each take milliseconds.
LONGEST_TURN: Final = 0.001

# For how long (seconds) a transfer may be as slow as it likes: a connection begins slowly, and pauses.
RATE_GRACE: Final = 10.0


class Progress:
    """How a transfer of one connection comes along. Looked at now and then, so it costs nothing in between. Loop."""

    __slots__ = ("_began_at", "_began_with", "_mark", "_since", "_thing")

    def __init__(self) -> None:
        self._thing: object = None
        self._mark = 0
        self._began_with = 0
        self._began_at = 0.0
        self._since = 0.0

    def is_slow(self, thing: object, mark: int, now: float, *, timeout: float, rate: int = 0) -> bool:
        """Whether `thing` has stood still for `timeout` seconds, or moves fewer than `rate` bytes a second (0: any will do).

        `mark` tells in bytes how far it has come, or how much of it is left. `now` is monotonic. `thing` is kept, so that another
        one is noticed: it must not lead back here, for a circle is free only when the collector comes.
        """
        if thing != self._thing:
            self._thing = thing
            self._mark = self._began_with = mark
            self._began_at = self._since = now
        elif mark != self._mark:
            self._mark = mark
            self._since = now
        moved = abs(mark - self._began_with)
        return now - self._since >= timeout or moved < rate * (now - self._began_at - RATE_GRACE)

    def forget(self) -> None:
        """What comes next is a thing of its own."""
        self._thing = None


def fixdate(instant: float) -> str:
    """A Unix time as IMF-fixdate (RFC 9110 §5.6.7)."""
    t = time.gmtime(instant)
    day, month = _DAYS[t.tm_wday], MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02} {month} {t.tm_year:04} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
