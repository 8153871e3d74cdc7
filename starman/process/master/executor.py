"""Performs the supervisor's actions: forks, signals, closes channels and logs. Decides nothing.

Never imports the serving side.
"""

from __future__ import annotations

import gc
import os
import signal
import time

from starman import log
from starman.log.in_flight import counted, stopping_line
from starman.process.forking import fork, signal_name
from starman.process.long_messages import prepare_text
from starman.process.master.stack_reports import StackReports
from starman.process.messages import FROM_HOOKS, FROM_MOLD, FROM_WORKER, Role, Spawn
from starman.process.supervision import actions
from starman.process.supervision.actions import Level
from starman.process.worker.malloc import release_free_pages
from starman.process.worker.mold import become_mold
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from starman.process.channel import Channel
    from starman.process.master.link import Link
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.master.scoreboard_reader import ScoreboardReader
    from starman.process.message_base import Message
    from starman.process.worker_spec import WorkerSpec

    class ChildEvents(Protocol):
        """What the executor reports to the master about a child."""

        def on_spawned(self, link: Link, pid: int) -> None:
            """The child of `link` exists, as process `pid`."""

        def on_exit(self, number: int, how: str) -> None:
            """The child with this number is dead, or could not be forked. `how` completes a sentence."""

        def remove_child(self, link: Link, how: str) -> None:
            """Remove the child of `link` now. `how` completes a sentence."""


# How long (seconds) draining workers may take to count their requests before the log gives the count without them. The
# line must not be later: it names the second signal, which counts from then on.
COUNT_SECONDS = 1.0


class Executor:
    """Performs one action at a time. Only the master's loop calls.

    abandon: closes, in a fresh fork, the descriptors that belong to the master. events: receives what happens to
    children. stacks: requests and logs the stacks of children. start_failure: why the first start failed; None if it
    has not failed. drain_signal: what a worker is sent to have it drain. Workers treat SIGTERM and SIGQUIT alike;
    hooks of gunicorn tell them apart.
    """

    __slots__ = (
        *("_links", "_logged_failures", "_reader", "_reaper", "_spec", "_stop_to_log"),
        *("abandon", "drain_signal", "events", "stacks", "start_failure"),
    )

    def __init__(
        self,
        spec: WorkerSpec,
        links: Links,
        reader: ScoreboardReader,
        reaper: Reaper,
        abandon: Callable[[], None],
        events: ChildEvents,
    ) -> None:
        self.drain_signal: int = signal.SIGTERM
        self._spec = spec
        self._links = links
        self._reader = reader
        self._reaper = reaper
        self.abandon = abandon
        self.events = events
        self.stacks = StackReports(links, reader.describe_requests, self.send_signal)
        self.start_failure: actions.FailStart | None = None
        # Each kind of action that failed, with its kind of error: each pair is logged once.
        self._logged_failures: set[str] = set()
        # A stop that is not logged yet: the seconds that it may take, and the instant at which it is logged at the
        # latest.
        self._stop_to_log: tuple[float, float] | None = None

    def perform(self, action: actions.Action) -> None:
        """Perform `action`. Never raises: an error is logged, and the next action can be performed all the same.

        A child that could not be forked is reported as dead. If the action on any other child fails, the child ends at
        its deadline.
        """
        try:
            self._perform(action)
        except Exception as error:
            import traceback

            kind = f"{type(action).__name__}: {type(error).__name__}"
            if kind not in self._logged_failures:
                self._logged_failures.add(kind)
                log.error(f"the master could not carry out {kind}: {error}\n{traceback.format_exc()}")
            if isinstance(action, actions.ForkMold | actions.SpawnMold | actions.SpawnWorker | actions.SpawnHooks):
                self.events.on_exit(action.child, f"could not be forked ({error})")

    def _perform(self, action: actions.Action) -> None:  # noqa: C901 - a case for each action
        match action:
            case actions.ForkMold():
                self._fork_mold(action)
            case actions.SpawnMold():
                self._spawn(action.origin, action.child, Spawn(Role.MOLD, 0, settings=action.settings))
            case actions.SpawnWorker():
                self._spawn(action.mold, action.child, Spawn(Role.WORKER, action.slot, settings=action.settings))
            case actions.SpawnHooks():
                role = Role.STARTING_HOOKS if action.starting else Role.HOOKS
                self._spawn(action.mold, action.child, Spawn(role, 0, settings=action.settings))
            case actions.SendEvent():
                self._send_event(action)
            case actions.Drain():
                self.send_signal(action.child, self.drain_signal)
            case actions.Kill():
                self._kill(action)
            case actions.DumpStacks():
                self._dump_stacks(action)
            case actions.RetireMold() | actions.RetireHooks():
                self._retire(action)
            case actions.Forget():
                self._forget(action)
            case actions.LogReady():
                self._log_ready(action)
            case actions.LogStopping():
                self._log_stopping(action)
            case actions.LogKill():  # a subclass of LogLine, so its case comes first
                self._log_kill(action)
            case actions.LogLine():
                _write_line(action.level, action.text)
            case actions.CloseListeners():
                for listener in self._spec.listeners:
                    listener.close()
            case actions.FailStart():
                self.start_failure = action
            case _:
                raise TypeError("this action is unknown")

    # Children that are to be forked.

    def _fork_mold(self, action: actions.ForkMold) -> None:
        channel = self._open_link(action.child, FROM_MOLD)
        if channel is None:
            return
        # The mold's garbage collector then does not write to the headers of inherited objects, so their pages stay
        # shared.
        gc.freeze()
        try:
            pid = fork()
        except OSError as error:
            gc.unfreeze()
            channel.close()
            self.events.on_exit(action.child, f"could not be forked ({error.strerror})")
            return
        if pid == 0:
            become_mold(channel, self._spec, self.abandon)
        gc.unfreeze()
        channel.close()
        link = self._links.find_link(action.child)
        assert link is not None
        self.events.on_spawned(link, pid)

    def _spawn(self, mold: int, number: int, order: Spawn) -> None:
        """Have a mold fork the child `number`. The child's end of the channel is sent with the order."""
        channel = self._open_link(number, {Role.WORKER: FROM_WORKER, Role.MOLD: FROM_MOLD}.get(order.role, FROM_HOOKS))
        if channel is None:
            return
        if order.role is Role.WORKER:
            order.page = self._reader.assign_page(number)
        child_link, mold_link = self._links.find_link(number), self._links.find_link(mold)
        assert child_link is not None
        child_link.slot = order.slot
        board = self._spec.scoreboard.fd
        fds = [*channel.fds(), board] if order.page and board >= 0 else channel.fds()
        sent = mold_link is not None and self.send_order(mold_link, order, fds)
        channel.close()
        if not sent:
            self.events.on_exit(number, "could not be forked (the mold, which forks workers, does not answer)")

    def send_order(self, link: Link, order: Spawn, fds: list[int]) -> bool:
        """Send a mold an order, with copies of `fds`. Returns False if its channel is closed."""
        parts, order.settings = prepare_text(order.settings)
        for part in parts:
            self._links.send(link, part)
        return self._links.send(link, order, fds)

    def _open_link(self, number: int, kinds: tuple[type[Message], ...]) -> Channel | None:
        """The child's end of a new link. None without descriptors: the child is then reported as dead."""
        try:
            return self._links.open_link(number, kinds)
        except OSError as error:
            self.events.on_exit(number, f"could not be forked ({error.strerror})")
            return None

    # Children that exist.

    def send_signal(self, number: int, signum: int) -> None:
        """Send a signal to the child with this number, if its process is known and still belongs to this server.

        If the application has changed the user of its process, the master may not signal it. The master then closes
        the channel of the process, which finishes its requests and ends.
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
                name = signal_name(signum)
                log.error(f"process {link.pid} may not be signalled ({name}): its channel is closed, and it ends by itself")
                self._links.close_channel(link)
                if not self._reaper.adopts:
                    self.events.on_exit(number, "may not be signalled")

    def _kill(self, action: actions.Kill) -> None:
        link = self._links.find_link(action.child)
        if link is not None and link.pid is None:
            # If the process comes to exist after all, it finds its channel closed, and ends.
            self.events.on_exit(action.child, "was killed before its process existed")
        else:
            self.send_signal(action.child, signal.SIGKILL)

    def _dump_stacks(self, action: actions.DumpStacks) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            now = time.monotonic()
            log.error(f"{action.line}{self._reader.describe_requests(link, now)}; its stacks follow")
            self.stacks.request(link, now)

    def _send_event(self, action: actions.SendEvent) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            self._links.send(link, action.event)

    def _retire(self, action: actions.RetireMold | actions.RetireHooks) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            self._links.close_channel(link)
            if not self._reaper.adopts:
                self.events.on_exit(action.child, "was retired")

    def _forget(self, action: actions.Forget) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            self.events.remove_child(link, "was killed")

    # The error log.

    def log_stop_when_counted(self, now: float) -> None:
        """Log that a stop has begun, once the number of requests in flight is known. Call it in each round of the
        loop."""
        if self._stop_to_log is not None:
            seconds, latest = self._stop_to_log
            complete = self._reader.all_have_counted()
            if now >= latest or complete:
                self._stop_to_log = None
                log.info(stopping_line(self._reader.count_in_flight(), seconds, "a second signal", complete=complete))

    def next_instants(self) -> list[float]:
        """The monotonic instants at which `log_stop_when_counted` is to be called even if nothing happens."""
        return [] if self._stop_to_log is None else [self._stop_to_log[1]]

    def _log_stopping(self, action: actions.LogStopping) -> None:
        now = time.monotonic()
        self._stop_to_log = action.seconds, now + COUNT_SECONDS
        self.log_stop_when_counted(now)

    def _log_kill(self, action: actions.LogKill) -> None:
        link = self._links.find_link(action.child)
        found = link is not None or not action.child
        requests = self._reader.describe_requests(link, time.monotonic()) if found else ""
        _write_line(action.level, action.text + requests)

    def _log_ready(self, action: actions.LogReady) -> None:
        threads = self._spec.settings.threads
        urls = ", ".join(listener.url for listener in self._spec.listeners)
        if self._spec.admin:
            log.info(
                f"the admin page, health checks and metrics are on {', '.join(listener.url for listener in self._spec.admin)}"
            )
        log.info(
            f"starman {VERSION} ready: {counted(action.workers, 'worker')} × {counted(threads, 'thread')} on {urls}"  # noqa: RUF001
        )
        release_free_pages()


def _write_line(level: Level, text: str) -> None:
    write = {Level.INFO: log.info, Level.WARNING: log.warning, Level.ERROR: log.error}
    write[level](text)
