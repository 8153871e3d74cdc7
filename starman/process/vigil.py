"""The vigil: what the master learns of its workers from the scoreboard, by link. Decides nothing."""

from __future__ import annotations

from starman.process.scoreboard import Scoreboard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.links import Link, Links

# How many requests a line of the log names.
_MOST_NAMED = 8


class Vigil:
    """The master's eye on the scoreboard. Its loop alone calls."""

    __slots__ = ("_links", "_scoreboard")

    def __init__(self, scoreboard: Scoreboard, links: Links) -> None:
        self._scoreboard = scoreboard
        self._links = links

    def assign(self, number: int) -> int:
        """Give the worker `number`, which is about to be forked, a place until its link goes; 0 when there is none left."""
        link = self._links.find(number)
        assert link is not None
        link.place = self._scoreboard.assign({other.place for other in self._links})
        return link.place

    def beats(self) -> dict[int, float]:
        """When the loop of each worker that has a place was last alive, by the worker's number."""
        return {link.number: self._scoreboard.beat(link.place) for link in self._links if link.place}

    def serving(self, link: Link, now: float) -> str:
        """What a worker is serving, or was when it died: " while serving GET /x (for 2.1 s)"; "" for nothing."""
        glance = self._scoreboard.read(link.place)
        if glance is None or not glance.requests:
            return ""
        named = [f"{request.line} (for {now - request.since:.1f} s)" for request in glance.requests[:_MOST_NAMED]]
        more = len(glance.requests) - len(named)
        return f" while serving {', '.join(named)}{f' and {more} more' if more else ''}"
