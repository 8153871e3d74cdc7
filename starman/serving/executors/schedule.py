"""Who has the interpreter: loop and threads take turns, unless the application blocks. Pure: instants are passed in.

With an application that computes, loop and threads fight for the GIL: whoever makes a system call loses it, and gets it back by
a wake-up of its own. So after the events of a poll are parsed, the loop wakes one thread and parks; the thread works the queue
down, one request after the other and nobody in its way, and unparks the loop. Requests that wait for something else than the
interpreter (a database, another service) need more threads than that one: when nothing is finished and nothing computed for a
while, all that are needed are woken, and for a time there is no parking, as in any pool; the longer, the oftener that is found.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

# All in seconds. A park is looked at once in a slice; one in which no request was finished means that threads are blocked, unless
# this part of it was computed: a request may be long, and another program may have had the CPU for a while.
SLICE: Final = 0.001
COMPUTING: Final = 0.25
# After so long a park with steady progress, the loop wants to look at its sockets; so long it waits for one request at most.
LONGEST_PARK: Final = 0.005
LONGEST_REQUEST: Final = 0.01
# After blocked threads were seen, the loop does not park for so long: twice as long each time, until a park has had progress.
SHORTEST_POOL: Final = 0.002
LONGEST_POOL: Final = 0.04


class Mode(Enum):
    """TURNS: one thread runs, the loop parks. POOL: each request wakes a thread, the loop goes on."""

    TURNS = auto()
    POOL = auto()


class Verdict(Enum):
    """What the loop does after a slice of its park."""

    WAIT = auto()  # progress, or work: park on
    ASK = auto()  # that, for long enough: have the thread stop after its request
    OPEN = auto()  # neither: the threads are blocked, wake what is needed, and do not park


class Schedule:
    """The policy of one worker. Loop only."""

    __slots__ = ("_computed", "_finished", "_looked_at", "_parked_at", "_pool_time", "_pool_until")

    def __init__(self) -> None:
        self._pool_time = SHORTEST_POOL
        self._pool_until = 0.0
        self._parked_at = self._looked_at = 0.0
        self._computed = 0.0
        self._finished = 0

    def mode(self, now: float) -> Mode:
        """How requests that are queued now are to be run. `now` is monotonic, here and below."""
        return Mode.POOL if now < self._pool_until else Mode.TURNS

    def parks(self, finished: int, computed: float, now: float) -> None:
        """The loop begins to park. `finished` counts all requests that were ever finished, `computed` the seconds of CPU that
        this process has ever used."""
        self._parked_at = self._looked_at = now
        self._computed = computed
        self._finished = finished

    def after_slice(self, finished: int, computed: float, now: float) -> Verdict:
        """The loop has parked for a slice, and nobody has unparked it."""
        progress = finished != self._finished
        works = computed - self._computed >= COMPUTING * (now - self._looked_at) and now - self._parked_at < LONGEST_REQUEST
        self._finished, self._computed, self._looked_at = finished, computed, now
        if not (progress or works):
            self._pool_until = now + self._pool_time
            self._pool_time = min(2 * self._pool_time, LONGEST_POOL)
            return Verdict.OPEN
        if progress:
            self._pool_time = SHORTEST_POOL
        return Verdict.ASK if now - self._parked_at >= LONGEST_PARK else Verdict.WAIT
