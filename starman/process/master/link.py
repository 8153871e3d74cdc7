"""What the master keeps about one child: its channel, its process id, and which messages it may send.

Imports no other module of the master but `stack_pipe`.
"""

from __future__ import annotations

import os
import time

from starman import log
from starman.process.channel import MasterEnd
from starman.process.master.stack_pipe import StackReader
from starman.process.message_base import Message
from starman.process.messages import FROM_HOOKS, FROM_OBSERVER, FROM_WORKER, Spawned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.log.captured import OutputReader

# How many messages a process may send within SENT_SECONDS. A process sends a few in its life, and one for each USR1.
MAX_SENT = 1000
SENT_SECONDS = 10.0
# How often (seconds) the log reports ignored messages, for each process.
_IGNORED_SECONDS = 10.0


class Link:
    """What the master keeps about one child.

    number: the supervisor's number for the child. opened_at: the instant at which the link was made, before the child
    was forked. channel: closed when no more messages can come. kinds: the messages that the child may send. pid: None
    until it is known. slot: the number of a worker, from 1; 0 for other processes. page: the worker's place on the
    scoreboard; 0 if it has none.

    ended_at: the instant of the channel's end of file; None while the child, or an orphan of the child, holds the
    other end. unsent: messages, with the descriptors to send along, that wait until the child reads on. stacks: reads
    the stacks that the child writes; None without a pipe. output: reads what the
    application prints (`--capture-output`): of a mold at once, and of a worker, which reads it itself, what is left at
    the end; None: it is not captured. traffic: counts the messages that the child has sent.
    """

    __slots__ = (
        *("channel", "ended_at", "kinds", "number", "opened_at", "output", "page", "pid", "slot", "stacks", "traffic"),
        "unsent",
    )

    def __init__(self, number: int, channel: MasterEnd, kinds: tuple[type[Message], ...] = FROM_WORKER) -> None:
        self.number = number
        self.channel = channel
        self.kinds = kinds
        self.traffic = _Traffic()
        self.opened_at = time.monotonic()
        self.pid: int | None = None
        self.page = 0
        self.ended_at: float | None = None
        self.unsent: list[tuple[Message, list[int]]] = []
        self.slot = 0
        self.stacks: StackReader | None = None
        self.output: OutputReader | None = None

    @property
    def title(self) -> str:
        """The name of the process in the error log."""
        pid = "" if self.pid is None else f" ({self.pid})"
        if self.kinds in (FROM_HOOKS, FROM_OBSERVER):
            return f"the {'observer' if self.kinds is FROM_OBSERVER else 'hook process'}{pid}"
        return f"worker {self.slot}{pid}" if self.slot else f"a mold{pid}, which forks workers"

    def drop_unsent(self) -> None:
        """Drop the unsent messages, and close the descriptors that wait with them.

        If such a descriptor is the end of another child's channel, that channel is then at its end of file, as if this
        child had died before it read the message.
        """
        for _, fds in self.unsent:
            for fd in fds:
                os.close(fd)
        self.unsent.clear()


class _Traffic:
    """Counts the recent messages of a process, and its ignored messages."""

    __slots__ = ("_count", "_ignored", "_logged_at", "_since")

    def __init__(self) -> None:
        self._since = self._logged_at = float("-inf")
        self._count = self._ignored = 0

    def exceeds(self, now: float) -> bool:
        """Count a message. Returns whether the process has sent too many."""
        if now - self._since >= SENT_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > MAX_SENT

    def ignore(self, reason: str, pid: int | None, now: float) -> None:
        """Log that a message is ignored, at most every _IGNORED_SECONDS."""
        self._ignored += 1
        if now - self._logged_at >= _IGNORED_SECONDS:
            more = f" ({self._ignored - 1} more ignored before)" if self._ignored > 1 else ""
            log.error(f"ignored a message from {process_name(pid)}: {reason}{more}")
            self._logged_at, self._ignored = now, 0


def process_name(pid: int | None) -> str:
    """How the log names a process with this process id, if that is known."""
    return "an unknown process" if pid is None else f"process {pid}"


def checked(link: Link, message: Message, sender: int | None) -> Message:
    """Return `message`, if the child of this link may have sent it. Raises ValueError with the reason if not.

    sender: the process that sent the message; None if the kernel does not say (macOS).
    """
    if not isinstance(message, link.kinds):
        raise ValueError(f"this process may not send {type(message).__name__}")
    if isinstance(message, Spawned):
        if message.pid == 0 and sender is None:
            raise ValueError("the kernel does not say which process has sent it")
        return message if message.pid else Spawned(sender or 0)
    # While the pid is unknown, the mold may report over this channel that it cannot fork the process.
    if sender is not None and link.pid is not None and sender != link.pid:
        raise ValueError(f"{type(message).__name__} comes from process {sender}, which holds the channel too")
    return message
