"""The socket that threads write to: a duplicate of a connection's descriptor, and the bytes that are held back for
it."""

from __future__ import annotations

import _socket
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Final

from starman.log.output import FIRST_FREE
from starman.serving.sending.sendfile import send_some
from starman.serving.sending.socket_state import has_finished, is_reset
from starman.standard_streams import move_descriptor_up

if TYPE_CHECKING:
    from starman.serving.sending.sendfile import FileRange

# How many bytes are held back together.
MOST_HELD: Final = 131_072
# Up to so many bytes are copied behind a head, to be written with it in one piece; more are written from where they
# are.
_COPIED: Final = 65_536
# Up to so many bytes that were held back are copied together; more are written from where they are, if the pieces are
# few.
_JOINED: Final = 16_384
_FEW: Final = 16
# No connection may have a descriptor up to this one: an application that has closed it may still print to it.
_STANDARD_ERROR: Final = 2
# Without MSG_MORE (macOS), the end of the stream is a packet of its own.
_MORE: Final = getattr(socket, "MSG_MORE", 0)
_WITH_THE_END: Final = _JOINED if _MORE else 0
# Without SOCK_NONBLOCK, an application's `socket.setdefaulttimeout` would make the socket wait for room.
_NEVER_WAITS: Final = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)


class ThreadSocket:
    """Loop and threads use it with the lock of its `Writer` held.

    fd: the duplicate; -1 before the first request, while the connection is idle, on TLS, and when the connection is
    lost.
    held, held_size: the pieces that are held back, in order, to be written before anything else (None: nothing), and
    their bytes.
    finished: whether the end of the stream was sent to the client.
    peer_finished: whether the loop has received the end of the client's stream.
    """

    __slots__ = ("fd", "finished", "held", "held_size", "peer_finished")

    def __init__(self) -> None:
        self.fd = -1
        self.finished = False
        self.peer_finished = False
        self.held: list[bytes] | None = None
        self.held_size = 0

    def open(self, fd: int) -> None:
        """Duplicate the connection's own descriptor `fd`, once; not if it is -1 (TLS).

        Raises OSError when none is left.
        """
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
        """Write what is held back, then `head` and `data`, as much as the socket takes. Returns what it did not take;
        None: it took everything. Raises OSError when the connection is dead."""
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
        """Write what is held back, with `head` and `data` behind it."""
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
        """Write what is held back and end the stream (RFC 9112 §9.6), in one packet if there is room: that saves a
        packet, and a wake-up of the client. Returns what the socket did not take: then the stream has not ended. None:
        everything is done, or there is no duplicate. Raises OSError when the connection is dead."""
        if self.finished or self.fd < 0:
            return None
        if self.held_size > _WITH_THE_END and (unsent := self._write_behind(b"", b"")) is not None:
            return unsent
        data = b"".join(self.held or ())
        self.forget()
        # The system ignores the family of an existing descriptor, and finding it out would take three more calls.
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

    def send_file(self, file_range: FileRange) -> None:
        """Have the kernel send what the socket takes of a file, and move `file_range` on. Raises OSError, EOFError."""
        file_range.offset += send_some(self.fd, file_range)

    def is_reset(self) -> bool:
        """Whether the client has reset the connection, even if the loop cannot see that (hazard 5). False on TLS."""
        return self.fd >= 0 and is_reset(self.fd)

    def has_peer_finished(self) -> bool:
        """Whether the client has ended its stream, even if the loop has not read so far (hazard 5). On TLS: whether
        the loop has read so far."""
        return self.peer_finished or (self.fd >= 0 and has_finished(self.fd))

    def duplicate(self) -> int:
        """Another descriptor of the connection, which the caller closes. Raises OSError when none is left."""
        return fcntl.fcntl(self.fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)

    def give(self) -> int:
        """Give the descriptor away."""
        fd, self.fd = self.fd, -1
        return fd

    def forget(self) -> None:
        """Forget what is held back."""
        self.held = None
        self.held_size = 0

    def close(self) -> None:
        """Close the duplicate, and forget what is held back. May be called more than once."""
        self.forget()
        fd, self.fd = self.fd, -1
        if fd >= 0:
            try:
                os.close(fd)
            except OSError:  # an application has closed it
                return
