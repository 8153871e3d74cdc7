"""Channel: one end of a socket pair that carries messages and descriptors between two processes of the server.

Imports no other folder of starman. One thread at a time per end.
"""

from __future__ import annotations

import array
import errno
import os
import select
import socket
import stat
import struct
import sys

from starman.process.message_base import PACKET_BYTES, Message
from starman.process.messages import Spawned, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

# The most descriptors that travel with one message.
_FDS = 6
# How long (milliseconds) to wait before a full buffer is tried again.
_FULL_MILLISECONDS = 100
# Hazard 6: packets, because on a byte stream two messages arrived merged. macOS has no SOCK_SEQPACKET: datagrams keep
# the borders too, and a closed peer shows as ECONNRESET.
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# struct ucred of unix(7): pid, uid, gid.
CREDENTIALS = struct.Struct("=3i")
_HAS_CREDENTIALS = hasattr(socket, "SO_PASSCRED")


class Channel:
    """One end. `receive_message` returns None at the end of file: every process that held the other end has closed it.

    stacks: in a worker or mold, the descriptor to which stacks are written. output, output_reader: both ends of the
    pipe for what the application prints (`--capture-output`). `close` closes them, too. -1: none.
    """

    __slots__ = ("_socket", "output", "output_reader", "stacks")

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self.stacks = self.output = self.output_reader = -1

    @staticmethod
    def pair() -> tuple[MasterEnd, Channel]:
        """Two connected ends, the master's first; blocking and close-on-exec. Raises OSError when descriptors run
        out."""
        ends = socket.socketpair(socket.AF_UNIX, _KIND)
        if sys.platform == "darwin":
            for end in ends:
                # The default there, 2 kB, would refuse a traceback.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_BYTES)
        return MasterEnd(ends[0]), Channel(ends[1])

    @classmethod
    def of_descriptor(cls, fd: int) -> Self:
        """The end with the descriptor `fd`, which arrived with a message. The channel owns `fd` from now on."""
        return cls(socket.socket(fileno=fd))

    @classmethod
    def of_descriptors(cls, fds: Sequence[int]) -> tuple[Self, Sequence[int]]:
        """The channel of the descriptors `fds`, with those of its pipes, and the descriptors left over."""
        channel = cls.of_descriptor(fds[0])
        pipes = [fd for fd in fds[1:] if stat.S_ISFIFO(os.fstat(fd).st_mode)]
        others = [fd for fd in fds[1:] if fd not in pipes]
        if len(pipes) in (1, 3):
            channel.stacks = pipes.pop(0)
        if pipes:
            channel.output, channel.output_reader = pipes
        return channel, others

    def fds(self) -> list[int]:
        """All descriptors of this end, in the order that `of_descriptors` expects."""
        return [self.fileno(), *(fd for fd in (self.stacks, self.output, self.output_reader) if fd >= 0)]

    def fileno(self) -> int:
        """The descriptor, for poll(2); -1 when closed."""
        return self._socket.fileno()

    def send_spawned(self) -> bool:
        """Tell the master that this process is the child at this end. Returns as `send` does."""
        return self.send(Spawned(0 if _HAS_CREDENTIALS else os.getpid()))

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """As `send_or_raise`, but return False, too, when the socket's buffer is full: the other end has not read for
        long."""
        try:
            return self.send_or_raise(message, fds)
        except BlockingIOError:
            return False

    def send_waiting(self, message: Message) -> bool:
        """As `send`, but wait while the socket's buffer is full. Only when the process at the other end keeps
        reading."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        while True:
            try:
                return self.send_or_raise(message)
            except BlockingIOError:
                # With a time limit: where a full buffer is ENOBUFS (macOS), poll(2) reports the socket as writable.
                poll.poll(_FULL_MILLISECONDS)

    def send_or_raise(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send `message` and copies of `fds`. Returns False when the other end is closed.

        Never waits: raises BlockingIOError when the socket's buffer is full. With the default size of Linux it has
        room for 8 of the largest messages, or for 278 short ones.
        """
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._socket.sendmsg([encode(message)], rights, socket.MSG_DONTWAIT)
            else:
                self._socket.send(encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno == errno.ENOBUFS:  # macOS: the buffer of the reader is full
                raise BlockingIOError(error.errno, error.strerror) from None
            return False
        return True

    def receive_message(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message and its descriptors. Returns None at the end of file.

        Raises ValueError for a packet that is not a message; its descriptors are closed.
        """
        return self._receive(0)

    def receive_if_any(self) -> tuple[Message, list[int]] | None:
        """As `receive_message`, but raise BlockingIOError when nothing has arrived."""
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> tuple[Message, list[int]] | None:
        packet = self._read(flags, socket.CMSG_SPACE(_FDS * array.array("i").itemsize))
        if packet is None or not packet.data:
            return None
        try:
            return packet.message(), packet.fds
        except ValueError:
            packet.drop()
            raise

    def _read(self, flags: int, room: int) -> _Packet | None:
        """The next packet, with at most `room` bytes of ancillary data; None when the other end was reset."""
        try:
            data, ancillary, found, _ = self._socket.recvmsg(PACKET_BYTES, room, flags | _CLOEXEC)
        except ConnectionError:
            # When the other end was closed with unread messages, Linux reports this error once, before the packets
            # that were sent.
            try:
                data, ancillary, found, _ = self._socket.recvmsg(PACKET_BYTES, room, flags | _CLOEXEC)
            except ConnectionError:
                return None
        fds = array.array("i")
        sender = None
        for level, kind, item in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(item[: len(item) - len(item) % fds.itemsize])
            elif level == socket.SOL_SOCKET and _HAS_CREDENTIALS and kind == socket.SCM_CREDENTIALS:
                # Process id 0: the message was sent before this end asked for credentials.
                sender = CREDENTIALS.unpack(item)[0] or None
        for fd in fds:
            # Hazard 6: received descriptors are not close-on-exec by themselves. An application's child would keep the
            # channel open, and its end of file would never come.
            os.set_inheritable(fd, False)
        return _Packet(data, list(fds), sender, found)

    def close(self) -> None:
        """Close this end. The other end reads the end of file when every process that holds this end has closed it."""
        self._socket.close()
        self._close_pipes()

    def abandon(self) -> None:
        """In a fresh fork: close the inherited descriptor, and detach it, so that no object closes the same number
        again."""
        fd = self._socket.detach()
        if fd >= 0:
            os.close(fd)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for fd in (self.stacks, self.output, self.output_reader):
            if fd >= 0:
                os.close(fd)
        self.stacks = self.output = self.output_reader = -1


class MasterEnd(Channel):
    """The master's end. The process at the other end may run an application, and is not trusted."""

    __slots__ = ()

    def __init__(self, end: socket.socket) -> None:
        super().__init__(end)
        if _HAS_CREDENTIALS:
            # The kernel adds the sender's process id to each message. A process id inside the message is not reliable:
            # an application may have replaced os.getpid. SO_PEERCRED of a socket pair names the process that made it,
            # the master.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def receive_with_sender(self) -> tuple[Message, int | None] | None:
        """The next message, and the process id of its sender; None at the end of file. Takes no descriptors.

        The process id is None where the kernel does not report it (macOS). Raises BlockingIOError when nothing has
        arrived, and ValueError for a packet that no process of the server sends.
        """
        # Without room for descriptors, Linux installs none. Elsewhere they are installed, and closed here.
        room = socket.CMSG_SPACE(CREDENTIALS.size) if _HAS_CREDENTIALS else socket.CMSG_SPACE(_FDS * array.array("i").itemsize)
        packet = self._read(socket.MSG_DONTWAIT, room)
        if packet is None or not (packet.data or packet.sender):
            return None
        packet.drop()
        if packet.fds or packet.flags & socket.MSG_CTRUNC:
            raise ValueError("a message with descriptors")
        return packet.message(), packet.sender


class _Packet:
    """The result of recvmsg(2). sender: the process id that the kernel reports; None where it reports none."""

    __slots__ = ("data", "fds", "flags", "sender")

    def __init__(self, data: bytes, fds: list[int], sender: int | None, flags: int) -> None:
        self.data = data
        self.fds = fds
        self.sender = sender
        self.flags = flags

    def message(self) -> Message:
        """Decode the packet. Raises ValueError when it is not a message."""
        if self.flags & socket.MSG_TRUNC:
            raise ValueError(f"a message of more than {PACKET_BYTES} bytes")
        return decode(self.data)

    def drop(self) -> None:
        """Close the descriptors."""
        for fd in self.fds:
            os.close(fd)
