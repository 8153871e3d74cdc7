"""The base classes of the messages between the processes of a server, and the limits of a packet. No I/O."""

from __future__ import annotations

from starman.process.value_class import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The longest reason that a worker may give, in characters.
_REASON_CHARACTERS = 500
# The largest packet, in bytes. Far below the size of a socket's buffer, so that a sender does not wait for the reader.
PACKET_BYTES = 32_768
# The longest line in a packet, in bytes.
LINE_BYTES = 4_000
# In place of a text that was sent before, in parts (`long_messages.py`).
IN_PARTS = "*"


class Message(Record):
    """Base of the messages; by itself, a message without fields."""

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


class ReasonMessage(Message):
    """Base of the messages with nothing but a reason: one line."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def fields(self) -> tuple[str, ...]:
        return (shortened(self.reason, LINE_BYTES),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (reason,) = fields
        return cls(one_line(reason))


def one_line(reason: str) -> str:
    """A reason that is safe in a log line, whatever process has sent it: one line, of limited length."""
    return " ".join(reason.split())[:_REASON_CHARACTERS]


def shortened(text: str, limit: int) -> str:
    """`text` without NUL, in at most `limit` bytes. The middle is left out, because a traceback says most at its two
    ends."""
    raw = text.replace("\0", "?").encode("utf-8", "backslashreplace")
    if len(raw) > limit:
        note = b"\n... %d bytes left out ...\n" % (len(raw) - limit)
        half = (limit - len(note)) // 2
        raw = raw[:half] + note + raw[-half:]
    return raw.decode("utf-8", "ignore")
