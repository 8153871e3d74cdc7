"""Channel: one end of a socket pair that carries messages, and descriptors beside them, between two of our processes.

Never imports starman's other rooms. One thread at a time per end.
"""

from __future__ import annotations

import array
import os
import socket
import sys

from starman.process.messages import PACKET_BYTES, Message, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The most descriptors that travel with one message.
_FDS = 4
# Hazard 6: packets, for on a byte stream two messages arrived merged. macOS has no SOCK_SEQPACKET: datagrams keep
# the borders as well, and a closed peer shows as ECONNRESET.
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class Channel:
    """One end. `receive` returns None at the end of file: the other end is closed in every process that held it."""

    __slots__ = ("_socket",)

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Two connected ends, blocking and close-on-exec. Raises OSError when descriptors run out."""
        ends = socket.socketpair(socket.AF_UNIX, _KIND)
        if sys.platform == "darwin":
            for end in ends:
                # The default there, 2 kB, would refuse a traceback.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * PACKET_BYTES)
        return cls(ends[0]), cls(ends[1])

    @classmethod
    def of_descriptor(cls, fd: int) -> Channel:
        """The end whose descriptor arrived with a message. The channel owns `fd` from now on."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """The descriptor, to poll; -1 when closed."""
        return self._socket.fileno()

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """As `post`, but False too when the socket's buffer is full: whoever reads at the other end has not done it for long."""
        try:
            return self.post(message, fds)
        except BlockingIOError:
            return False

    def post(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send `message` and copies of `fds`. False when it cannot be, for nobody is there to read it.

        Never waits: raises BlockingIOError when the socket's buffer is full. As Linux sets it, it has room for 8 of the largest
        messages, and for 278 short ones.
        """
        try:
            if fds:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                self._socket.sendmsg([encode(message)], rights, socket.MSG_DONTWAIT)
            else:
                self._socket.send(encode(message), socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError:
            return False
        return True

    def receive(self) -> tuple[Message, list[int]] | None:
        """Wait for the next message and the descriptors that came with it, or for the end of file (None).

        Raises ValueError for a packet that is no message.
        """
        return self._receive(0)

    def poll(self) -> tuple[Message, list[int]] | None:
        """As `receive`, but raises BlockingIOError at once when nothing has arrived yet."""
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, flags: int) -> tuple[Message, list[int]] | None:
        room = socket.CMSG_SPACE(_FDS * array.array("i").itemsize)
        try:
            packet, ancillary, _, _ = self._socket.recvmsg(PACKET_BYTES, room, flags | _CLOEXEC)
        except ConnectionError:
            return None
        fds = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
        for fd in fds:
            # Hazard 6: descriptors that arrive are not close-on-exec by themselves; an application's child would keep
            # the channel open, and its end would never show.
            os.set_inheritable(fd, False)
        if not packet:
            return None
        return decode(packet), list(fds)

    def close(self) -> None:
        """Close this end. The other end sees the end of file once every process that holds this one has closed it."""
        self._socket.close()

    def abandon(self) -> None:
        """In a fresh fork: close the inherited descriptor, and see to it that no object closes that number once more."""
        fd = self._socket.detach()
        if fd >= 0:
            os.close(fd)
