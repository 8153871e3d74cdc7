"""The vigil: what the master learns of its workers from the scoreboard, by link. Decides nothing."""

from __future__ import annotations

import math
import time

from starman.process.scoreboard import Scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.links import Link, Links

# How many requests a line of the log names.
_MOST_NAMED = 8


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

        A beat that cannot be, because it is in the future, before the last one, or no number, is ignored: an application can
        write there, and must not keep its worker from being watched.
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
        glance = self._scoreboard.read(link.place)
        if glance is None or not glance.requests:
            return ""
        named = [f"{request.line} (for {_age(request.since, now)})" for request in glance.requests[:_MOST_NAMED]]
        more = len(glance.requests) - len(named)
        return f" while serving {', '.join(named)}{f' and {more} more' if more else ''}"


def _age(since: float, now: float) -> str:
    """How long a request runs, as the worker has noted it."""
    age = now - since
    return f"{max(0.0, age):.1f} s" if math.isfinite(age) else "an unknown time"
