"""A part of a file that is still to be sent: by sendfile(2), first by the thread, then by the loop."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from starman import log
from starman.background import close_in_background

if TYPE_CHECKING:
    from starman.wsgi.spool_space import SpoolLease

# Closing a spool file up to this size (bytes) takes no time.
_SMALL_SPOOL = 262_144
# Errors of sendfile(2): not allowed in this process, or not supported for this kind of file.
_REFUSALS = (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL)
# How much (bytes) is read and written at a time without sendfile.
_COPIED_BYTES = 262_144
# The error of sendfile that was logged; empty: none was. Any side, without a lock: at worst two errors are logged.
_refused: list[OSError] = []


class FileRange:
    """A part of a file that is still to be sent, with a descriptor of its own. The side that has it closes it.

    The side that sends the file moves `offset`. `end` stays the same, unless the file is a spool: its thread moves
    `end`.
    """

    __slots__ = ("_lease", "end", "fd", "offset")

    def __init__(self, fd: int, offset: int, count: int, lease: SpoolLease | None = None) -> None:
        """`lease`: of a spool file. It has no name, so closing it may free much disk.

        None: the file is the application's.
        """
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
        """Whether the file is a spool of the server, and not the application's."""
        return self._lease is not None

    def close(self) -> None:
        """Close the descriptor, in another thread if that may take long. May be called more than once."""
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


def send_some(fd: int, file_range: FileRange) -> int:
    """Call os.sendfile once. Either side. 0: the socket takes nothing now.

    Raises OSError; EOFError if the file has shrunk.
    """
    try:
        sent = os.sendfile(fd, file_range.fd, file_range.offset, min(file_range.count, 1 << 30))
    except BlockingIOError:
        return 0
    except OSError as error:
        if error.errno not in _REFUSALS:
            raise
        sent = _copy_some(fd, file_range, error)
    if not sent and file_range.count:
        raise EOFError("the file is shorter than it was")
    return max(0, sent)


def _copy_some(fd: int, file_range: FileRange, refusal: OSError) -> int:
    """Do as `os.sendfile` where a sandbox or the kind of file forbids it. -1: the socket takes nothing now."""
    if refusal.errno != errno.EINVAL and not _refused:
        _refused.append(refusal)
        log.warning(f"files are sent by read and write, which is slower (sendfile: {refusal.strerror})")
    try:
        return os.write(fd, os.pread(file_range.fd, min(file_range.count, _COPIED_BYTES), file_range.offset))
    except BlockingIOError:
        return -1
