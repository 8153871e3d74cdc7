"""Pipes that carry the stacks of workers and molds to the master.

`faulthandler` writes line by line, and does not name the process. If several processes wrote to the error log at the
same time, their stacks could not be told apart. So the master logs each dump as one entry. Imports no other module of
the master.
"""

from __future__ import annotations

import os
import time

from starman.process.worker.stack_dumps import MAX_BYTES, open_dump_pipe

# A dump has no end mark. It is finished when nothing has arrived for _QUIET seconds, or after _LONGEST seconds.
_QUIET = 0.1
_LONGEST = 1.0
# A process that has written nothing for so long (seconds) after STACKS runs no Python code in its main thread, and is
# sent FORCED_STACKS.
FORCE_SECONDS = 0.5


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
            data = os.read(self.fd, MAX_BYTES)
        except BlockingIOError:
            return True
        now = time.monotonic()
        if data:
            if self.due is None:
                self._begun = now
            self._data += data[: MAX_BYTES - len(self._data)]
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
    reading, writing = open_dump_pipe()
    return StackReader(reading), writing
