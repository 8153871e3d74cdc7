"""What threads write to: a duplicate of one connection's descriptor, and what is held back for it."""

from __future__ import annotations

import _socket
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Final

from starman.log.output import FIRST_FREE
from starman.serving.sending.file_range import send_some
from starman.serving.sending.socket_state import is_reset
from starman.standard_streams import move_descriptor_up

if TYPE_CHECKING:
    from starman.serving.sending.file_range import FileRange

# How many bytes are held back together.
MOST_HELD: Final = 131_072
# Up to so many bytes are copied behind a head, or behind what was held back, to leave in one piece; more go from where they are.
_COPIED: Final = 65_536
# What is held back is copied together, up to so many bytes; more goes from where it is, if the pieces are few.
_JOINED: Final = 16_384
_FEW: Final = 16
# The last of the descriptors that no connection may have: an application may have closed one of them, and still print to it.
_STANDARD_ERROR: Final = 2
# Where the system cannot be told that more will come (macOS), the end is a packet of its own.
_MORE: Final = getattr(socket, "MSG_MORE", 0)
_WITH_THE_END: Final = _JOINED if _MORE else 0
# With the application's `socket.setdefaulttimeout` it would wait for room.
_NEVER_WAITS: Final = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


class ThreadSocket:
    """Loop and threads use it, with the lock of its `Writer` held.

    fd: the duplicate, -1 without: before the first request, while the connection rests, on TLS, and when it is lost.
    held: what is still to be written, before anything else, in order; None: nothing. held_size: how many bytes that are.
    finished: whether the client was told that nothing more will come.
    """

    __slots__ = ("fd", "finished", "held", "held_size")

    def __init__(self) -> None:
        self.fd = -1
        self.finished = False
        self.held: list[bytes] | None = None
        self.held_size = 0

    def open(self, fd: int) -> None:
        """Duplicate the connection's own descriptor, unless that was done, or is -1 (TLS). Raises OSError when none is left."""
        if self.fd < 0 <= fd:
            duplicate = os.dup(fd)
            self.fd = duplicate if duplicate > _STANDARD_ERROR else move_descriptor_up(duplicate)

    def hold(self, data: bytes) -> bool:
        """Hold `data` back. False: that would be too much, and `data` is not held."""
        size = self.held_size + len(data)
        if size > MOST_HELD:
            return False
        self.held_size = size
        if self.held is None:
            self.held = [data]
        else:
            self.held.append(data)
        return True

    def write(self, head: bytes, data: bytes) -> memoryview | None:
        """Write what was held back, a head and what follows it, as much as the socket takes. What it does not take; None: it has
        all. Raises OSError when the connection is dead."""
        if self.held is not None:
            return self._write_behind(head, data)
        if len(data) <= _COPIED:
            head, data = head + data, b""
        try:
            sent = os.writev(self.fd, (head, data)) if data else os.write(self.fd, head)
        except BlockingIOError:
            sent = 0
        if sent == len(head) + len(data):
            return None
        return memoryview(data)[sent - len(head) :] if sent >= len(head) else memoryview(head[sent:] + data)

    def _write_behind(self, head: bytes, data: bytes) -> memoryview | None:
        """Write what was held back, and the rest behind it."""
        pieces = self.held or []
        size = self.held_size + len(head) + len(data)
        self.forget()
        if head:
            pieces.append(head)
        if data:
            pieces.append(data)
        try:
            if size > _JOINED and len(pieces) <= _FEW:
                sent = os.writev(self.fd, pieces)
            else:
                pieces = [b"".join(pieces)]
                sent = os.write(self.fd, pieces[0])
        except BlockingIOError:
            sent = 0
        return None if sent == size else memoryview(b"".join(pieces))[sent:]

    def finish(self) -> memoryview | None:
        """Write what was held back, and tell the client that nothing more will come (RFC 9112 §9.6), in the same packet if that
        has room: it is one less to send, and to wake the client for. Returns what the socket does not take, and then has told
        nothing; None: all is done, or there is no duplicate to do it with. Raises OSError when the connection is dead."""
        if self.finished or self.fd < 0:
            return None
        if self.held_size > _WITH_THE_END and (rest := self._write_behind(b"", b"")) is not None:
            return rest
        data = b"".join(self.held or ())
        self.forget()
        # The system goes by the number, whatever family is claimed; to find out would be three calls more.
        stream = _socket.socket(_socket.AF_UNIX, _NEVER_WAITS, 0, self.fd)
        try:
            sent = stream.send(data, _MORE) if data else 0
            if sent == len(data):
                stream.shutdown(_socket.SHUT_WR)
                self.finished = True
        except BlockingIOError:
            sent = 0
        finally:
            stream.detach()
        return memoryview(data)[sent:] if sent < len(data) else None

    def send_file(self, rest: FileRange) -> None:
        """Let the kernel send what the socket takes of a file, and move `rest` on. Raises OSError, EOFError."""
        rest.offset += send_some(self.fd, rest)

    def is_reset(self) -> bool:
        """Whether the client has reset the connection, even if the loop cannot see it (hazard 5); on TLS it alone can."""
        return self.fd >= 0 and is_reset(self.fd)

    def duplicate(self) -> int:
        """Another descriptor, which the caller closes. Raises OSError when none is left."""
        return fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)

    def give(self) -> int:
        """Give the descriptor away."""
        fd, self.fd = self.fd, -1
        return fd

    def forget(self) -> None:
        """Nothing is held back any more."""
        self.held = None
        self.held_size = 0

    def close(self) -> None:
        """Give the descriptor back, and forget what was held. May be called more than once."""
        self.forget()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:  # an application has closed it
                return
