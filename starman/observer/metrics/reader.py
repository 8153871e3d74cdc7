"""Observes everything that the metrics need at one moment, and writes them in the format that a client accepts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starman.observer.metrics.exposition import choose_format, encode
from starman.observer.metrics.listen_backlog import read_backlogs
from starman.observer.metrics.samples import Observed, make_families
from starman.process.metrics_memory import RegionEntry, read_region
from starman.process.scoreboard import read_entry_of, region_of, used_pages

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from starman.observer.metrics.listen_backlog import Watched


class MetricsReader:
    """Reads the metrics of one server. Any thread, one at a time."""

    __slots__ = ("_board", "_scraped_at", "_watched")

    def __init__(self, board: memoryview, watched: Sequence[Watched]) -> None:
        """`board`: a map of the whole scoreboard. `watched`: the listeners of the service."""
        self._board = board
        self._watched = watched
        self._scraped_at = 0.0

    def read_regions(self) -> list[tuple[RegionEntry, int]]:
        """The regions of all pages that were ever used, each with the process id of its last worker."""
        found = []
        for number in range(1, used_pages(self._board) + 1):
            entry = read_entry_of(self._board, number)
            found.append((read_region(region_of(self._board, number)), 0 if entry is None else entry.pid))
        return found

    def read_backlog(self) -> int | None:
        """How many connections wait to be accepted, at all listeners; None: the system does not say."""
        waiting = [count for _, count, _ in read_backlogs(self._watched)]
        return sum(waiting) if waiting else None

    def scrape(self, status: dict[str, Any], accept: str) -> tuple[bytes, str]:
        """The text of all metrics with this status document, and its media type, which the field `accept` chooses."""
        media_type = choose_format(accept)
        since, self._scraped_at = self._scraped_at, time.monotonic()
        observed = Observed(status, self.read_regions(), read_backlogs(self._watched), since)
        return encode(make_families(observed), media_type), media_type
