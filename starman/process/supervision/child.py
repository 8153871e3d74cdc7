"""The children of a supervisor: workers and molds, with their life cycles as data. Pure."""

from __future__ import annotations

from enum import Enum


class State(Enum):
    """The life cycle of a worker or mold, as the master sees it."""

    REQUESTED = "requested"  # its mold is to fork it; the process id is not known yet
    BOOTING = "booting"
    READY = "ready"  # a worker accepts connections; a mold can fork
    DRAINING = "draining"  # a worker finishes its requests; a retired mold exits
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

    name: the name in the error log. number: identifies the child to supervisor and master; never used twice.
    generation: the code and settings that it runs. requested_at: when it was requested (instant). ready_at: when it
    became ready; None until then. deadline: when its present state has lasted too long; None: no limit. forked_by: the
    number of the mold that forks it; None: the master does. failure: why it cannot start or, for a mold, cannot go on
    (one line), and details; None: it has not failed.
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
        """Enter `state`, until `deadline` at most. Raises ValueError for a transition that TRANSITIONS does not
        allow."""
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"{self.log_name()} cannot go from {self.state.value} to {state.value}")
        self.state = state
        self.deadline = deadline

    @property
    def starting(self) -> bool:
        """Whether the child has yet to become ready."""
        return self.state in (State.REQUESTED, State.BOOTING)

    @property
    def ready(self) -> bool:
        """Whether the child does its work."""
        return self.state is State.READY

    @property
    def ending(self) -> bool:
        """Whether the child has an order to exit, or is exiting by itself."""
        return self.state in (State.DRAINING, State.KILLED, State.GONE)

    def seconds_ready(self, now: float) -> float:
        """Seconds since the child became ready; -1 if it never did."""
        return -1.0 if self.ready_at is None else now - self.ready_at

    def exit_reason(self, how: str) -> tuple[str, str]:
        """Why the child has exited, in one line, and details. `how` completes a sentence ("was killed by SIGKILL") and
        is used when the child has not reported a failure."""
        if self.failure is not None:
            verb = "could not start" if self.ready_at is None else "has failed"
            return f"{self.log_name()} {verb}: {self.failure[0]}", self.failure[1]
        return f"{self.log_name()} {how}{' before it was ready' if self.ready_at is None else ''}", ""

    def log_name(self) -> str:
        """The name for the error log, with the process id once that is known."""
        return self.name if self.pid is None else f"{self.name} ({self.pid})"


class Worker(Child):
    """A worker.

    slot: the number of its slot, from 1. to_replace: whether another worker is to take its slot. alive_at: the instant
    at which its event loop was last known to run; None: not known. silent: whether the loop has been silent for too
    long, so that the worker will be killed. excused_until: until this instant its present silence does not count,
    because the master itself was late; None: it counts.
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
    """A mold: the pristine one, or one that has loaded the application of its generation."""

    __slots__ = ()

    def __init__(self, number: int, generation: int, requested_at: float, deadline: float) -> None:
        super().__init__("the mold", number, generation, requested_at, deadline)

    def log_name(self) -> str:
        """The name for the error log. It explains what a mold is to users of the log."""
        return "the mold, which forks workers," if self.pid is None else f"the mold ({self.pid}), which forks workers,"


class HookProcess(Child):
    """A process that runs the hooks of the server (`starman.hooks`), and serves no requests."""

    __slots__ = ()

    def __init__(self, number: int, generation: int, requested_at: float, deadline: float) -> None:
        super().__init__("the hook process", number, generation, requested_at, deadline)
