"""Texts that may be too long for one packet: they are sent in parts, before the message that needs them."""

from __future__ import annotations

from starman.process.message_base import IN_PARTS
from starman.process.messages import Approved, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.channel import Channel
    from starman.process.message_base import Message

# The longest part. It must fit into a packet, with room to spare: the settings, which are sent in this way, are ASCII.
PART_CHARACTERS = 28_000


def split_text(text: str) -> list[Part]:
    """`text` as parts, at least one."""
    pieces = [text[start : start + PART_CHARACTERS] for start in range(0, len(text), PART_CHARACTERS)] or [""]
    return [Part(number, len(pieces), piece) for number, piece in enumerate(pieces, 1)]


def prepare_text(text: str) -> tuple[list[Part], str]:
    """The parts to send first, and the field of the message: no parts and `text` itself if it is short, else
    IN_PARTS."""
    return ([], text) if len(text) <= PART_CHARACTERS else (split_text(text), IN_PARTS)


class TextAssembly:
    """The receiver's side of one channel. The first part of a text discards the parts of an unfinished one."""

    __slots__ = ("_count", "_pieces")

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._count = 0

    def add_part(self, part: Part) -> None:
        """Add the next part."""
        if part.number == 1:
            self._pieces.clear()
        self._count = part.count
        self._pieces.append(part.text)

    @property
    def complete(self) -> bool:
        """Whether all parts of a text have arrived."""
        return 0 < self._count == len(self._pieces)

    def resolve_text(self, text: str) -> str:
        """The text of a message field: the field itself, or the assembled parts when it is IN_PARTS. Raises ValueError
        when parts are missing."""
        if text != IN_PARTS:
            return text
        if not self.complete:
            raise ValueError("a message without its text")
        whole = "".join(self._pieces)
        self._pieces.clear()
        return whole


def receive_text(channel: Channel) -> str:
    """Wait for a text that is sent without a message. Raises ValueError for anything else, and at the end of file."""
    assembly = TextAssembly()
    while not assembly.complete:
        received = channel.receive_message()
        if received is None or not isinstance(received[0], Part):
            raise ValueError("the settings in use have not arrived")
        assembly.add_part(received[0])
    return assembly.resolve_text(IN_PARTS)


def send_answer(channel: Channel, message: Message) -> None:
    """Send the result of a trial to the master, which keeps reading. Waits while the socket's buffer is full."""
    if isinstance(message, Approved):
        parts, settings = prepare_text(message.settings)
        for part in parts:
            channel.send_waiting(part)
        message = Approved(settings, message.notes)
    channel.send_waiting(message)
