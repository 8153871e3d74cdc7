"""The actions that the supervisor plans, as values without behaviour. No I/O. The master's executor performs them."""

from __future__ import annotations

from enum import Enum

from starman.process.value_class import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.message_base import Message


class Level(Enum):
    """The level of a line in the error log."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Action(Record):
    """Base class of the actions."""

    __slots__ = ()


class _ChildAction(Action):
    """An action on one worker or mold, named by the number that the supervisor gave it."""

    __slots__ = ("child",)

    def __init__(self, child: int) -> None:
        self.child = child


class ForkMold(_ChildAction):
    """Fork the pristine mold from the master itself, as `child`."""

    __slots__ = ()


class SpawnMold(_ChildAction):
    """Have the pristine mold `origin` fork a mold that loads the application of `generation`, as `child`.

    settings: the generation's settings, as in the message `Spawn`.
    """

    __slots__ = ("generation", "origin", "settings")

    def __init__(self, child: int, generation: int, origin: int, settings: str = "") -> None:
        super().__init__(child)
        self.generation = generation
        self.origin = origin
        self.settings = settings


class SpawnWorker(_ChildAction):
    """Have the mold `mold` fork the worker of `slot` (from 1) for `generation`, as `child`.

    settings: the generation's settings, as in the message `Spawn`.
    """

    __slots__ = ("generation", "mold", "settings", "slot")

    def __init__(self, child: int, slot: int, generation: int, mold: int, settings: str = "") -> None:
        super().__init__(child)
        self.slot = slot
        self.generation = generation
        self.mold = mold
        self.settings = settings


class SpawnHooks(_ChildAction):
    """Have the pristine mold `mold` fork the hook process, as `child`.

    settings: those of its generation, as in the message `Spawn`. starting: whether it runs the `starting` hooks first.
    """

    __slots__ = ("mold", "settings", "starting")

    def __init__(self, child: int, mold: int, settings: str = "", *, starting: bool = False) -> None:
        super().__init__(child)
        self.mold = mold
        self.settings = settings
        self.starting = starting


class SendEvent(_ChildAction):
    """Send an event to the hook process."""

    __slots__ = ("event",)

    def __init__(self, child: int, event: Message) -> None:
        super().__init__(child)
        self.event = event


class RetireHooks(_ChildAction):
    """Close the channel of the hook process, which then ends by itself."""

    __slots__ = ()


class Drain(_ChildAction):
    """Have a worker finish its requests and end. Does nothing while the worker's process id is unknown."""

    __slots__ = ()


class Kill(_ChildAction):
    """Send SIGKILL to a worker or mold. While its process id is unknown, close its channel instead."""

    __slots__ = ()


class DumpStacks(_ChildAction):
    """Log `line` and the requests that a worker is serving. Then have the worker write the stacks of its threads to
    the log."""

    __slots__ = ("line",)

    def __init__(self, child: int, line: str) -> None:
        super().__init__(child)
        self.line = line


class RetireMold(_ChildAction):
    """Close the channel of a mold, which then ends by itself."""

    __slots__ = ()


class Forget(_ChildAction):
    """Close the channel of a killed process. No end of file comes, because an orphan of the process holds the other
    end."""

    __slots__ = ()


class LogReady(Action):
    """Log that all `workers` of the first start are ready."""

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
    """Log `text` and the requests of the worker `child`, which is about to be killed. 0: all workers are."""

    __slots__ = ("child",)

    def __init__(self, level: Level, text: str, child: int = 0) -> None:
        super().__init__(level, text)
        self.child = child


class LogStopping(Action):
    """Log that a graceful stop begins, how many requests are in flight, and how many seconds they may take.

    The plan has this action before the workers' `Drain`. Each worker counts its requests when it begins to drain.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class CloseListeners(Action):
    """Close the listeners, because the stop has begun: no process would accept a new connection in their backlog."""

    __slots__ = ()


class FailStart(Action):
    """Keep the reason why the first start failed, and the exit status that it stands for. `Exit` follows when all
    children have ended."""

    __slots__ = ("details", "reason", "status")

    def __init__(self, reason: str, details: str, status: int = 1) -> None:
        self.reason = reason
        self.details = details
        self.status = status


class Exit(Action):
    """End the server with the exit status `status`. No child is left."""

    __slots__ = ("status",)

    def __init__(self, status: int) -> None:
        self.status = status
