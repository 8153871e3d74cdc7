"""Reads what an application prints (`--capture-output`) from a pipe, and logs it line by line.

The worker reads its own pipe, so that the lines are in order with its own records. After its death, the master reads
what is left. The master also reads the pipes of molds, which must not have threads.
"""

from __future__ import annotations

import _thread
import contextlib
import fcntl
import os
import time

from starman import log
from starman.log.output import duplicate_high

# How much is read at once, and the capacity of the pipe if the system allows it (bytes).
_READ_BYTES = 16_384
_PIPE_BYTES = 1_048_576
# A longer line is logged in parts (bytes).
MOST_IN_LINE = 8192
# How much is read before a record is logged: what the pipe holds, so that a flood does not hold the record up.
_READS = _PIPE_BYTES // _READ_BYTES
# How much is read by a thread before others may read, and how long (seconds) it then leaves the lock to others.
_READS_OF_THREAD = 1
_YIELD_SECONDS = 0.002
# How long (seconds) a record waits for another thread that is reading.
_LOCK_SECONDS = 1.0


class OutputReader:
    """The reading end of one process's pipe. Any thread may call `read`.

    fd: -1 once it is closed.
    """

    __slots__ = ("_ending", "_lock", "_owner", "_rest", "_waiting", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._rest = b""
        self._lock = _thread.allocate_lock()
        # The thread that reads: a signal handler in that thread must not wait for it.
        self._owner = 0
        # The threads that wait for the reading thread. Without this, that thread would take the lock again at once.
        self._waiting: set[int] = set()
        self._ending = False

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self.fd

    def read(self, pid: int = 0, *, last: bool = False, reads: int = _READS) -> bool:
        """Log the lines that have arrived, without waiting for more, by so many reads at most. `pid`: the process that
        has printed them; 0: this one. `last`: an unfinished line counts, too. Returns False if the other end is
        closed."""
        ident = _thread.get_ident()
        if self._owner == ident or self.fd < 0:
            return self.fd >= 0
        self._waiting.add(ident)
        taken = self._lock.acquire(True, _LOCK_SECONDS)
        self._waiting.discard(ident)
        if not taken:
            return True
        self._owner = ident
        try:
            return self._read(pid, reads, last=last)
        finally:
            self._owner = 0
            self._lock.release()

    def read_last(self) -> None:
        """Call at the end of the process that reads its own pipe: log what has arrived, and close the reader. What
        comes later is left for the master."""
        self._ending = True
        self.read(last=True)
        # Without the lock, another thread could have read lines that it would not log before the end.
        if self._owner != _thread.get_ident() and self._lock.acquire(True, _LOCK_SECONDS):
            try:
                self.close()
            finally:
                self._lock.release()

    def read_on(self) -> bool:
        """As `read`, for a thread that does nothing else."""
        if self._waiting:
            time.sleep(_YIELD_SECONDS)
        return not self._ending and self.read(reads=_READS_OF_THREAD)

    def _read(self, pid: int, reads: int, *, last: bool) -> bool:
        is_open = True
        if self.fd < 0:  # closed while this thread waited for the lock
            return False
        for _ in range(reads):
            try:
                data = os.read(self.fd, _READ_BYTES)
            except OSError:  # nothing has arrived
                break
            if not data:
                is_open = False
                break
            lines, self._rest = split_lines(self._rest + data)
            for line in lines:
                log.application_output(line, pid)
        if self._rest and (last or not is_open):
            rest, self._rest = self._rest, b""
            log.application_output(_text(rest), pid)
        return is_open

    def close(self) -> None:
        """Close the pipe. Idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def split_lines(data: bytes) -> tuple[list[str], bytes]:
    """The complete lines in `data`, and the rest. A line that is too long is several."""
    *lines, rest = data.split(b"\n")
    found = [part for line in lines for part in _parts(line.removesuffix(b"\r"))]
    while len(rest) > MOST_IN_LINE:
        found.append(_text(rest[:MOST_IN_LINE]))
        rest = rest[MOST_IN_LINE:]
    return found, rest


def _parts(line: bytes) -> list[str]:
    return [_text(line[start : start + MOST_IN_LINE]) for start in range(0, max(len(line), 1), MOST_IN_LINE)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def open_output_pipe() -> tuple[OutputReader, int]:
    """Make a pipe. Returns its reader, which does not block, and the descriptor to write to. Raises OSError."""
    reading, writing = os.pipe()
    try:
        high = duplicate_high(reading)
    except OSError:
        os.close(writing)
        raise
    finally:
        os.close(reading)
    os.set_blocking(high, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the pipes of this user have reached their limit
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    return OutputReader(high), writing
