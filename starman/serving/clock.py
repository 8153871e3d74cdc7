"""Time: the Date and Server lines, made once a second for any thread that asks, and how long something has stood still."""

from __future__ import annotations

import time

from starman.proto.response import Stamp

# RFC 9110 §5.6.7: IMF-fixdate is English whatever the locale, so strftime's %a and %b will not do.
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Clock:
    """Keeps the stamp of the current second. Two threads may both make a new one: either will do."""

    __slots__ = ("_cached", "_server")

    def __init__(self, server: bytes) -> None:
        """`server` is the value of the Server field, b"" for none."""
        self._server = server
        self._cached = (0, Stamp(b"", server))

    def stamp(self) -> Stamp:
        """The lines for now."""
        now = int(time.time())
        second, stamp = self._cached
        if second != now:
            stamp = Stamp(fixdate(now), self._server)
            self._cached = (now, stamp)
        return stamp


class Stall:
    """For how long something has stood still. Looked at now and then, so it costs nothing in between. One thread."""

    __slots__ = ("_mark", "_since")

    def __init__(self) -> None:
        self._mark: object = None
        self._since = 0.0

    def seconds(self, mark: object, now: float) -> float:
        """How long `mark`, which tells how far it has come, has been the same when looked at. `now` is monotonic."""
        if mark != self._mark:
            self._mark, self._since = mark, now
        return now - self._since

    def forget(self) -> None:
        """What comes next is a thing of its own."""
        self._mark = None


def fixdate(instant: float) -> bytes:
    """A Unix time as IMF-fixdate (RFC 9110 §5.6.7)."""
    t = time.gmtime(instant)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[t.tm_wday].encode(),
        t.tm_mday,
        _MONTHS[t.tm_mon - 1].encode(),
        t.tm_year,
        t.tm_hour,
        t.tm_min,
        t.tm_sec,
    )
