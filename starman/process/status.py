"""What the master shows of itself, and to whom: its observers. Decides nothing; no I/O of its own."""

from __future__ import annotations

from enum import Enum

from starman.process.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Observer(Protocol):
        """Somebody who is told how the server is. The master's loop calls, and must not wait."""

        def see(self, server_status: ServerStatus, now: float) -> None:
            """Called in each round of the loop; `now` is monotonic."""

        def next_instant(self) -> float | None:
            """When `see` has to be called again even if nothing happens, monotonic; None for never."""

        def abandon(self) -> None:
            """In a fresh fork: close what was inherited, and do nothing else."""

        def close(self) -> None:
            """The server has ended."""


class Phase(Enum):
    """The life of the server."""

    STARTING = "starting"  # until all workers are ready for the first time; any failure ends it
    RUNNING = "running"
    STOPPING = "stopping"


class ServerStatus(Record):
    """One server at one instant.

    phase: starting, running or stopping. restarting: whether workers are being replaced by a restart.
    ready: workers that serve. wanted: how many there should be.
    alive_at: when the loop of one of those that serve was last alive (monotonic); None: nobody can tell.
    """

    __slots__ = ("alive_at", "phase", "ready", "restarting", "wanted")

    def __init__(self, phase: Phase, *, restarting: bool, ready: int, wanted: int, alive_at: float | None = None) -> None:
        self.alive_at = alive_at
        self.phase = phase
        self.restarting = restarting
        self.ready = ready
        self.wanted = wanted

    def words(self) -> str:
        """The same in a few words, for people."""
        if self.phase is Phase.STOPPING:
            return "stopping: requests that have begun are finished"
        prefix = "starting: " if self.phase is Phase.STARTING else "restarting: " if self.restarting else ""
        return f"{prefix}{self.ready} of {self.wanted} workers ready"


class Observers:
    """All observers of one master, as one."""

    __slots__ = ("_observers",)

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def see(self, server_status: ServerStatus, now: float) -> None:
        """Show them `server_status`."""
        for observer in self._observers:
            observer.see(server_status, now)

    def instants(self) -> list[float]:
        """When they want to see the server again, whether something happens or not."""
        return [instant for observer in self._observers if (instant := observer.next_instant()) is not None]

    def abandon(self) -> None:
        """In a fresh fork."""
        for observer in self._observers:
            observer.abandon()

    def close(self) -> None:
        """At the end."""
        for observer in self._observers:
            observer.close()
