"""A part of a file that is still to be sent, by the thread first, then by the loop: sendfile(2) from a descriptor of its own."""

from __future__ import annotations

import os


class FileRest:
    """A part of a file that is still to be sent. It has a descriptor of its own, which whoever holds it closes."""

    __slots__ = ("count", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count

    def close(self) -> None:
        """Give the descriptor back. May be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def send_some(fd: int, rest: FileRest) -> int:
    """One os.sendfile. Either side. 0: the socket takes nothing now. Raises OSError, EOFError if the file has shrunk (17)."""
    try:
        sent = os.sendfile(fd, rest.fd, rest.offset, min(rest.count, 1 << 30))
    except BlockingIOError:
        return 0
    if not sent:
        raise EOFError("the file is shorter than it was")
    return sent
