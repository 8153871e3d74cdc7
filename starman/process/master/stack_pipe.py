"""Pipes that bring the stacks of workers and molds to the master, which writes each dump to the error log as one entry.

`faulthandler` writes line by line, and does not name the process. If several processes wrote to the error log at the same time,
their stacks could not be told apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from starman import log
from starman.log.output import duplicate_high
from starman.process.worker.stacks import arranged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starman.process.master.links import Link

# A dump has no end mark: it is over when nothing has come for _QUIET seconds, or after _LONGEST seconds.
_QUIET = 0.1
_LONGEST = 1.0
# The most of a dump (bytes) that is kept; what the pipe holds while the master does something else.
_MOST_BYTES = 262_144


class StackReader:
    """The master's end of one process's pipe. fd: -1 once the other end is closed. due: when to log what was read; None: nothing
    was. The loop of the master alone calls."""

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
        """Read what there is. False: the other end is closed."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, _MOST_BYTES)
        except BlockingIOError:
            return True
        now = time.monotonic()
        if data:
            if self.due is None:
                self._begun = now
            self._data += data[: _MOST_BYTES - len(self._data)]
            self.due = min(now + _QUIET, self._begun + _LONGEST)
        return bool(data)

    def take_text(self) -> str:
        """What was read since the last call."""
        text = self._data.decode("utf-8", "replace")
        self._data.clear()
        self.due = None
        return text

    def close(self) -> None:
        """May be called more than once."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_pipe() -> tuple[StackReader, int]:
    """The master's end, and the descriptor that a worker or mold writes to; both do not block. Raises OSError."""
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
        with contextlib.suppress(OSError):  # the user has many pipes
            fcntl.fcntl(high, fcntl.F_SETPIPE_SZ, _MOST_BYTES)
    return StackReader(reading), high


class StackReports:
    """Logs the dumps of all children. The loop of the master alone calls."""

    __slots__ = ("_links", "_serving")

    def __init__(self, links: Iterable[Link], serving: Callable[[Link, float], str]) -> None:
        """`serving` says what a link's worker is serving."""
        self._links = links
        self._serving = serving

    def instants(self) -> list[float]:
        """When dumps will be over."""
        return [link.stacks.due for link in self._links if link.stacks is not None and link.stacks.due is not None]

    def log_finished(self, now: float) -> None:
        """Log the dumps that are over."""
        for link in self._links:
            if link.stacks is not None and link.stacks.due is not None and link.stacks.due <= now:
                self._log(link, now)

    def log_last(self, link: Link, now: float) -> None:
        """The child has ended: log what it has written last."""
        if link.stacks is not None:
            link.stacks.read()
            if link.stacks.due is not None:
                self._log(link, now)

    def _log(self, link: Link, now: float) -> None:
        assert link.stacks is not None
        text = arranged(link.stacks.take_text())
        if text:
            write = log.error if text.startswith("Fatal") else log.info
            write(f"stacks of {link.title}{self._serving(link, now)}\n{text}")


def log_own_stacks(title: str) -> None:
    """Log the stacks of all threads of this process. Never raises. Any thread; not in a signal handler that `faulthandler` has
    installed."""
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
