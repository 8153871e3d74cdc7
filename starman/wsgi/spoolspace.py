"""How much disk the temporary files of one worker may take together: bodies of requests, and responses that are read slowly.

Without that bound a few clients fill the file system, and every other client, and the application, fails on it.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from typing import Final


class SpoolSpace:
    """The space of one worker. Any thread; its lock is held for a sum, never for a call to the disk.

    A lock, because the threads that write files take, and the loop takes as well; it is taken for 256 KiB or more at a time.
    """

    __slots__ = ("_limit", "lock", "used")

    def __init__(self, limit_bytes: int | None) -> None:
        """`limit_bytes` 0: no limit. None: the files may take as much as they leave free in the directory for temporary files.

        With None, any number of workers that each take all they may leave a part of the disk free, for each one looks at what
        the others have left.
        """
        self._limit = limit_bytes
        self.lock = threading.Lock()
        self.used = 0

    def has(self, count: int) -> bool:
        """Whether so many bytes more may be written. Any thread. A look: others may take them meanwhile."""
        if self._limit is None:
            free = _free_bytes()
            return free is None or self.used + count <= free - count
        return not self._limit or self.used + count <= self._limit

    def take(self, count: int) -> None:
        """Have so many bytes more. Raises OSError (ENOSPC) when they are not there, and then takes nothing."""
        if self._limit is None and not self.has(count):
            raise OSError(errno.ENOSPC, f"the temporary files of this worker take {self.used} bytes, and leave no more free")
        with self.lock:
            used = self.used + count
            if self._limit and used > self._limit:
                raise OSError(errno.ENOSPC, f"the temporary files of this worker would take {used} bytes (spool_limit)")
            self.used = used


class SpoolLease:
    """What one temporary file takes of the space; given back when the last descriptor of the file is closed. Any thread."""

    __slots__ = ("_descriptors", "_space", "_taken")

    def __init__(self, space: SpoolSpace) -> None:
        """The caller has one descriptor of the file, or is about to have it."""
        self._space = space
        self._taken = 0
        self._descriptors = 1

    def take(self, count: int) -> None:
        """The file grows. Raises OSError (ENOSPC) when there is no room. The thread that writes the file."""
        self._space.take(count)
        self._taken += count

    def hold(self) -> None:
        """There is one descriptor more."""
        with self._space.lock:
            self._descriptors += 1

    def release(self) -> None:
        """One descriptor is closed."""
        with self._space.lock:
            self._descriptors -= 1
            if not self._descriptors:
                self._space.used -= self._taken
                self._taken = 0


# Of what is written without a limit, as by tests.
UNLIMITED: Final = SpoolSpace(0)


def _free_bytes() -> int | None:
    """How much is free where temporary files are written; None: nobody can tell, or no such file was made yet.

    Local file systems answer from memory, so the loop may ask.
    """
    directory = tempfile.tempdir
    if directory is None:
        return None
    try:
        status = os.statvfs(directory)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize if status.f_blocks else None
