"""Messages between master, molds and workers, as values and as packets. No I/O: `channel.py` carries them.

A packet is the name of the message's class and its fields as text, joined by NUL bytes (`json` would cost the master
0.4 MB for a dozen messages). A renamed class or a changed field is a new FORMAT of `handover.py`: workers from before
an upgrade send to the new master.
"""

from __future__ import annotations

from enum import Enum

from starman.process.message_base import LINE_BYTES, PACKET_BYTES, Message, ReasonMessage, one_line, shortened
from starman.process.observer_messages import OBSERVER_ANSWERS, OBSERVER_QUERIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The largest process id that system calls take: pid_t has 32 bits.
_LARGEST_PID = (1 << 31) - 1
# A request cannot have run for longer (seconds): a hundred years.
_LONGEST_SECONDS = 3.2e9

# The longest details of a failure in a packet, in bytes.
_DETAILS_BYTES = PACKET_BYTES - LINE_BYTES - 64
# The longest stack of a slow request in a packet, and in the master, in bytes.
_STACK_BYTES = 4_000


class Role(Enum):
    """What a mold is to fork. STARTING_HOOKS: the hook process of a start, which runs the `starting` hooks before it
    is loaded."""

    WORKER = "worker"
    MOLD = "mold"
    HOOKS = "hooks"
    STARTING_HOOKS = "starting hooks"
    OBSERVER = "observer"


class Spawn(Message):
    """Master to mold, with descriptors: fork a process with this role, with the first descriptor as its channel.

    slot: the worker's number, from 1; 0 for other roles. page: its page of the scoreboard; 0: none. With a page, the
    last descriptor is the scoreboard's, from which the worker maps its page. The observer gets the scoreboard's
    descriptor too, and the control socket. settings: those of the new process (`starman.config.revision`), or
    IN_PARTS; "" for the settings of the mold.
    """

    __slots__ = ("page", "role", "settings", "slot")

    def __init__(self, role: Role, slot: int, page: int = 0, settings: str = "") -> None:
        self.role = role
        self.slot = slot
        self.page = page
        self.settings = settings

    def fields(self) -> tuple[str, ...]:
        return self.role.value, str(self.slot), str(self.page), self.settings

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        role, slot, page, settings = fields
        return cls(Role(role), int(slot), int(page), settings)


class Part(Message):
    """Part `number`, from 1, of the `count` parts of a text that the next message needs (`long_messages.py`)."""

    __slots__ = ("count", "number", "text")

    def __init__(self, number: int, count: int, text: str) -> None:
        self.number = number
        self.count = count
        self.text = text

    def fields(self) -> tuple[str, ...]:
        return str(self.number), str(self.count), self.text

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        number, count, text = fields
        return cls(int(number), int(count), text)


class Spawned(Message):
    """To the master, before all other messages: this worker or mold exists, as process `pid`.

    Sent by the process that has forked the child, and then by the child itself. pid 0: the sender's process id, as the
    kernel reports it.
    """

    __slots__ = ("pid",)

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def fields(self) -> tuple[str, ...]:
        return (str(self.pid),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (pid,) = fields
        number = int(pid)
        if not 0 <= number <= _LARGEST_PID:
            raise ValueError("an impossible process id")
        return cls(number)


class Loaded(Message):
    """Mold to master: the modules are imported, and the mold can fork. Hook process to master: its module is imported,
    and it waits for events. Observer to master: it accepts connections."""

    __slots__ = ()


class Ready(Message):
    """Worker to master: the worker accepts connections."""

    __slots__ = ()


class Recycle(ReasonMessage):
    """Worker to master: replace this worker, because of `reason`. It serves until another worker is ready."""

    __slots__ = ()


class Changing(Message):
    """Watcher to master: files have changed, and more may follow. From now on, old code must not answer requests."""

    __slots__ = ()


class Changed(ReasonMessage):
    """Watcher to master: the changes have settled, and `reason` names the files. Load the application again."""

    __slots__ = ()


class Draining(Message):
    """Worker to master: the worker accepts no more connections, and exits when its requests are answered."""

    __slots__ = ()


class DrainRequest(ReasonMessage):
    """Worker to master: because of `reason`, this worker should serve no more. The master drains it as soon as it can.
    Until then the worker waits for a moment, then goes on as before."""

    __slots__ = ()


class Reopen(Message):
    """Master to mold or worker: reopen your logs. A descriptor, if any, is the new error log, and becomes descriptor
    2."""

    __slots__ = ()


class Reopened(Message):
    """Mold or worker to master: no log is in use that was open before the last `Reopen`."""

    __slots__ = ()


class Notice(ReasonMessage):
    """Worker or mold to master: log `reason` as a warning, unless the same was logged before."""

    __slots__ = ()


class SlowRequest(Message):
    """Worker to master: a request runs for long.

    line: its method and target. seconds: for how long the application has worked on it. stack: the calls of its
    thread, a line each, the innermost last. timed_out: whether its deadline has passed, so that it was ended.
    """

    __slots__ = ("line", "seconds", "stack", "timed_out")

    def __init__(self, line: str, seconds: float, stack: str, *, timed_out: bool = False) -> None:
        self.line = line
        self.seconds = seconds
        self.stack = stack
        self.timed_out = timed_out

    def fields(self) -> tuple[str, ...]:
        stack = shortened(self.stack, _STACK_BYTES)
        return shortened(self.line, LINE_BYTES), f"{self.seconds:.3f}", stack, str(int(self.timed_out))

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        line, seconds, stack, timed_out = fields
        number = float(seconds)
        if not 0.0 <= number <= _LONGEST_SECONDS:
            raise ValueError("an impossible duration")
        # A terminal shows them, and the application may have sent anything.
        calls = "\n".join(map(_printable, stack.splitlines()))
        return cls(_printable(one_line(line)), number, shortened(calls, _STACK_BYTES), timed_out=timed_out == "1")


def _printable(line: str) -> str:
    return line if line.isprintable() else ascii(line)[1:-1]


class ServerEvent(Message):
    """Master to hook process: run the hooks of `point`, such as "ready" (`starman.hooks`)."""

    __slots__ = ("point",)

    def __init__(self, point: str) -> None:
        self.point = point

    def fields(self) -> tuple[str, ...]:
        return (self.point,)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (point,) = fields
        return cls(point)


class WorkersChanged(Message):
    """Master to hook process: the number of workers that should run has changed from `old` to `new`."""

    __slots__ = ("new", "old")

    def __init__(self, old: int, new: int) -> None:
        self.old = old
        self.new = new

    def fields(self) -> tuple[str, ...]:
        return str(self.old), str(self.new)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        old, new = fields
        return cls(int(old), int(new))


class WorkerEnded(Message):
    """Master to hook process: a worker has ended.

    number: its number, from 1. status: its wait status; None: not known. expected: whether it ended in order.
    """

    __slots__ = ("expected", "number", "pid", "status")

    def __init__(self, number: int, pid: int, status: int | None, *, expected: bool) -> None:
        self.number = number
        self.pid = pid
        self.status = status
        self.expected = expected

    def fields(self) -> tuple[str, ...]:
        status = "" if self.status is None else str(self.status)
        return str(self.number), str(self.pid), status, str(int(self.expected))

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        number, pid, status, expected = fields
        return cls(int(number), int(pid), int(status) if status else None, expected=expected == "1")


class Handled(Message):
    """Hook process to master: the hooks of the first event that was not reported yet have run."""

    __slots__ = ()


class Approved(Message):
    """Trial to master: the trial has succeeded.

    `settings` are those to go on with (`starman.config.revision`), or IN_PARTS; `notes` are lines for the log.
    """

    __slots__ = ("notes", "settings")

    def __init__(self, settings: str, notes: str = "") -> None:
        self.settings = settings
        self.notes = notes

    def fields(self) -> tuple[str, ...]:
        return self.settings, shortened(self.notes, LINE_BYTES)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        settings, notes = fields
        return cls(settings, notes)


class Failed(Message):
    """Worker or mold to master: the process cannot start, or a mold cannot go on. `message` is one line; `details`, if
    not empty, has more (a traceback). `status`: the exit status of the server if its first start fails with this."""

    __slots__ = ("details", "message", "status")

    def __init__(self, message: str, details: str = "", status: int = 1) -> None:
        self.message = message
        self.details = details
        self.status = status

    def fields(self) -> tuple[str, ...]:
        return shortened(self.message, LINE_BYTES), shortened(self.details, _DETAILS_BYTES), str(self.status)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        message, details, status = fields
        number = int(status)
        if not 1 <= number <= 255:
            raise ValueError(f"{number} is not the exit status of a failure")
        return cls(shortened(message, LINE_BYTES), details, number)

    def describe(self) -> str:
        """The message, with the details below it, for the log."""
        return f"{self.message}\n{self.details}" if self.details else self.message


# The messages that each kind of process may send to the master; all others are ignored.
FROM_WORKER = (Spawned, Ready, Recycle, Draining, DrainRequest, Reopened, Notice, SlowRequest, Failed)
FROM_MOLD = (Spawned, Loaded, Reopened, Notice, Failed)
FROM_HOOKS = (Spawned, Loaded, Handled, Reopened, Failed)
FROM_TRIAL = (Part, Approved, Failed)
FROM_WATCHER = (Changing, Changed)
FROM_OBSERVER = (Spawned, Loaded, Reopened, Failed, *OBSERVER_QUERIES)
# What the hook process is told.
HOOK_EVENTS = (ServerEvent, WorkersChanged, WorkerEnded)

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in {
        *(Part, Spawn, Reopen, *FROM_WORKER, *FROM_MOLD, *FROM_HOOKS, *FROM_TRIAL, *FROM_WATCHER, *HOOK_EVENTS),
        *(*FROM_OBSERVER, *OBSERVER_ANSWERS),
    }
}


def encode(message: Message) -> bytes:
    """The packet of `message`: at most PACKET_BYTES."""
    return "\0".join((type(message).__name__, *message.fields())).encode("utf-8")


def decode(packet: bytes) -> Message:
    """The message in `packet`. Raises ValueError for a packet that `encode` cannot have made."""
    name, *fields = packet.decode("utf-8").split("\0")
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"no message is called {name[:40]!r}")
    return kind.parse(fields)
