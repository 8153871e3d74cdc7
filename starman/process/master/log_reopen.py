"""USR1 in the master: reopens the error log, has every child reopen its logs, and logs when all of them have.

The master opens the error log, with the rights and the path of its own start, and sends the descriptor to each child,
where it becomes descriptor 2. Each worker reopens its access log itself. The order to a child that is still starting,
or not even forked, waits in the child's channel.
"""

from __future__ import annotations

from starman import log
from starman.process.messages import FROM_OBSERVER, Reopen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.host.errorlog import ErrorLog
    from starman.process.master.links import Links


class LogReopen:
    """Counts the children that have not reopened their logs yet. Only the master's loop calls."""

    __slots__ = ("_awaited", "_error_log", "_links")

    def __init__(self, links: Links, error_log: ErrorLog) -> None:
        self._links = links
        self._error_log = error_log
        # By the child's number: how many orders the child has not answered yet.
        self._awaited: dict[int, int] = {}

    @property
    def busy(self) -> bool:
        """Whether a child has not reopened its logs yet."""
        return bool(self._awaited)

    def begin(self) -> None:
        """Reopen the error log, and send all children the order to do the same."""
        try:
            fds = [2] if self._error_log.reopen() else []
        except OSError as error:
            log.error(f"the error log stays as it is, because it cannot be opened again: {error.strerror}")
            fds = []
        log.info("reopening the logs")
        for link in self._links:
            # The numbers of trials are not positive. A trial is short, and has no log of its own.
            if (link.number > 0 or link.kinds is FROM_OBSERVER) and self._links.send(link, Reopen(), fds):
                self._awaited[link.number] = self._awaited.get(link.number, 0) + 1
        self._log_when_done()

    def on_reopened(self, number: int) -> None:
        """A child has followed one order."""
        left = self._awaited.pop(number, 0) - 1
        if left > 0:
            self._awaited[number] = left
        elif left == 0:
            self._log_when_done()

    def on_gone(self, number: int) -> None:
        """A child has ended, so it writes to no log."""
        if self._awaited.pop(number, 0):
            self._log_when_done()

    def _log_when_done(self) -> None:
        if not self._awaited:
            log.info("the logs are reopened")
