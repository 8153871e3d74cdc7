"""Pipes that carry the stacks of workers and molds to the master.

`faulthandler` writes line by line, and does not name the process. If several processes wrote to the error log at the
same time, their stacks could not be told apart. So the master logs each dump as one entry. Imports no other module of
the master.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from starman import log
from starman.log.output import duplicate_high
from starman.process.worker.stacks import arranged

# A dump has no end mark. It is finished when nothing has arrived for _QUIET seconds, or after _LONGEST seconds.
_QUIET = 0.1
_LONGEST = 1.0
# The longest part of a dump (bytes) that is kept, and the capacity of the pipe: it holds that much while the master is
# busy.
_MAX_BYTES = 262_144


class StackReader:
    """The master's end of one process's pipe. Only the master's loop calls.

    fd: -1 once the other end is closed. due: the monotonic instant at which to log what was read; None if nothing was
    read.
    """

    __slots__ = ("_begun", "_data", "due", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._data = bytearray()
        self._begun = 0.0
        self.due: float | None = None

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self.fd

    def read(self) -> bool:
        """Read what has arrived, without waiting. Returns False if the other end is closed."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, _MAX_BYTES)
        except BlockingIOError:
            return True
        now = time.monotonic()
        if data:
            if self.due is None:
                self._begun = now
            self._data += data[: _MAX_BYTES - len(self._data)]
            self.due = min(now + _QUIET, self._begun + _LONGEST)
        return bool(data)

    def take_text(self) -> str:
        """The text that was read since the last call."""
        text = self._data.decode("utf-8", "replace")
        self._data.clear()
        self.due = None
        return text

    def close(self) -> None:
        """Close the pipe. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_pipe() -> tuple[StackReader, int]:
    """Make a pipe. Returns the master's end, and the descriptor to which a worker or mold writes. Neither end blocks.
    Raises OSError."""
    reading, writing = os.pipe()
    try:
        high = duplicate_high(writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    os.set_blocking(reading, False)
    os.set_blocking(high, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the pipes of this user have reached their limit
            fcntl.fcntl(high, fcntl.F_SETPIPE_SZ, _MAX_BYTES)
    return StackReader(reading), high


def log_own_stacks(title: str) -> None:
    """Log the stacks of all threads of this process, which the log calls `title`.

    Never raises. Any thread, but not in a signal handler that `faulthandler` has installed.
    """
    import faulthandler

    try:
        reader, writing = open_pipe()
    except OSError as error:
        log.error(f"the stacks of {title} cannot be shown: {error.strerror}")
        return
    try:
        faulthandler.dump_traceback(writing)
        reader.read()
        log.info(f"stacks of {title}\n{arranged(reader.take_text())}")
    finally:
        os.close(writing)
        reader.close()
