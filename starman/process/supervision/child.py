"""The children of a supervisor: workers and molds with their lives as data. Pure."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The life of a worker or mold, as its master knows it."""

    REQUESTED = "requested"  # a mold was told to fork it; it has not said its process id yet
    BOOTING = "booting"
    READY = "ready"  # a worker accepts connections, a mold can fork
    DRAINING = "draining"  # a worker finishes its requests, a retired mold is on its way out
    KILLED = "killed"  # SIGKILL was sent
    GONE = "gone"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.REQUESTED: frozenset({State.BOOTING, State.DRAINING, State.KILLED, State.GONE}),
    State.BOOTING: frozenset({State.READY, State.DRAINING, State.KILLED, State.GONE}),
    State.READY: frozenset({State.DRAINING, State.KILLED, State.GONE}),
    State.DRAINING: frozenset({State.KILLED, State.GONE}),
    State.KILLED: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class Child:
    """What workers and molds have in common.

    name: the name in the error log. number: identifies the child to supervisor and master; never used twice. generation: the
    roll-out whose code it runs. requested_at: when it was requested (instant). ready_at: when it became ready; None until then.
    deadline: when its present state has lasted too long; None: no limit. forked_by: the number of the mold that forks it; None:
    the master does. failure: why it cannot start or, for a mold, cannot go on (one line), and details; None: it has not failed.
    """

    __slots__ = ("deadline", "failure", "forked_by", "generation", "name", "number", "pid", "ready_at", "requested_at", "state")

    def __init__(self, name: str, number: int, generation: int, requested_at: float, deadline: float) -> None:
        self.name = name
        self.number = number
        self.generation = generation
        self.requested_at = requested_at
        self.deadline: float | None = deadline
        self.state = State.REQUESTED
        self.forked_by: int | None = None
        self.pid: int | None = None
        self.ready_at: float | None = None
        self.failure: tuple[str, str] | None = None

    def set_state(self, state: State, deadline: float | None = None) -> None:
        """Enter `state` until `deadline`. Raises ValueError when the table of transitions does not allow it."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self.log_name()} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.deadline = deadline

    @property
    def starting(self) -> bool:
        """Whether it is still to become ready."""
        return self.state in (State.REQUESTED, State.BOOTING)

    @property
    def ready(self) -> bool:
        """Whether it can do its work."""
        return self.state is State.READY

    @property
    def ending(self) -> bool:
        """Whether its end has been ordered, or has begun."""
        return self.state in (State.DRAINING, State.KILLED, State.GONE)

    def seconds_ready(self, now: float) -> float:
        """Seconds since it became ready; -1 when it never did."""
        return -1.0 if self.ready_at is None else now - self.ready_at

    def exit_reason(self, how: str) -> tuple[str, str]:
        """Why it has ended, in a line, and details. `how` completes a sentence, and counts when it did not say itself why."""
        if self.failure is not None:
            verb = "could not start" if self.ready_at is None else "has failed"
            return f"{self.log_name()} {verb}: {self.failure[0]}", self.failure[1]
        return f"{self.log_name()} {how}{' before it was ready' if self.ready_at is None else ''}", ""

    def log_name(self) -> str:
        """How the error log calls it: by its name, and its process id once that is known."""
        return self.name if self.pid is None else f"{self.name} ({self.pid})"


class Worker(Child):
    """A worker.

    slot: the number of its slot, from 1. spent: whether another is to take its place. beat: the instant at which its loop was
    last known to be alive; None when nobody watches it. silent: whether that was too long ago, so that it will be killed.
    excused_until: the instant until which its present silence counts as the machine's; None when nobody has excused it.
    """

    __slots__ = ("alive_at", "excused_until", "silent", "slot", "to_replace")

    def __init__(self, number: int, generation: int, slot: int, requested_at: float, deadline: float) -> None:
        super().__init__(f"worker {slot}", number, generation, requested_at, deadline)
        self.slot = slot
        self.to_replace = False
        self.alive_at: float | None = None
        self.excused_until: float | None = None
        self.silent = False


class Mold(Child):
    """A mold: the pristine one, or one that has loaded the application for its generation."""

    __slots__ = ()

    def __init__(self, number: int, generation: int, requested_at: float, deadline: float) -> None:
        super().__init__("the mold", number, generation, requested_at, deadline)
