"""The observer process: when it is started, replaced and killed. Pure: no I/O, no clock.

It is started when it is first needed: when a client connects to the control socket, or at once if it also has other
work (`always`). It ends by itself when nothing has been asked of it for a while. No other part of the server depends
on it.
"""

from __future__ import annotations

from enum import Enum

from starman.process.supervision.backoff import PROVEN, Backoff

# How long (seconds) it may take to start.
START_SECONDS = 20.0
# It reports every ALIVE_SECONDS that its loop runs. It is killed when it has been silent for so long (seconds).
ALIVE_SECONDS = 5.0
SILENT_SECONDS = 15.0
# How long (seconds) to wait for a mold that can fork it, before the master forks it itself.
MOLD_SECONDS = 2.0


class Step(Enum):
    """What to do next about the observer. SPAWN: have the pristine mold fork it. FORK: fork it from the master."""

    NOTHING = "nothing"
    SPAWN = "spawn"
    FORK = "fork"
    KILL = "kill"


class ObserverLife:
    """The life of the observer process, one after the other."""

    __slots__ = (
        *("_backoff", "_deadline", "_failure", "_killed", "_leaving", "_loaded", "_requested_at", "_running", "_wanted_at"),
        *("always", "loaded_count"),
    )

    def __init__(self, *, always: bool) -> None:
        """`always`: whether an observer is to run even if no client has connected."""
        self.always = always
        # How many have been ready for work, the one that runs included.
        self.loaded_count = 0
        self._backoff = Backoff()
        # The instant since which an observer is wanted and does not run; None: it runs, or is not wanted.
        self._wanted_at: float | None = None
        self._running = False
        self._loaded = False
        self._killed = self._leaving = False
        self._failure = ""
        self._requested_at = 0.0
        # The instant at which the observer that runs is killed unless it reports before.
        self._deadline = 0.0

    @property
    def waits_for_clients(self) -> bool:
        """Whether the master is to watch the control socket: no observer runs, and none is about to."""
        return not self._running and self._wanted_at is None

    @property
    def running(self) -> bool:
        """Whether there is an observer process, or one was ordered."""
        return self._running

    def on_client(self, now: float) -> None:
        """A client has connected to the control socket, and waits there."""
        if self.waits_for_clients:
            self._wanted_at = now

    def on_message(self, now: float) -> None:
        """The observer has sent a message, so its loop runs."""
        if self._running and not self._killed:
            self._deadline = now + SILENT_SECONDS

    def on_loaded(self) -> None:
        """The observer accepts connections."""
        self._loaded = True
        self.loaded_count += 1
        self._backoff.succeeded()

    def on_failed(self, reason: str) -> None:
        """The observer reports why it cannot go on. It exits next."""
        self._failure = reason

    def on_leaving(self) -> None:
        """The observer is idle, and exits next."""
        self._leaving = True

    def on_gone(self, how: str, now: float) -> str | None:
        """The observer has ended; `how` completes a sentence. Returns a line for the log; None: it was idle."""
        failure, self._failure = self._failure, ""
        idle = self._leaving and not self._killed
        if self._loaded and now - self._requested_at >= PROVEN:
            self._backoff.reset()
        elif not idle:
            self._backoff.failed(self._requested_at, now)
        self._running = self._loaded = self._killed = self._leaving = False
        self._wanted_at = now if self.always else None
        if idle:
            return None
        wait = max(0.0, self._backoff.not_before - now)
        when = "when it is needed" if not self.always else f"in {wait:.1f} s" if wait else "now"
        return f"the observer {f'has failed: {failure}' if failure else how}; it is started again {when}"

    def plan(self, now: float, *, mold: bool, stopping: bool) -> Step:
        """What to do now. `mold`: whether the pristine mold can fork. `stopping`: whether the server stops, which
        leaves no mold."""
        if self._running:
            if self._deadline <= now and not self._killed:
                self._killed = True
                return Step.KILL
            return Step.NOTHING
        if self._wanted_at is None:
            if not self.always or stopping:
                return Step.NOTHING
            self._wanted_at = now
        if not self._backoff.allows(now, 0):
            return Step.NOTHING
        if mold or stopping or now >= self._wanted_at + MOLD_SECONDS:
            self._wanted_at = None
            self._running, self._requested_at, self._deadline = True, now, now + START_SECONDS
            return Step.SPAWN if mold else Step.FORK
        return Step.NOTHING

    def next_instant(self, now: float) -> float | None:
        """When to plan again even if nothing happens (monotonic); None: never."""
        if self._running:
            return None if self._killed else self._deadline
        if self._wanted_at is None:
            return None
        instants = (self._backoff.not_before, self._wanted_at + MOLD_SECONDS)
        return min((instant for instant in instants if instant > now), default=now)
