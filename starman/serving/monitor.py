"""The monitor: what a service tells whoever looks after its process. A protocol only: the real one is in the process room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

# How a thread notes what it runs: a call with (since, method, target) before, and 0 in the first byte of the buffer after.
Line = tuple[Callable[[float, bytes, bytes], object], memoryview]


class Monitor(Protocol):
    """Looks after one worker. A service without one (`serve`) is looked after by nobody."""

    def line(self, thread: int) -> Line | None:
        """Where the thread of that number, from 0, notes the requests that it runs; None: nowhere. Loop, before it starts."""

    def tick(self, finished: int, connections: int, busy: int) -> None:
        """The loop is alive: so many requests are finished, connections open, threads awake. Loop, twice a second."""

    def in_flight(self, requests: int) -> None:
        """The service drains, and so many requests are in flight. Loop, and several times a second while it drains."""

    def note(self, connections: int, *, crowded: bool) -> None:
        """Let the siblings on the same listeners know how many connections this one has, and whether it is crowded. Loop."""

    def fewest(self) -> int | None:
        """How many connections that sibling has that has fewest, of those that accept and are not crowded; None: none. Loop."""

    def alone(self) -> bool:
        """Whether no sibling accepts on the same listeners. Loop."""

    def give_up(self, reason: str) -> None:
        """The loop cannot go on as it should: have another process take the place of this one, and begin to drain. `reason`
        completes "it is replaced: ...". Loop."""

    def harakiri(self) -> None:
        """The application wishes that this process ends, and nothing is accepted any more: drain soon. Loop."""


def nowhere() -> Line:
    """The line of a thread that nobody looks at."""
    return _nothing, memoryview(bytearray(1))


def _nothing(since: float, method: bytes, target: bytes) -> None:
    pass
