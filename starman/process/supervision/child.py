"""The children of a supervisor: workers and molds with their lives as data. Pure."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The life of a worker or mold, as its master knows it."""

    ASKED = "asked"  # a mold was told to fork it; it has not said its process id yet
    BOOTING = "booting"
    READY = "ready"  # a worker accepts connections, a mold can fork
    DRAINING = "draining"  # a worker finishes its requests, a retired mold is on its way out
    CUT = "cut"  # SIGKILL was sent
    GONE = "gone"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.ASKED: frozenset({State.BOOTING, State.DRAINING, State.CUT, State.GONE}),
    State.BOOTING: frozenset({State.READY, State.DRAINING, State.CUT, State.GONE}),
    State.READY: frozenset({State.DRAINING, State.CUT, State.GONE}),
    State.DRAINING: frozenset({State.CUT, State.GONE}),
    State.CUT: frozenset({State.GONE}),
    State.GONE: frozenset(),
}


class Child:
    """What workers and molds have in common.

    name: what the error log calls it. number: how supervisor and master call it; never used twice. generation: the roll-out whose
    code it runs. asked_at, ready_at: instants; ready_at is None until it was ready. deadline: the instant at which its present
    state has lasted too long; None for no limit. failure: why it cannot start, or (a mold) cannot go on, and details; None as
    long as it can. origin: the number of the mold that forks it; None when the master does.
    """

    __slots__ = ("asked_at", "deadline", "failure", "generation", "name", "number", "origin", "pid", "ready_at", "state")

    def __init__(self, name: str, number: int, generation: int, asked_at: float, deadline: float) -> None:
        self.name = name
        self.number = number
        self.generation = generation
        self.asked_at = asked_at
        self.deadline: float | None = deadline
        self.state = State.ASKED
        self.origin: int | None = None
        self.pid: int | None = None
        self.ready_at: float | None = None
        self.failure: tuple[str, str] | None = None

    def move(self, state: State, deadline: float | None = None) -> None:
        """Enter `state` until `deadline`. Raises ValueError when the table of transitions does not allow it."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self.title()} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.deadline = deadline

    @property
    def starting(self) -> bool:
        """Whether it is still to become ready."""
        return self.state in (State.ASKED, State.BOOTING)

    @property
    def ready(self) -> bool:
        """Whether it can do its work."""
        return self.state is State.READY

    @property
    def ending(self) -> bool:
        """Whether its end has been ordered, or has begun."""
        return self.state in (State.DRAINING, State.CUT, State.GONE)

    def lived(self, now: float) -> float:
        """Seconds since it became ready; -1 when it never did."""
        return -1.0 if self.ready_at is None else now - self.ready_at

    def reason(self, how: str) -> tuple[str, str]:
        """Why it has ended, in a line, and details. `how` completes a sentence, and counts when it did not say itself why."""
        if self.failure is not None:
            verb = "could not start" if self.ready_at is None else "has failed"
            return f"{self.title()} {verb}: {self.failure[0]}", self.failure[1]
        return f"{self.title()} {how}{' before it was ready' if self.ready_at is None else ''}", ""

    def title(self) -> str:
        """How the error log calls it: by its name, and its process id once that is known."""
        return self.name if self.pid is None else f"{self.name} ({self.pid})"


class Worker(Child):
    """A worker.

    slot: the number of its slot, from 1. spent: whether another is to take its place. beat: the instant at which its loop was
    last known to be alive; None when nobody watches it. silent: whether that was too long ago, so that it will be killed.
    excused_until: the instant until which its present silence counts as the machine's; None when nobody has excused it.
    """

    __slots__ = ("beat", "excused_until", "silent", "slot", "spent")

    def __init__(self, number: int, generation: int, slot: int, asked_at: float, deadline: float) -> None:
        super().__init__(f"worker {slot}", number, generation, asked_at, deadline)
        self.slot = slot
        self.spent = False
        self.beat: float | None = None
        self.excused_until: float | None = None
        self.silent = False


class Mold(Child):
    """A mold: the pristine one, or one that has loaded the application for its generation."""

    __slots__ = ()

    def __init__(self, number: int, generation: int, asked_at: float, deadline: float) -> None:
        super().__init__("the mold", number, generation, asked_at, deadline)
