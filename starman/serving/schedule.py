"""Who has the interpreter: loop and threads take turns, unless the application blocks. Pure: instants are passed in.

With an application that computes, loop and threads fight for the GIL: whoever makes a system call loses it, and gets it back by
a wake-up of its own. So after the events of a poll are parsed, the loop wakes one thread and parks; the thread works the queue
down, one request after the other and nobody in its way, and unparks the loop. Requests that wait for something else than the
interpreter (a database, another service) need more threads than that one: when nothing is finished for a while, all that are
needed are woken, and for a time there is no parking, as in any pool.
"""

from __future__ import annotations

from enum import Enum, auto

# All in seconds. A park is looked at once in a slice; one in which no request was finished means that threads are blocked.
SLICE = 0.001
# After so long a park with steady progress, the loop wants to look at its sockets.
LONGEST_PARK = 0.005
# After blocked threads were seen, the loop does not park for so long.
POOL_TIME = 0.02
# How many polls may bring requests or connections before the loop parks all the same.
MOST_POLLS = 1


class Mode(Enum):
    """TURNS: one thread runs, the loop parks. POOL: each request wakes a thread, the loop goes on."""

    TURNS = auto()
    POOL = auto()


class Verdict(Enum):
    """What the loop does after a slice of its park."""

    WAIT = auto()  # progress: park on
    ASK = auto()  # progress, for long enough: have the thread stop after its request
    OPEN = auto()  # none: the threads are blocked, wake what is needed, and do not park


class Schedule:
    """The policy of one worker. Loop only."""

    __slots__ = ("_finished", "_parked_at", "_pool_until")

    def __init__(self) -> None:
        self._pool_until = 0.0
        self._parked_at = 0.0
        self._finished = 0

    def mode(self, now: float) -> Mode:
        """How requests that are queued now are to be run. `now` is monotonic, here and below."""
        return Mode.POOL if now < self._pool_until else Mode.TURNS

    def parks(self, finished: int, now: float) -> None:
        """The loop begins to park. `finished` counts all requests that were ever finished."""
        self._parked_at = now
        self._finished = finished

    def after_slice(self, finished: int, now: float) -> Verdict:
        """The loop has parked for a slice, and nobody has unparked it."""
        if finished == self._finished:
            self._pool_until = now + POOL_TIME
            return Verdict.OPEN
        self._finished = finished
        return Verdict.ASK if now - self._parked_at >= LONGEST_PARK else Verdict.WAIT
