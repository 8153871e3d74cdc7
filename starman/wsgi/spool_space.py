"""Limits the disk space that the temporary files of one worker use together, for request bodies and unsent responses.

Without this limit, a few clients could fill the file system, so that other clients and the application would fail.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from typing import Final


class SpoolSpace:
    """The disk space of one worker. Any thread, the loop included.

    The lock is held for an addition, never during a call to the disk, and taken once for 256 KiB or more.
    """

    __slots__ = ("_limit", "lock", "used")

    def __init__(self, limit_bytes: int | None) -> None:
        """`limit_bytes` 0: no limit. None: the files may use as much space as remains free in their directory.

        With None, a part of the disk remains free with any number of workers, because each one checks the space that
        the others have left.
        """
        self._limit = limit_bytes
        self.lock = threading.Lock()
        self.used = 0

    def has(self, count: int) -> bool:
        """Whether `count` more bytes may be written now. Any thread. Other files may use the space right after the
        call."""
        if self._limit is None:
            free = _free_bytes()
            return free is None or self.used + count <= free - count
        return not self._limit or self.used + count <= self._limit

    def reserve_bytes(self, count: int) -> None:
        """Reserve `count` more bytes. Raises OSError (ENOSPC) when there is no space, and reserves nothing then."""
        if self._limit is None and not self.has(count):
            raise OSError(errno.ENOSPC, f"the temporary files of this worker take {self.used} bytes, and the disk is full")
        with self.lock:
            used = self.used + count
            if self._limit and used > self._limit:
                raise OSError(errno.ENOSPC, f"the temporary files of this worker would take {used} bytes (spool_limit)")
            self.used = used


class SpoolLease:
    """The space reserved for one temporary file, until the last descriptor of the file is closed. Any thread."""

    __slots__ = ("_descriptors", "_space", "_taken")

    def __init__(self, space: SpoolSpace) -> None:
        """Counts one descriptor of the file, which the caller has or is about to open."""
        self._space = space
        self._taken = 0
        self._descriptors = 1

    def reserve_bytes(self, count: int) -> None:
        """Reserve space before the file grows. Raises OSError (ENOSPC) when there is none. The thread that writes the
        file."""
        self._space.reserve_bytes(count)
        self._taken += count

    def hold(self) -> None:
        """Count one more descriptor of the file."""
        with self._space.lock:
            self._descriptors += 1

    def release(self) -> None:
        """Count one closed descriptor; after the last one, return the space."""
        with self._space.lock:
            self._descriptors -= 1
            if not self._descriptors:
                self._space.used -= self._taken
                self._taken = 0


# For files that are written without a limit, as in tests.
UNLIMITED: Final = SpoolSpace(0)


def _free_bytes() -> int | None:
    """The free bytes in the directory for temporary files; None: unknown, or `tempfile` has not chosen a directory
    yet.

    The loop may call it, because local file systems answer from memory.
    """
    directory = tempfile.tempdir
    if directory is None:
        return None
    try:
        status = os.statvfs(directory)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize if status.f_blocks else None
