"""Texts that may be too long for one packet: they go ahead of the message that needs them, in parts."""

from __future__ import annotations

from starman.process.messages import IN_PARTS, Approved, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.channel import Channel
    from starman.process.messages import Message

# The longest part. It has to fit a packet, with room to spare: the settings, which travel so, are ASCII.
PART_CHARACTERS = 28_000


def split(text: str) -> list[Part]:
    """`text` as parts; at least one."""
    pieces = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)] or [""]
    return [Part(number, len(pieces), piece) for number, piece in enumerate(pieces, 1)]


def prepared(text: str) -> tuple[list[Part], str]:
    """The parts to send first, and what the message then has in place of `text`: no parts, and `text` itself, if it is short."""
    return ([], text) if len(text) <= PART_CHARACTERS else (split(text), IN_PARTS)


class Assembly:
    """The receiver's side of one channel. The first part of a text drops what has come of another."""

    __slots__ = ("_count", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._count = 0

    def add(self, part: Part) -> None:
        """Take the next part."""
        if part.number == 1:
            self._pieces.clear()
        self._count = part.count
        self._pieces.append(part.text)

    @property
    def complete(self) -> bool:
        """Whether all parts of a text are there."""
        return 0 < self._count == len(self._pieces)

    def resolve(self, text: str) -> str:
        """`text`, as a message has it: itself, or what the parts make. Raises ValueError when not all of them have come."""
        if text != IN_PARTS:
            return text
        if not self.complete:
            raise ValueError("a message whose text has not come")
        whole = "".join(self._pieces)
        self._pieces.clear()
        return whole


def receive_text(channel: Channel) -> str:
    """Wait for a text that comes alone. Raises ValueError for anything else, the end of file too."""
    assembly = Assembly()
    while not assembly.complete:
        received = channel.receive()
        if received is None or not isinstance(received[0], Part):
            raise ValueError("the running settings have not come")
        assembly.add(received[0])
    return assembly.resolve(IN_PARTS)


def answer(channel: Channel, message: Message) -> None:
    """Send what a trial has found to the master, which reads on; waits for it if that is long."""
    if isinstance(message, Approved):
        parts, settings = prepared(message.settings)
        for part in parts:
            channel.deliver(part)
        message = Approved(settings, message.notes)
    channel.deliver(message)
