"""Makes the Date and Server lines of responses, once a second. Any thread."""

from __future__ import annotations

import time
from typing import Final

from starman.proto.response import DateLines

# RFC 9110 §5.6.7: IMF-fixdate is English in every locale, so the %a and %b of strftime cannot be used.
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class DateLinesCache:
    """Keeps the Date and Server lines of the current second. Any thread.

    There is no lock: two threads may both make the lines of a new second, and either result is right. After the
    system's clock is set, the lines are right again within a second.
    """

    __slots__ = ("_cached", "_server")

    def __init__(self, server: str) -> None:
        """`server` is the value of the Server field, in latin-1; "" means no Server field."""
        self._server = server
        self._cached = (0.0, DateLines("", server))

    def lines_at(self, now: float) -> DateLines:
        """Return the lines for the current second. `now` is monotonic."""
        until, date_lines = self._cached
        if now >= until:
            unix_time = time.time()
            date_lines = DateLines(fixdate(unix_time), self._server)
            self._cached = (now + 1 - unix_time % 1, date_lines)
        return date_lines


def fixdate(instant: float) -> str:
    """Return a Unix time as IMF-fixdate (RFC 9110 §5.6.7)."""
    t = time.gmtime(instant)
    day, month = _DAYS[t.tm_wday], MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02} {month} {t.tm_year:04} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} GMT"
