"""USR1: every process opens its logs again, so that what somebody has renamed is written no more. The master's side.

The error log is descriptor 2: the master opens it, with the rights and the path that it was started with, and sends the
descriptor. An access log is a worker's own. For whoever is still starting, or not even forked, the order waits in its channel.
"""

from __future__ import annotations

from starman import log
from starman.process.messages import Reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.host.errorlog import ErrorLog
    from starman.process.master.links import Links


class LogReopen:
    """Tells all children, and the log, when the last of them has done it. The loop of the master alone calls."""

    __slots__ = ("_awaited", "_error_log", "_links")

    def __init__(self, links: Links, error_log: ErrorLog) -> None:
        self._links = links
        self._error_log = error_log
        # The children that have not answered yet, and how often they still have to.
        self._awaited: dict[int, int] = {}

    @property
    def busy(self) -> bool:
        """Whether somebody has still to follow."""
        return bool(self._awaited)

    def begin(self) -> None:
        """Open the error log again, and order everybody to follow."""
        try:
            fds = [2] if self._error_log.reopen() else []
        except OSError as error:
            log.error(f"the error log stays as it is, because it cannot be opened again: {error.strerror}")
            fds = []
        log.info("reopening the logs")
        for link in self._links:
            # Trials, whose names are not positive, are short, and have no log of their own.
            if link.number > 0 and self._links.send(link, Reopen(), fds):
                self._awaited[link.number] = self._awaited.get(link.number, 0) + 1
        self._log_when_done()

    def on_reopened(self, number: int) -> None:
        """A child has followed an order."""
        left = self._awaited.pop(number, 0) - 1
        if left > 0:
            self._awaited[number] = left
        elif left == 0:
            self._log_when_done()

    def on_gone(self, number: int) -> None:
        """A child has ended, and writes no more."""
        if self._awaited.pop(number, 0):
            self._log_when_done()

    def _log_when_done(self) -> None:
        if not self._awaited:
            log.info("the logs are reopened")
