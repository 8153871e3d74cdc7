"""Reads from /proc/thread-self/io how many bytes a thread has read and written (Linux).

In a process that is not dumpable, for example because it has changed its user since its last exec, only root may open
this file. Linux checks again at each read, but always allows a process to read about its own threads
(`ptrace_may_access`). So a descriptor opened before the change remains usable.
"""

from __future__ import annotations

import os
import re

PATH = "/proc/thread-self/io"

_MOVED = re.compile(rb"^[rw]char: (\d+)$", re.MULTILINE)

# A descriptor of the file, with its device and inode, because an application may close the descriptor, and another
# file may get its number.
_kept: tuple[int, tuple[int, int]] | None = None


def keep_open() -> None:
    """Open the file of the calling thread for later calls of `bytes_moved` in it. Call before code of the application
    runs."""
    global _kept  # noqa: PLW0603
    try:
        fd = os.open(PATH, os.O_RDONLY | os.O_CLOEXEC)
        _kept = fd, _identity(fd)
    except OSError:
        _kept = None


def descriptors() -> list[int]:
    """The descriptor that is kept open, if there is one."""
    return [_kept[0]] if _kept is not None and _is_kept(*_kept) else []


def bytes_moved() -> int:
    """How many bytes the calling thread has read and written so far. Raises OSError if the file cannot be read.

    Call from the thread that called `keep_open`, if any.
    """
    try:
        with open(PATH, "rb") as file:
            text = file.read()
    except OSError:
        if _kept is None or not _is_kept(*_kept):
            raise
        text = os.pread(_kept[0], 4096, 0)
    return sum(map(int, _MOVED.findall(text)))


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _is_kept(fd: int, identity: tuple[int, int]) -> bool:
    try:
        return _identity(fd) == identity
    except OSError:
        return False
