"""What the supervisor tells the master to do: values without behaviour. No I/O. Each kind is performed by one method: of
`Births`, of `Orders`, or of the master itself."""

from __future__ import annotations

from enum import Enum

from starman.process.record import Record


class Level(Enum):
    """How loud a line of the error log is."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Action(Record):
    """Base of the actions."""

    __slots__ = ()


class _OnMember(Action):
    """An action on one worker or mold, known by the number that the supervisor gave it."""

    __slots__ = ("child",)

    def __init__(self, child: int) -> None:
        self.child = child


class ForkMold(_OnMember):
    """Fork the pristine mold from the master itself, as `child`."""

    __slots__ = ()


class SpawnMold(Action):
    """Have the pristine mold `origin` fork one that loads the application for `generation`, as `child`.

    `settings`: those of the generation, as `Spawn` (the message) has them.
    """

    __slots__ = ("child", "generation", "origin", "settings")

    def __init__(self, child: int, generation: int, origin: int, settings: str = "") -> None:
        self.child = child
        self.generation = generation
        self.origin = origin
        self.settings = settings


class SpawnWorker(Action):
    """Have the mold `mold` fork the worker of `slot` (from 1) for `generation`, as `child`.

    `settings`: those of the generation, as `Spawn` (the message) has them.
    """

    __slots__ = ("child", "generation", "mold", "settings", "slot")

    def __init__(self, child: int, slot: int, generation: int, mold: int, settings: str = "") -> None:
        self.child = child
        self.slot = slot
        self.generation = generation
        self.mold = mold
        self.settings = settings


class Drain(_OnMember):
    """Tell a worker to finish what it has and to end. Nothing to do as long as its process id is unknown."""

    __slots__ = ()


class Kill(_OnMember):
    """SIGKILL a worker or mold; close its channel if its process id is unknown."""

    __slots__ = ()


class DumpStacks(_OnMember):
    """Log `line` about a worker, and what it is serving; then have it write the stacks of its threads to the error log."""

    __slots__ = ("line",)

    def __init__(self, child: int, line: str) -> None:
        super().__init__(child)
        self.line = line


class RetireMold(_OnMember):
    """Close a mold's channel: it ends by itself."""

    __slots__ = ()


class Forget(_OnMember):
    """Close a channel whose end of file does not come: its process was killed, but an orphan of it holds the other end."""

    __slots__ = ()


class LogReady(Action):
    """All `workers` of the first start are ready."""

    __slots__ = ("workers",)

    def __init__(self, workers: int) -> None:
        self.workers = workers


class LogLine(Action):
    """Write `text` to the error log."""

    __slots__ = ("level", "text")

    def __init__(self, level: Level, text: str) -> None:
        self.level = level
        self.text = text


class LogKill(LogLine):
    """Log `text` and the requests of the worker `child`, or of all workers (0), which are about to be cut."""

    __slots__ = ("child",)

    def __init__(self, level: Level, text: str, child: int = 0) -> None:
        super().__init__(level, text)
        self.child = child


class LogStopping(Action):
    """Log that a graceful stop begins, how many requests are in flight, and how many seconds they may take. The orders to drain
    follow, and workers count their requests when they are told."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class CloseListeners(Action):
    """The end has begun: no new connection may queue up that nobody will take."""

    __slots__ = ()


class FailStart(Action):
    """The first start has failed. Remember why; the exit follows when everything has ended."""

    __slots__ = ("details", "reason")

    def __init__(self, reason: str, details: str) -> None:
        self.reason = reason
        self.details = details


class Exit(Action):
    """Nothing is left to look after: end with `status`."""

    __slots__ = ("status",)

    def __init__(self, status: int) -> None:
        self.status = status
