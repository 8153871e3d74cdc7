"""Orders to children that exist, by a signal or by hanging up, and to the log. Performs what the supervisor has decided."""

from __future__ import annotations

import os
import signal
import time

from starman import log
from starman.log.in_flight import stopping_line
from starman.process.forking import STACKS
from starman.process.supervision import actions
from starman.process.supervision.actions import Level

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.master.scoreboard_reader import ScoreboardReader


def say(action: actions.LogLine) -> None:
    """Log what the supervisor has to say."""
    write = {Level.INFO: log.info, Level.WARNING: log.warning, Level.ERROR: log.error}
    write[action.level](action.text)


# How long (seconds) workers that are to drain may take to count their requests, before the log says how many there are.
COUNT_SECONDS = 0.5


class Orders:
    """The master's way to its children. Its loop alone calls."""

    __slots__ = ("_links", "_on_exit", "_reader", "_reaper", "_stopping")

    def __init__(self, links: Links, reader: ScoreboardReader, reaper: Reaper, died: Callable[[int, str], None]) -> None:
        """`died` is called with the number of a child that has just been found dead, and the cause of its death."""
        self._links = links
        self._reader = reader
        self._reaper = reaper
        self._on_exit = died
        # The seconds that a stop may take, and the instant at which the log says so at the latest; None: it has nothing to say.
        self._stopping: tuple[float, float] | None = None

    def log_kill(self, action: actions.LogKill) -> None:
        now = time.monotonic()
        link = self._links.find_link(action.child)
        serving = self._reader.describe_requests(link, now) if link is not None or not action.child else ""
        say(actions.LogLine(action.level, action.text + serving))

    def log_stopping(self, action: actions.LogStopping) -> None:
        """Log it when all workers, which are about to be told to drain, have counted their requests."""
        now = time.monotonic()
        self._stopping = action.seconds, now + COUNT_SECONDS
        self.look(now)

    def look(self, now: float) -> None:
        """Call in each round: log that a stop has begun, as soon as it is known how many requests are in flight."""
        if self._stopping is not None:
            seconds, latest = self._stopping
            if now >= latest or self._reader.all_have_counted():
                self._stopping = None
                log.info(stopping_line(self._reader.count_in_flight(), seconds, "a second signal"))

    def instants(self) -> list[float]:
        """When to look, whether something happens or not."""
        return [] if self._stopping is None else [self._stopping[1]]

    def drain(self, action: actions.Drain) -> None:
        self.kill(action.child, signal.SIGQUIT)

    def kill_child(self, action: actions.Kill) -> None:
        link = self._links.find_link(action.child)
        if link is not None and link.pid is None:
            # Should it ever come to be, it finds its channel at the end of file.
            self._on_exit(action.child, "was cut before it existed")
        else:
            self.kill(action.child, signal.SIGKILL)

    def dump_stacks(self, action: actions.DumpStacks) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            log.error(f"{action.line}{self._reader.describe_requests(link, time.monotonic())}; its stacks follow")
            self.kill(action.child, STACKS)

    def retire_mold(self, action: actions.RetireMold) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            self._links.close_channel(link)
            if not self._reaper.adopts:
                self._on_exit(action.child, "was retired")

    def kill(self, number: int, signum: int) -> None:
        """Send a signal to the child of that number, if its process is known, and still ours.

        A process that may not be signalled, because its application has changed its user, loses its channel: then it finishes
        what it has, and ends.
        """
        link = self._links.find_link(number)
        if link is None or link.pid is None or not self._reaper.owns_process(link.pid):
            return
        try:
            os.kill(link.pid, signum)
        except ProcessLookupError:
            return
        except PermissionError:
            if link.channel.fileno() >= 0:
                name = signal.Signals(signum).name
                log.error(f"process {link.pid} may not be signalled ({name}): its channel is closed, and it ends by itself")
                self._links.close_channel(link)
                if not self._reaper.adopts:
                    self._on_exit(number, "may not be signalled")
