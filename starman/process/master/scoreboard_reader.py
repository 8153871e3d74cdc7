"""The reader: what the master learns of its workers from the scoreboard, by link. Decides nothing."""

from __future__ import annotations

import time

from starman.log.in_flight import while_serving
from starman.process.scoreboard import Scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.master.links import Link, Links
    from starman.process.scoreboard import Glance


class ScoreboardReader:
    """The master's eye on the scoreboard. Its loop alone calls."""

    __slots__ = ("_beats", "_links", "_scoreboard")

    def __init__(self, scoreboard: Scoreboard, links: Links) -> None:
        self._scoreboard = scoreboard
        self._links = links
        # The last beats that can be, by the worker's number.
        self._beats: dict[int, float] = {}

    def assign_place(self, number: int) -> int:
        """Give the worker `number`, which is about to be forked, a place until its link goes; 0 when there is none left."""
        link = self._links.find_link(number)
        assert link is not None
        link.place = self._scoreboard.assign({other.place for other in self._links})
        return link.place

    def read_beats(self) -> dict[int, float]:
        """When the loop of each worker that has a place was last alive, by the worker's number.

        An impossible beat (in the future, before the last one, or not a number) is ignored: an application can write to the
        page, and must not keep the master from watching its worker.
        """
        found = {}
        for link in self._links:
            if link.place:
                beat, last = self._scoreboard.beat(link.place), self._beats.get(link.number, 0.0)
                found[link.number] = beat if last <= beat <= time.monotonic() else last
        self._beats = found
        return found

    def describe_requests(self, link: Link | None, now: float) -> str:
        """What a worker, or all workers together (None), are serving, or a worker was when it died: " while serving GET /x (for
        2.1 s)"; "" for nothing. Those that drain have also counted the requests that no thread runs: " and 2 more"."""
        glances = self._glances() if link is None else [self._scoreboard.read(link.place)]
        requests, others = [], 0
        for glance in glances:
            if glance is not None:
                requests += [(request.line, request.since) for request in glance.requests]
                others += max(0, _in_flight(glance) - len(glance.requests))
        return while_serving(requests, now, others)

    def count_in_flight(self) -> int:
        """How many requests all workers have in flight. Of a worker that has not counted: how many its threads run."""
        return sum(map(_in_flight, self._glances()))

    def all_have_counted(self) -> bool:
        """Whether no worker that was ready has still to count its requests."""
        return all(glance.in_flight is not None for glance in self._glances())

    def _glances(self) -> list[Glance]:
        return [glance for link in self._links if (glance := self._scoreboard.read(link.place)) is not None]


def _in_flight(glance: Glance) -> int:
    return len(glance.requests) if glance.in_flight is None else glance.in_flight
