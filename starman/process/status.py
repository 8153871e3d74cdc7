"""The status of the server, and the observers to which the master shows it. No I/O of its own."""

from __future__ import annotations

from enum import Enum

from starman.process.value_class import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    class Observer(Protocol):
        """Receives the status of the server. The master's loop calls the methods; they must not block."""

        def on_status(self, server_status: ServerStatus, now: float) -> None:
            """Called in each round of the loop. `now` is monotonic."""

        def next_instant(self) -> float | None:
            """When to call `on_status` again even if nothing happens (monotonic); None: never."""

        def abandon(self) -> None:
            """Called in a fresh fork: close what was inherited, and do nothing else."""

        def close(self) -> None:
            """The server has ended."""


class Phase(Enum):
    """The life of the server."""

    STARTING = "starting"  # until all workers are ready for the first time; any failure ends it
    RUNNING = "running"
    STOPPING = "stopping"


class ServerStatus(Record):
    """The status of one server at one instant.

    phase: starting, running or stopping. restarting: whether a restart is replacing workers. ready: how many workers
    serve. wanted: how many should. alive_at: the latest instant at which the event loop of a serving worker was alive
    (monotonic); None: not known.
    """

    __slots__ = ("alive_at", "phase", "ready", "restarting", "wanted")

    def __init__(self, phase: Phase, *, restarting: bool, ready: int, wanted: int, alive_at: float | None = None) -> None:
        self.alive_at = alive_at
        self.phase = phase
        self.restarting = restarting
        self.ready = ready
        self.wanted = wanted

    def describe(self) -> str:
        """The status in a few words, for `systemctl status`."""
        if self.phase is Phase.STOPPING:
            return "stopping: requests that have begun are finished"
        prefix = "starting: " if self.phase is Phase.STARTING else "restarting: " if self.restarting else ""
        return f"{prefix}{self.ready} of {self.wanted} workers ready"


class Observers:
    """All observers of one master."""

    __slots__ = ("_observers",)

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = observers

    def on_status(self, server_status: ServerStatus, now: float) -> None:
        """Show `server_status` to all observers."""
        for observer in self._observers:
            observer.on_status(server_status, now)

    def next_instants(self) -> list[float]:
        """The instants at which observers need the status again even if nothing happens."""
        return [instant for observer in self._observers if (instant := observer.next_instant()) is not None]

    def abandon(self) -> None:
        """Call in a fresh fork: close what the observers have inherited."""
        for observer in self._observers:
            observer.abandon()

    def close(self) -> None:
        """Close all observers: the server has ended."""
        for observer in self._observers:
            observer.close()
