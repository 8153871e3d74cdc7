"""How much disk the temporary files of one worker may take together: bodies of requests, and responses that are read slowly.

Without this limit a few clients could fill the file system, and other clients and the application would fail.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from typing import Final


class SpoolSpace:
    """The space of one worker. Any thread: the threads that write files take space, and so does the loop.

    The lock is held for an addition, never during a call to the disk, and taken once for 256 KiB or more.
    """

    __slots__ = ("_limit", "lock", "used")

    def __init__(self, limit_bytes: int | None) -> None:
        """`limit_bytes` 0: no limit. None: the files may take as much as they leave free in the directory for temporary files.

        With None, a part of the disk stays free however many workers take all they may, because each checks what the others have
        left.
        """
        self._limit = limit_bytes
        self.lock = threading.Lock()
        self.used = 0

    def has(self, count: int) -> bool:
        """Whether so many bytes more may be written now. Any thread. Other files may take the space right after that."""
        if self._limit is None:
            free = _free_bytes()
            return free is None or self.used + count <= free - count
        return not self._limit or self.used + count <= self._limit

    def take(self, count: int) -> None:
        """Take so many bytes more. Raises OSError (ENOSPC) when there is no room, and then takes nothing."""
        if self._limit is None and not self.has(count):
            raise OSError(errno.ENOSPC, f"the temporary files of this worker take {self.used} bytes, and the disk is full")
        with self.lock:
            used = self.used + count
            if self._limit and used > self._limit:
                raise OSError(errno.ENOSPC, f"the temporary files of this worker would take {used} bytes (spool_limit)")
            self.used = used


class SpoolLease:
    """The space that one temporary file takes, returned when the last descriptor of the file is closed. Any thread."""

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
        """The file has one more descriptor."""
        with self._space.lock:
            self._descriptors += 1

    def release(self) -> None:
        """One descriptor is closed."""
        with self._space.lock:
            self._descriptors -= 1
            if not self._descriptors:
                self._space.used -= self._taken
                self._taken = 0


# For files that are written without a limit, as in tests.
UNLIMITED: Final = SpoolSpace(0)


def _free_bytes() -> int | None:
    """How many bytes are free in the directory for temporary files; None: unknown, or no such file was made yet.

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
