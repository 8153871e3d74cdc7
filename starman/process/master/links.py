"""The master's links to its children: channels, process ids, and the one poll that waits for all children and signals.

Imports no other module of the master but `link`, `signals` and `stack_pipe`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import time

from starman import log
from starman.process.channel import MasterEnd
from starman.process.master.link import MAX_SENT, SENT_SECONDS, Link, checked, process_name
from starman.process.master.stack_pipe import StackReader, open_pipe
from starman.process.message_base import Message
from starman.process.messages import FROM_WORKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from starman.process.channel import Channel
    from starman.process.handover import HandedWorker
    from starman.process.master.signals import SignalQueue

# The longest wait of one poll (seconds): poll(2) takes an int of milliseconds. A longer wait ends after a day, and the
# loop waits again.
LONGEST_WAIT = 86_400.0
# How many messages are read from one process before the loop turns to the next process.
MAX_READ = 300
# Stands for an ignored message.
_IGNORED = Message()


class Links:
    """All links, by the number of the child. Only the master's loop calls."""

    __slots__ = ("_capture", "_links", "_poll", "_signals")

    def __init__(self, signals: SignalQueue, *, capture: bool = False) -> None:
        """`capture`: children get a pipe for what the application prints."""
        self._capture = capture
        self._links: dict[int, Link] = {}
        self._signals = signals
        # poll(2), not epoll: it has no descriptor that a mold could inherit (hazard 7), and it is fast enough for a
        # few hundred channels.
        self._poll = selectors.PollSelector()
        self._poll.register(signals, selectors.EVENT_READ, signals.clear_wakeups)

    def __iter__(self) -> Iterator[Link]:
        """Iterate over a copy, because links may be removed meanwhile."""
        return iter(list(self._links.values()))

    def find_link(self, number: int) -> Link | None:
        """The link of the child with this number; None if it is removed."""
        return self._links.get(number)

    def find_link_by_pid(self, pid: int) -> Link | None:
        """The link of the child that runs as process `pid`; None if no child does."""
        return next((link for link in self._links.values() if link.pid == pid), None)

    def open_link(self, number: int, kinds: tuple[type[Message], ...] = FROM_WORKER) -> Channel:
        """Make a link to a child that is about to be forked. Returns the child's end of the channel.

        kinds: the messages that the child may send. A trial, with a number below 1, has no pipe for stacks. Raises
        OSError without descriptors.
        """
        ours, theirs = MasterEnd.pair()
        link = self._links[number] = Link(number, ours, kinds)
        self._poll.register(ours, selectors.EVENT_READ, link)
        if number > 0:
            with contextlib.suppress(OSError):  # the child then writes its stacks to the error log
                link.stacks, theirs.stacks = open_pipe()
                self._poll.register(link.stacks, selectors.EVENT_READ, link.stacks)
            if self._capture:
                self._open_output(link, theirs)
        return theirs

    def _open_output(self, link: Link, theirs: Channel) -> None:
        """Make the pipe for what the application prints. Without descriptors, the child prints to descriptors 1 and
        2."""
        try:
            from starman.log.captured import open_output_pipe

            link.output, theirs.output = open_output_pipe()
            theirs.output_reader = os.dup(link.output.fd)
        except OSError as error:
            log.warning(f"what the application prints is not captured in one process: {error.strerror}")
            if link.output is not None:
                os.close(theirs.output)
                theirs.output = -1
            return
        if link.kinds is not FROM_WORKER:
            self._poll.register(link.output, selectors.EVENT_READ, link)

    def adopt_link(self, number: int, handed_worker: HandedWorker) -> None:
        """Take over the link to a worker of the older image of this process."""
        os.set_inheritable(handed_worker.fd, False)
        link = self._links[number] = Link(number, MasterEnd.of_descriptor(handed_worker.fd))
        link.pid, link.page, link.slot = handed_worker.pid, handed_worker.page, handed_worker.slot
        self._poll.register(link.channel, selectors.EVENT_READ, link)
        if handed_worker.stacks >= 0:
            os.set_inheritable(handed_worker.stacks, False)
            link.stacks = StackReader(handed_worker.stacks)
            self._poll.register(link.stacks, selectors.EVENT_READ, link.stacks)

    def wait_for_messages(self, timeout: float | None) -> list[Link]:
        """Wait for a signal or a message. Returns the links that have messages, or an end of file, to read.

        Meanwhile reads stacks that have arrived, and sends unsent messages. timeout: seconds; None: no limit.
        """
        readable = []
        for key, events in self._poll.select(None if timeout is None else min(timeout, LONGEST_WAIT)):
            if isinstance(key.data, StackReader):
                if not key.data.read():
                    self._close_stacks(key.data)
                continue
            if not isinstance(key.data, Link):
                key.data()
                continue
            if key.fileobj is key.data.output:
                if not key.data.output.read(key.data.pid or 0):
                    self._close_output(key.data)
                continue
            if events & selectors.EVENT_WRITE:
                self._send_unsent(key.data)
            if events & selectors.EVENT_READ:
                readable.append(key.data)
        return readable

    def watch(self, fd: int, callback: Callable[[], None]) -> None:
        """Call `callback` in `wait_for_messages` while this descriptor is readable, until `unwatch`."""
        self._poll.register(fd, selectors.EVENT_READ, callback)

    def unwatch(self, fd: int) -> None:
        """Undo `watch`."""
        self._poll.unregister(fd)

    def send(self, link: Link, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send `message` and copies of `fds` to the child, at once or as soon as the channel has room. Never waits.

        Returns False if the message cannot be sent: either end of the channel is closed, or there are no descriptors
        for the copies.
        """
        try:
            if not link.unsent:
                return link.channel.send_or_raise(message, fds)
        except BlockingIOError:
            pass
        # The channel is full. A mold forks workers one by one, and a restart may order more of them than the socket's
        # buffer takes.
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

    def _send_unsent(self, link: Link) -> None:
        while link.unsent:
            message, fds = link.unsent[0]
            try:
                # False, if the other end is closed, needs no reaction: the end of file follows.
                link.channel.send_or_raise(message, fds)
            except BlockingIOError:
                return
            del link.unsent[0]
            for fd in fds:
                os.close(fd)
        self._poll.modify(link.channel, selectors.EVENT_READ, link)

    def read_messages(self, link: Link) -> Iterator[Message]:
        """Read the messages that have arrived from the child, up to MAX_READ. Closes the channel at its end of file.

        Children are not trusted. The kernel says which process has sent a message. A message is ignored if the child
        may not send messages of its kind, or if it comes from another process that holds the child's channel. The
        channel of a process that sends too many messages is closed; the master then kills the process.
        """
        for _ in range(MAX_READ):
            if link.channel.fileno() < 0:
                return
            now = time.monotonic()
            try:
                received = link.channel.receive_with_sender()
                message = None if received is None else checked(link, *received)
            except BlockingIOError:
                return
            except ValueError as error:
                link.traffic.ignore(str(error), link.pid, now)
                message = _IGNORED
            too_many = message is not None and link.traffic.exceeds(now)
            if too_many:
                process = process_name(link.pid)
                log.error(f"{process} has sent over {MAX_SENT} messages in {SENT_SECONDS:g} s: its channel is closed")
            if message is None or too_many:
                link.ended_at = now
                self.close_channel(link)
                return
            if message is not _IGNORED:
                yield message

    def close_channel(self, link: Link) -> None:
        """Close the channel of a child that is dead, or that is to end. Idempotent."""
        if link.channel.fileno() >= 0:
            self._poll.unregister(link.channel)
            link.channel.close()
            link.drop_unsent()

    def remove_link(self, link: Link) -> None:
        """Close the channel and the pipe for stacks, and forget the child."""
        self.close_channel(link)
        if link.stacks is not None:
            self._close_stacks(link.stacks)
        if link.output is not None:
            link.output.read(link.pid or 0, last=True)
            self._close_output(link)
        del self._links[link.number]

    def _close_stacks(self, stacks: StackReader) -> None:
        if stacks.fd >= 0:
            self._poll.unregister(stacks)
            stacks.close()

    def _close_output(self, link: Link) -> None:
        if link.output is not None and link.output.fd >= 0:
            with contextlib.suppress(KeyError):  # that of a worker is not registered
                self._poll.unregister(link.output)
            link.output.close()

    def abandon(self) -> None:
        """In a fresh fork: close all inherited descriptors.

        Hazard 7: otherwise the other children would not see the end of file when the master ends. The descriptors are
        closed, never unregistered: with epoll, unregistering would change the master's own set.
        """
        for link in self._links.values():
            link.channel.abandon()
            link.drop_unsent()
            if link.stacks is not None:
                link.stacks.close()
            if link.output is not None:
                link.output.close()
        self._signals.abandon()

    def close(self) -> None:
        """Close all channels. The end of file tells a child that still runs that the master has ended."""
        for link in self._links.values():
            link.channel.close()
            link.drop_unsent()
            if link.stacks is not None:
                link.stacks.close()
            if link.output is not None:
                link.output.close()
        self._poll.close()
