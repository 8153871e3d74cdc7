"""A part of a file that is still to be sent, by the thread first, then by the loop: sendfile(2) from a descriptor of its own."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from starman import log
from starman.background import close_in_background

if TYPE_CHECKING:
    from starman.wsgi.spool_space import SpoolLease

# A spool that reaches no further (bytes) is freed in no time.
_SMALL_SPOOL = 262_144
# sendfile(2) is not allowed in this process, or not made for this kind of file.
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)
# How much (bytes) is read and written at a time without sendfile.
_COPIED_BYTES = 262_144
# The error of sendfile, once it was logged.
_refused: list[OSError] = []


class FileRange:
    """A part of a file that is still to be sent. It has a descriptor of its own, which whoever holds it closes.

    Whoever sends it moves `offset`. `end` stays, but for a spool's: the thread that writes the spool moves it on.
    """

    __slots__ = ("_lease", "end", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int, lease: SpoolLease | None = None) -> None:
        """`lease`: the file is a spool of ours and has no name, so that closing it may free a lot of disk."""
        self.fd = fd
        self.offset = offset
        self.end = offset + count
        self._lease = lease
        if lease is not None:
            lease.hold()

    @property
    def count(self) -> int:
        """How many bytes are still to be sent."""
        return self.end - self.offset

    @property
    def is_spool(self) -> bool:
        """Whether the file is ours, and not the application's."""
        return self._lease is not None

    def close(self) -> None:
        """Give the descriptor back, for a thread to close if that takes its time. May be called more than once."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if self._lease is None:
            os.close(fd)
        elif self.end > _SMALL_SPOOL:
            close_in_background(_close_spool, fd, self._lease)
        else:
            _close_spool(fd, self._lease)


def _close_spool(fd: int, lease: SpoolLease) -> None:
    os.close(fd)
    lease.release()


def send_some(fd: int, rest: FileRange) -> int:
    """One os.sendfile. Either side. 0: the socket takes nothing now. Raises OSError, EOFError if the file has shrunk (17)."""
    try:
        sent = os.sendfile(fd, rest.fd, rest.offset, min(rest.count, 1 << 30))
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        sent = _copy_some(fd, rest, error)
    if not sent and rest.count:
        raise EOFError("the file is shorter than it was")
    return max(0, sent)


def _copy_some(fd: int, rest: FileRange, refusal: OSError) -> int:
    """As `os.sendfile`, where a sandbox or the kind of file does not allow it; -1: the socket takes nothing now."""
    if refusal.errno != errno.EINVAL and not _refused:
        _refused.append(refusal)
        log.warning(f"files are sent by read and write, which is slower (sendfile: {refusal.strerror})")
    try:
        return os.write(fd, os.pread(rest.fd, min(rest.count, _COPIED_BYTES), rest.offset))
    except BlockingIOError:
        return -1
