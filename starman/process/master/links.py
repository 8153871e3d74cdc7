"""The master's links to its children: their channels, process ids and ends, and the one poll that waits for all of them."""

from __future__ import annotations

import contextlib
import os
import selectors
import time

from starman import log
from starman.process.channel import MasterEnd
from starman.process.master.stack_pipe import StackReader, open_pipe
from starman.process.messages import FROM_WORKER, Message, Spawned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from starman.process.channel import Channel
    from starman.process.handover import Veteran
    from starman.process.master.signals import SignalQueue

# The longest wait of one poll (seconds): poll(2) takes an int of milliseconds. A longer wait ends once a day, and begins anew.
LONGEST_WAIT = 86_400.0
# How many messages are taken from one process at most before others have their turn.
MAX_READ = 300
# The most messages that a process may send within so many seconds. Each sends a few in its life, and one for each USR1.
MAX_SENT = 1000
SENT_SECONDS = 10.0
# How often (seconds) the log tells of messages that are ignored, of each process.
_IGNORED_SECONDS = 10.0
# Stands for a message that is ignored.
_IGNORED = Message()


class Link:
    """What the master holds of one child.

    number: the supervisor's name for the child. opened_at: the instant at which the link was made, before the child was.
    channel: closed when nothing more will come. pid: None until the child has sent something. kinds: the messages that the
    child may send. traffic: counts what it has sent.
    place: its page of the scoreboard; 0 when it has none. ended_at: the instant of the end of file; None as long as the child,
    or an orphan of it, holds the other end. unsent: messages that wait until the child reads on, with the descriptors that
    each takes along. slot: a worker's number, from 1; 0 for a mold. stacks: what reads its stacks; None without.
    """

    __slots__ = ("channel", "ended_at", "kinds", "number", "opened_at", "pid", "place", "slot", "stacks", "traffic", "unsent")

    def __init__(self, number: int, channel: MasterEnd, kinds: tuple[type[Message], ...] = FROM_WORKER) -> None:
        self.number = number
        self.channel = channel
        self.kinds = kinds
        self.traffic = _Traffic()
        self.opened_at = time.monotonic()
        self.pid: int | None = None
        self.place = 0
        self.ended_at: float | None = None
        self.unsent: list[tuple[Message, list[int]]] = []
        self.slot = 0
        self.stacks: StackReader | None = None

    @property
    def title(self) -> str:
        """How the error log calls the process."""
        name = f"worker {self.slot}" if self.slot else "a mold"
        return name if self.pid is None else f"{name} ({self.pid})"

    def drop_unsent(self) -> None:
        """Close the descriptors that wait to be sent: whose they are sees the same as if the child had died before it read."""
        for _, fds in self.unsent:
            for fd in fds:
                os.close(fd)
        self.unsent.clear()


class _Traffic:
    """Counts the messages that a process has sent lately, and those that were ignored."""

    __slots__ = ("_count", "_ignored", "_since", "_told_at")

    def __init__(self) -> None:
        self._since = self._told_at = float("-inf")
        self._count = self._ignored = 0

    def exceeds(self, now: float) -> bool:
        """Count a message. Returns whether there were too many."""
        if now - self._since >= SENT_SECONDS:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > MAX_SENT

    def ignore(self, reason: str, pid: int | None, now: float) -> None:
        """Log that a message is ignored, not more often than every _IGNORED_SECONDS."""
        self._ignored += 1
        if now - self._told_at >= _IGNORED_SECONDS:
            more = f" ({self._ignored - 1} others were ignored before)" if self._ignored > 1 else ""
            log.error(f"a message is ignored, from process {pid or 'unknown'}: {reason}{more}")
            self._told_at, self._ignored = now, 0


class Links:
    """All links, by number. The loop of the master alone calls."""

    __slots__ = ("_links", "_poll", "_signals")

    def __init__(self, signals: SignalQueue) -> None:
        self._links: dict[int, Link] = {}
        self._signals = signals
        # poll(2), not epoll: it is no descriptor that a mold could inherit (hazard 7), and a few hundred channels are few.
        self._poll = selectors.PollSelector()
        self._poll.register(signals, selectors.EVENT_READ)

    def __iter__(self) -> Iterator[Link]:
        """Over a copy: links may go meanwhile."""
        return iter(list(self._links.values()))

    def find_link(self, number: int) -> Link | None:
        """The link of that child; None when it is no more."""
        return self._links.get(number)

    def find_link_by_pid(self, pid: int) -> Link | None:
        """The link of the child that is process `pid`."""
        return next((link for link in self._links.values() if link.pid == pid), None)

    def open_link(self, number: int, kinds: tuple[type[Message], ...] = FROM_WORKER) -> Channel:
        """Make a link to a child that is about to be forked, and may send messages of these kinds; returns the child's end.
        Raises OSError without descriptors.

        Trials, whose numbers are not positive, have no pipe for stacks.
        """
        ours, theirs = MasterEnd.pair()
        link = self._links[number] = Link(number, ours, kinds)
        self._poll.register(ours, selectors.EVENT_READ, link)
        if number > 0:
            with contextlib.suppress(OSError):  # then they go to the error log
                link.stacks, theirs.stacks = open_pipe()
                self._poll.register(link.stacks, selectors.EVENT_READ, link.stacks)
        return theirs

    def adopt_link(self, number: int, veteran: Veteran) -> None:
        """Take over the link to a worker that an older image of this process has left."""
        os.set_inheritable(veteran.fd, False)
        link = self._links[number] = Link(number, MasterEnd.of_descriptor(veteran.fd))
        link.pid, link.place, link.slot = veteran.pid, veteran.place, veteran.slot
        self._poll.register(link.channel, selectors.EVENT_READ, link)
        if veteran.stacks >= 0:
            os.set_inheritable(veteran.stacks, False)
            link.stacks = StackReader(veteran.stacks)
            self._poll.register(link.stacks, selectors.EVENT_READ, link.stacks)

    def wait_for_messages(self, timeout: float | None) -> list[Link]:
        """Wait for a signal, or for somebody who has something to say: who that is. None: without limit, in seconds."""
        spoken = []
        for key, events in self._poll.select(None if timeout is None else min(timeout, LONGEST_WAIT)):
            if isinstance(key.data, StackReader):
                if not key.data.read():
                    self._end_stacks(key.data)
                continue
            if not isinstance(key.data, Link):
                self._signals.clear_wakeups()
                continue
            if events & selectors.EVENT_WRITE:
                self._send_on(key.data)
            if events & selectors.EVENT_READ:
                spoken.append(key.data)
        return spoken

    def send(self, link: Link, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send `message` and copies of `fds` to the child, as soon as its channel has room. False when it cannot be: the link is
        hung up, nobody is at its other end, or there are no descriptors for the copies. Never waits."""
        try:
            if not link.unsent:
                return link.channel.post(message, fds)
        except BlockingIOError:
            pass
        # A mold forks one after the other, and a restart may ask it for more than its socket's buffer takes.
        copies: list[int] = []
        try:
            copies.extend(map(os.dup, fds))
        except OSError:
            for fd in copies:
                os.close(fd)
            return False
        link.unsent.append((message, copies))
        self._poll.modify(link.channel, selectors.EVENT_READ | selectors.EVENT_WRITE, link)
        return True

    def _send_on(self, link: Link) -> None:
        while link.unsent:
            message, fds = link.unsent[0]
            try:
                # Nobody there: the end of file tells.
                link.channel.post(message, fds)
            except BlockingIOError:
                return
            del link.unsent[0]
            for fd in fds:
                os.close(fd)
        self._poll.modify(link.channel, selectors.EVENT_READ, link)

    def read_messages(self, link: Link) -> Iterator[Message]:
        """The messages of the child that were not read yet, up to MAX_READ. At the end of file the link is hung up.

        Members are not trusted: the kernel tells which process has sent a message. Messages that such a process may not send are
        ignored, and so are those of other processes that hold its channel. When a process sends without end, its channel is
        closed, and the master then ends the process.
        """
        for _ in range(MAX_READ):
            if link.channel.fileno() < 0:
                return
            now = time.monotonic()
            try:
                received = link.channel.hear()
                message = None if received is None else _checked(link, *received)
            except BlockingIOError:
                return
            except ValueError as error:
                link.traffic.ignore(str(error), link.pid, now)
                message = _IGNORED
            too_many = message is not None and link.traffic.exceeds(now)
            if too_many:
                log.error(f"process {link.pid or 'unknown'} sends messages without end: its channel is closed")
            if message is None or too_many:
                link.ended_at = now
                self.close_channel(link)
                return
            if message is not _IGNORED:
                yield message

    def close_channel(self, link: Link) -> None:
        """Close the channel of a child that is dead, or is to end. Idempotent."""
        if link.channel.fileno() >= 0:
            self._poll.unregister(link.channel)
            link.channel.close()
            link.drop_unsent()

    def remove_link(self, link: Link) -> None:
        """Hang up, and forget the child."""
        self.close_channel(link)
        if link.stacks is not None:
            self._end_stacks(link.stacks)
        del self._links[link.number]

    def _end_stacks(self, stacks: StackReader) -> None:
        if stacks.fd >= 0:
            self._poll.unregister(stacks)
            stacks.close()

    def abandon(self) -> None:
        """In a fresh fork: close every inherited descriptor.

        Hazard 7: or the master's end would not show in the others' channels. Closed, never unregistered: with epoll that
        would have changed the master's own set.
        """
        for link in self._links.values():
            link.channel.abandon()
            link.drop_unsent()
            if link.stacks is not None:
                link.stacks.close()
        self._signals.abandon()

    def close(self) -> None:
        """Close all channels: whoever still lives learns that the master is gone."""
        for link in self._links.values():
            link.channel.close()
            link.drop_unsent()
            if link.stacks is not None:
                link.stacks.close()
        self._poll.close()


def _checked(link: Link, message: Message, sender: int | None) -> Message:
    """`message`, if the child of this link may have sent it. Raises ValueError with the reason if not."""
    if not isinstance(message, link.kinds):
        raise ValueError(f"this process may not send {type(message).__name__}")
    if isinstance(message, Spawned):
        if message.pid == 0 and sender is None:
            raise ValueError("the kernel does not tell which process has sent it")
        return message if message.pid else Spawned(sender or 0)
    # As long as the process is not known, its mold may report over this channel that the process cannot be made.
    if sender is not None and link.pid is not None and sender != link.pid:
        raise ValueError(f"{type(message).__name__} comes from process {sender}, which holds the channel too")
    return message
