"""Decides when the loop parks while a thread runs requests: loop and threads take turns, unless the application
blocks.

If the application computes, the loop and the threads compete for the GIL: a system call releases it, and getting it
back takes a wake-up. So when the events of a poll are parsed, the loop wakes one thread and parks. The thread runs the
queued requests one after the other, without competition, and unparks the loop. Requests that wait for something else
than the interpreter (a database, another service) need more threads: when nothing has finished and nothing was
computed for a while, the loop wakes as many threads as there are requests, and does not park for a time, like an
ordinary pool. The time doubles with each such park.

Pure: instants are passed in.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

# In seconds. The loop checks a park once in each slice. A slice in which no request has ended means that the
# threads are blocked, unless this share of the slice was computed: a request may be long, and another program may have
# had the CPU.
SLICE: Final = 0.001
COMPUTING: Final = 0.25
# The longest park with steady progress: then the loop has to poll its sockets. The longest wait for a single request.
LONGEST_PARK: Final = 0.005
LONGEST_REQUEST: Final = 0.01
# How long the loop does not park after it has found blocked threads: twice as long each time, until a park makes
# progress.
SHORTEST_POOL: Final = 0.002
LONGEST_POOL: Final = 0.04


class Mode(Enum):
    """TURNS: one thread runs, the loop parks. POOL: each request wakes a thread, the loop goes on."""

    TURNS = auto()
    POOL = auto()


class Verdict(Enum):
    """What the loop does after a slice of a park."""

    WAIT = auto()  # a request has finished, or the application computes: park on
    ASK = auto()  # the same, for long enough: have the thread stop after its request
    OPEN = auto()  # neither: the threads are blocked; wake as many as needed, and do not park


class Schedule:
    """The policy of one worker. Loop only."""

    __slots__ = ("_checked_at", "_computed", "_ended_at", "_parked_at", "_pool_time", "_pool_until")

    def __init__(self) -> None:
        self._pool_time = SHORTEST_POOL
        self._pool_until = 0.0
        self._parked_at = self._checked_at = 0.0
        self._computed = 0.0
        self._ended_at = 0.0

    def mode(self, now: float) -> Mode:
        """How to run the requests that are queued now. `now` is monotonic, here and below."""
        return Mode.POOL if now < self._pool_until else Mode.TURNS

    def parks(self, ended_at: float, computed: float, now: float) -> None:
        """The loop begins to park.

        `ended_at`: when a thread has last ended a request, monotonic. `computed`: the CPU time (seconds) of this
        process.
        """
        self._parked_at = self._checked_at = now
        self._computed = computed
        self._ended_at = ended_at

    def after_slice(self, ended_at: float, computed: float, now: float) -> Verdict:
        """The loop has parked for a slice without being unparked."""
        progress = ended_at != self._ended_at
        works = computed - self._computed >= COMPUTING * (now - self._checked_at) and now - self._parked_at < LONGEST_REQUEST
        self._ended_at, self._computed, self._checked_at = ended_at, computed, now
        if not (progress or works):
            self._pool_until = now + self._pool_time
            self._pool_time = min(2 * self._pool_time, LONGEST_POOL)
            return Verdict.OPEN
        if progress:
            self._pool_time = SHORTEST_POOL
        return Verdict.ASK if now - self._parked_at >= LONGEST_PARK else Verdict.WAIT
