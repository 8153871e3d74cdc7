"""A supervisor on a fake clock, for the tests of this folder."""

from __future__ import annotations

from typing import TypeVar

from starman.process.status import Phase
from starman.process.supervision.actions import (
    Action,
    ForkMold,
    LogLine,
    SpawnHooks,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.rollout import Terms
from starman.process.supervision.supervisor import Supervisor

Kind = TypeVar("Kind", bound=Action)


def terms(workers: int = 2, *, preload: bool = False, batch: int = 1, settings: str = "") -> Terms:
    found = Terms(workers, preload=preload, boot_timeout=60, graceful_timeout=30, batch=batch)
    found.settings = settings
    return found


class Desk:
    """A supervisor with a clock, and all actions that it has planned."""

    def __init__(self, workers: int = 2, *, preload: bool = False, batch: int = 1) -> None:
        self.supervisor = Supervisor(terms(workers, preload=preload, batch=batch))
        self.now = 1000.0
        self.history: list[Action] = []
        self.pids = 100

    def plan(self, after: float = 0.0) -> list[Action]:
        """Advance the clock by `after` seconds, then plan."""
        self.now += after
        actions = self.supervisor.plan(self.now)
        self.history += actions
        return actions

    def all(self, kind: type[Kind]) -> list[Kind]:
        """Every action of that kind so far."""
        return [action for action in self.history if isinstance(action, kind)]

    def said(self) -> str:
        """The error log."""
        said = [action for action in self.history if isinstance(action, LogLine)]
        return "\n".join(f"{say.level.name} {say.text}" for say in said)

    def born(self, number: int) -> None:
        self.pids += 1
        self.supervisor.on_spawned(number, self.pids)

    def ready(self, number: int) -> None:
        self.born(number)
        self.supervisor.on_ready(number, self.now)

    def grow(self) -> None:
        self.supervisor.scale(len(self.supervisor.slots) + 1, self.now)

    def shrink(self) -> None:
        self.supervisor.scale(len(self.supervisor.slots) - 1, self.now)

    def gone(self, number: int, how: str = "was killed by SIGKILL") -> None:
        self.supervisor.on_exit(number, how, self.now)

    def fail(self, number: int, reason: str, details: str = "Traceback...") -> None:
        """The child `number` reports that it cannot start, and exits."""
        self.supervisor.on_failed(number, reason, details, self.now)
        self.gone(number, "exited with status 1")

    def start(self) -> list[int]:
        """Start the server; returns the numbers of the workers, by slot."""
        while self.supervisor.phase is Phase.STARTING:
            actions = self.plan()
            assert actions, "the start hangs"
            for action in actions:
                if isinstance(action, ForkMold | SpawnMold | SpawnWorker | SpawnHooks):
                    self.ready(action.child)
        return [spawn.child for spawn in self.all(SpawnWorker)]


def only(actions: list[Action], kind: type[Kind]) -> Kind:
    """The one action of that kind."""
    found = [action for action in actions if isinstance(action, kind)]
    assert len(found) == 1, actions
    return found[0]


def has(actions: list[Action], kind: type[Action]) -> bool:
    return any(isinstance(action, kind) for action in actions)
