"""Formats the times of the access log: once a second, in English whatever the locale. Any thread.

There is no lock: two threads may both make the text of a new second, and either result is right.
"""

from __future__ import annotations

import time

from starman.serving.dates import MONTHS


class CommonTime:
    """Local time as in the Common Log Format: `22/Nov/2026:16:52:06 +0000`."""

    __slots__ = ("_cached",)

    def __init__(self) -> None:
        self._cached = (-2, "")  # -2: no text yet

    def at(self, unix_time: float) -> str:
        """The text of a Unix time."""
        second, text = self._cached
        if not 0 <= unix_time - second < 1:
            second = int(unix_time)
            t = time.localtime(second)
            hours, minutes = divmod(abs(t.tm_gmtoff) // 60, 60)
            sign = "-" if t.tm_gmtoff < 0 else "+"
            text = f"{t.tm_mday:02d}/{MONTHS[t.tm_mon - 1]}/{t.tm_year}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
            text = f"{text} {sign}{hours:02d}{minutes:02d}"
            self._cached = (second, text)
        return text


class InternetTime:
    """UTC as in RFC 3339, to the microsecond: `2026-11-22T16:52:06.001234Z`."""

    __slots__ = ("_cached",)

    def __init__(self) -> None:
        self._cached = (-2, "")  # -2: no text yet

    def at(self, unix_time: float) -> str:
        """The text of a Unix time."""
        second, text = self._cached
        fraction = unix_time - second
        if not 0 <= fraction < 1:
            second = int(unix_time)
            fraction = unix_time - second
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._cached = (second, text)
        return f"{text}.{int(fraction * 1_000_000):06d}Z"
