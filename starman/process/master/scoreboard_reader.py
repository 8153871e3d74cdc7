"""Reads from the scoreboard what the master needs to know about its workers: beats, requests, counts. Decides nothing.

The format, and the writing side, are in `process/scoreboard.py`.
"""

from __future__ import annotations

import time

from starman.log.in_flight import while_serving
from starman.process.scoreboard import Scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.master.link import Link
    from starman.process.master.links import Links
    from starman.process.scoreboard import WorkerEntry


class ScoreboardReader:
    """Reads the places of the workers that have a link, and gives places to new workers. Only the master's loop
    calls."""

    __slots__ = ("_heartbeats", "_links", "_scoreboard")

    def __init__(self, scoreboard: Scoreboard, links: Links) -> None:
        self._scoreboard = scoreboard
        self._links = links
        # The last possible beat of each worker, by the worker's number.
        self._heartbeats: dict[int, float] = {}

    def assign_page(self, number: int) -> int:
        """Give a page to the worker `number`, which is about to be forked. Returns the page; 0 if none is free.

        The page becomes free again when the worker's link is removed.
        """
        link = self._links.find_link(number)
        assert link is not None
        link.page = self._scoreboard.assign_page({other.page for other in self._links})
        return link.page

    def read_heartbeats(self) -> dict[int, float]:
        """The monotonic instant at which the loop of each worker was last alive, by number. Only workers that have a
        page.

        An impossible beat (in the future, before the last one, or not a number) is ignored. The application can write
        to the worker's page, and must not be able to switch off the watchdog.
        """
        found = {}
        for link in self._links:
            if link.page:
                beat, last = self._scoreboard.heartbeat(link.page), self._heartbeats.get(link.number, 0.0)
                found[link.number] = beat if last <= beat <= time.monotonic() else last
        self._heartbeats = found
        return found

    def describe_requests(self, link: Link | None, now: float) -> str:
        """The requests that the worker of `link` is serving, or was serving when it died; None: those of all workers.

        Completes a sentence: " while serving GET /x (for 2.1 s)"; "" for no requests. A draining worker has also
        counted the requests that no thread runs: " and 2 more".
        """
        entries = self._entries() if link is None else [self._scoreboard.read_page(link.page)]
        requests, others = [], 0
        for entry in entries:
            if entry is not None:
                requests += [(request.line, request.since) for request in entry.requests]
                others += max(0, _in_flight(entry) - len(entry.requests))
        return while_serving(requests, now, others)

    def count_in_flight(self) -> int:
        """The number of requests in flight in all workers. For a worker that has not counted: the requests that
        threads run."""
        return sum(map(_in_flight, self._entries()))

    def all_have_counted(self) -> bool:
        """Whether every worker that became ready has counted its requests, which a worker does when it begins to
        drain."""
        return all(entry.in_flight is not None for entry in self._entries())

    def _entries(self) -> list[WorkerEntry]:
        return [entry for link in self._links if (entry := self._scoreboard.read_page(link.page)) is not None]


def _in_flight(entry: WorkerEntry) -> int:
    return len(entry.requests) if entry.in_flight is None else entry.in_flight
