"""The vigil: what the master learns of its workers from the scoreboard, by link. Decides nothing."""

from __future__ import annotations

import time

from starman.inflight import named
from starman.process.scoreboard import Scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.links import Link, Links


class Vigil:
    """The master's eye on the scoreboard. Its loop alone calls."""

    __slots__ = ("_beats", "_links", "_scoreboard")

    def __init__(self, scoreboard: Scoreboard, links: Links) -> None:
        self._scoreboard = scoreboard
        self._links = links
        # The last beats that can be, by the worker's number.
        self._beats: dict[int, float] = {}

    def assign(self, number: int) -> int:
        """Give the worker `number`, which is about to be forked, a place until its link goes; 0 when there is none left."""
        link = self._links.find(number)
        assert link is not None
        link.place = self._scoreboard.assign({other.place for other in self._links})
        return link.place

    def beats(self) -> dict[int, float]:
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

    def serving(self, link: Link, now: float) -> str:
        """What a worker is serving, or was when it died: " while serving GET /x (for 2.1 s)"; "" for nothing."""
        return named(self._requests(link), now)

    def all_requests(self) -> list[tuple[str, float]]:
        """The requests that all workers run now, as `named` takes them."""
        return [request for link in self._links for request in self._requests(link)]

    def _requests(self, link: Link) -> list[tuple[str, float]]:
        glance = self._scoreboard.read(link.place)
        return [] if glance is None else [(request.line, request.since) for request in glance.requests]
