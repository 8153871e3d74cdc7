"""Decides when changed files have settled, so that a burst of saves is one reload. Pure: no I/O, no clock."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# The files have settled when none has changed for this long (seconds). An editor that writes a file in several steps
# needs a few milliseconds.
QUIET = 0.05
# Files that do not stop changing count as settled after this long (seconds): one of them may be a log.
LONGEST = 2.0


class Debounce:
    """Collects changes until no file has changed for QUIET seconds. Every instant is monotonic, in seconds.

    Each change is returned by exactly one `take`.
    """

    __slots__ = ("_changed", "_first", "_last")

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._first = self._last = 0.0

    @property
    def settling(self) -> bool:
        """Whether there are changes that `take` has not returned."""
        return bool(self._changed)

    @property
    def settled_at(self) -> float | None:
        """The instant at which `take` returns the changes, if no others come; None without changes."""
        return min(self._last + QUIET, self._first + LONGEST) if self._changed else None

    def add_changes(self, paths: Iterable[str], now: float) -> bool:
        """Note that these files have changed. Returns whether they begin a burst."""
        begins = not self._changed
        new = dict.fromkeys(paths)
        if not new:
            return False
        self._changed.update(new)
        self._last = now
        if begins:
            self._first = now
        return begins

    def take(self, now: float) -> list[str]:
        """The changed files in the order of their first change, once they have settled; else an empty list."""
        if self.settled_at is None or now < self.settled_at:
            return []
        changed, self._changed = list(self._changed), {}
        return changed
