"""What threads write to: a duplicate of one connection's descriptor, and the small responses that are held back for it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from starman.serving.filerest import send_some
from starman.serving.socketstate import is_reset

if TYPE_CHECKING:
    from starman.serving.filerest import FileRest

# Up to so many bytes are copied behind a head, or behind what was held back, to leave in one piece; more go from where they are.
_COPIED: Final = 65_536


class Outlet:
    """Loop and threads use it, with the lock of its `Writer` held.

    fd: the duplicate, -1 without: before the first request, while the connection rests, on TLS, and when it is lost.
    held: whole responses that are still to be written, before anything else.
    """

    __slots__ = ("fd", "held")

    def __init__(self) -> None:
        self.fd = -1
        self.held = b""

    def open(self, fd: int) -> None:
        """Duplicate the connection's own descriptor, unless that was done, or is -1 (TLS). Raises OSError when none is left."""
        if self.fd < 0 <= fd:
            self.fd = os.dup(fd)

    def write(self, head: bytes, data: bytes) -> memoryview | None:
        """Write what was held back, a head and what follows it, as much as the socket takes. What it does not take; None: it has
        all. Raises OSError when the connection is dead."""
        if self.held:
            head, self.held = self.held + head, b""
        if len(data) <= _COPIED:
            head, data = head + data, b""
        try:
            sent = os.writev(self.fd, (head, data)) if data else os.write(self.fd, head)
        except BlockingIOError:
            sent = 0
        if sent == len(head) + len(data):
            return None
        return memoryview(data)[sent - len(head) :] if sent >= len(head) else memoryview(head[sent:] + data)

    def send_file(self, rest: FileRest) -> None:
        """Let the kernel send what the socket takes of a file, and move `rest` on. Raises OSError, EOFError."""
        rest.offset += send_some(self.fd, rest)

    def is_reset(self) -> bool:
        """Whether the client has reset the connection, even if the loop cannot see it (hazard 5); on TLS it alone can."""
        return self.fd >= 0 and is_reset(self.fd)

    def give(self) -> int:
        """Give the descriptor away."""
        fd, self.fd = self.fd, -1
        return fd

    def close(self) -> None:
        """Give the descriptor back, and forget what was held. May be called more than once."""
        self.held = b""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
