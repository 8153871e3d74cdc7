"""Messages between master, molds and workers, as values and as packets. No I/O: `channel.py` carries them.

A packet is the name of the message's class and its fields as text, joined by NUL bytes (`json` would cost the master
0.4 MB for ten messages).
"""

from __future__ import annotations

from enum import Enum

from starman.process.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The longest reason that a worker may give, in characters.
_REASON_CHARACTERS = 500

# The largest process id that system calls take: pid_t has 32 bits.
_LARGEST_PID = (1 << 31) - 1

# The largest packet, in bytes. Far below a socket's buffer, so that a sender never waits for its reader.
PACKET_BYTES = 32_768
# What a failure's one line, and its details, may take of it, in bytes.
_LINE_BYTES = 4_000
_DETAILS_BYTES = PACKET_BYTES - _LINE_BYTES - 64
# In place of a text: it has come before, in parts (`longtext.py`).
IN_PARTS = "*"


class Role(Enum):
    """What a mold is asked to fork."""

    WORKER = "worker"
    MOLD = "mold"


class Message(Record):
    """Base of the messages; alone, one without fields."""

    __slots__ = ()

    def fields(self) -> tuple[str, ...]:
        """The fields as text."""
        return ()

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        """The message with these fields. Raises ValueError for fields that it cannot have."""
        if fields:
            raise ValueError(f"{cls.__name__} has no fields")
        return cls()


class Spawn(Message):
    """Master to mold, with a descriptor: fork a process that plays `role`, with that descriptor as its channel.

    `slot` is the worker's number, from 1; 0 for a mold. `place` is the worker's on the scoreboard; 0: it has none. A second
    descriptor is the scoreboard's, for the worker to map its place.
    `settings` are those that it runs with (see `starman.config.revision`), or IN_PARTS; "" for those that the mold has.
    """

    __slots__ = ("place", "role", "settings", "slot")

    def __init__(self, role: Role, slot: int, place: int = 0, settings: str = "") -> None:
        self.role = role
        self.slot = slot
        self.place = place
        self.settings = settings

    def fields(self) -> tuple[str, ...]:
        return self.role.value, str(self.slot), str(self.place), self.settings

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        role, slot, place, settings = fields
        return cls(Role(role), int(slot), int(place), settings)


class Part(Message):
    """Part `number`, from 1, of the `count` parts of a text that the next message needs (`longtext.py`)."""

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
    """To the master, before all else: this worker or mold exists, as process `pid`.

    Sent by the process that has forked the member, and then by the member itself. pid 0: the sender, which the kernel tells.
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
            raise ValueError("no process has such a number")
        return cls(number)


class Loaded(Message):
    """Mold to master: I have imported what I should, and can fork."""

    __slots__ = ()


class Ready(Message):
    """Worker to master: I accept connections."""

    __slots__ = ()


class Recycle(Message):
    """Worker to master: replace me, because of `reason`. Until another is ready I go on as before."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def fields(self) -> tuple[str, ...]:
        return (_shortened(self.reason, _LINE_BYTES),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (reason,) = fields
        return cls(_one_line(reason))


class Draining(Message):
    """Worker to master: I accept no more connections, and end when the requests that I have are answered."""

    __slots__ = ()


class Doomed(Message):
    """Worker to master: because of `reason` I should serve no more. Drain me as soon as you can; until then I wait for a moment,
    then go on as before."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def fields(self) -> tuple[str, ...]:
        return (_shortened(self.reason, _LINE_BYTES),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (reason,) = fields
        return cls(_one_line(reason))


class Reopen(Message):
    """Master to mold or worker: open your logs again. With a descriptor: it is the new error log, to become your descriptor 2."""

    __slots__ = ()


class Reopened(Message):
    """Mold or worker to master: I write to no log that was open before the last `Reopen`."""

    __slots__ = ()


class Approved(Message):
    """Trial to master: what was tried works.

    `settings` are those to go on with (see `starman.config.revision`), or IN_PARTS; `notes` are lines for the log.
    """

    __slots__ = ("notes", "settings")

    def __init__(self, settings: str, notes: str = "") -> None:
        self.settings = settings
        self.notes = notes

    def fields(self) -> tuple[str, ...]:
        return self.settings, _shortened(self.notes, _LINE_BYTES)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        settings, notes = fields
        return cls(settings, notes)


class Failed(Message):
    """Worker or mold to master: I cannot start. `message` is one line; `details`, if not empty, has more (a traceback)."""

    __slots__ = ("details", "message")

    def __init__(self, message: str, details: str = "") -> None:
        self.message = message
        self.details = details

    def fields(self) -> tuple[str, ...]:
        return _shortened(self.message, _LINE_BYTES), _shortened(self.details, _DETAILS_BYTES)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        message, details = fields
        return cls(_shortened(message, _LINE_BYTES), details)


# The messages that each kind of process may send to the master; all others are ignored.
FROM_WORKER = (Spawned, Ready, Recycle, Draining, Doomed, Reopened, Failed)
FROM_MOLD = (Spawned, Loaded, Reopened, Failed)
FROM_TRIAL = (Part, Approved, Failed)

_KINDS: dict[str, type[Message]] = {
    kind.__name__: kind
    for kind in (Part, Spawn, Spawned, Loaded, Ready, Recycle, Draining, Doomed, Reopen, Reopened, Approved, Failed)
}


def encode(message: Message) -> bytes:
    """The packet of `message`: at most PACKET_BYTES."""
    return "\0".join((type(message).__name__, *message.fields())).encode("utf-8")


def decode(packet: bytes) -> Message:
    """The message in `packet`. Raises ValueError for anything that `encode` cannot have made."""
    name, *fields = packet.decode("utf-8").split("\0")
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"no message is called {name[:40]!r}")
    return kind.parse(fields)


def _one_line(reason: str) -> str:
    """A reason that is safe in a line of the log, whatever process has sent it: one line, of limited length."""
    return " ".join(reason.split())[:_REASON_CHARACTERS]


def _shortened(text: str, limit: int) -> str:
    """`text` without NUL, in at most `limit` bytes: the middle goes, for a traceback says most at its two ends."""
    raw = text.replace("\0", "?").encode("utf-8", "backslashreplace")
    if len(raw) > limit:
        note = b"\n... %d bytes left out ...\n" % (len(raw) - limit)
        half = (limit - len(note)) // 2
        raw = raw[:half] + note + raw[-half:]
    return raw.decode("utf-8", "ignore")
