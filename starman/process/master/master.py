"""The master: supervises. A plain blocking loop, without asyncio, threads or HTTP; the application never runs in it.

What to do, the supervisor decides; how, is written here. Never imports the serving side, nor anything large: it stays below 7 MB.
"""

from __future__ import annotations

import contextlib
import signal
import time

from starman import log
from starman.errors import StartError
from starman.log.in_flight import counted
from starman.process import parent_death
from starman.process.host.rlimits import raise_descriptor_limit, release_memory, warn_of_threads
from starman.process.master.births import Births
from starman.process.master.executor import Orders, say
from starman.process.master.links import Link, Links
from starman.process.master.log_reopen import LogReopen
from starman.process.master.reaper import Reaper
from starman.process.master.reload import Reload, terms_of
from starman.process.master.scoreboard_reader import ScoreboardReader
from starman.process.master.signals import SignalQueue
from starman.process.master.stack_reports import StackReports
from starman.process.master.trial import Trial
from starman.process.master.upgrade import Upgrade, open_scoreboard, take_over
from starman.process.messages import Doomed, Draining, Failed, Loaded, Ready, Recycle, Reopened, Spawned
from starman.process.scoreboard import Scoreboard
from starman.process.status import Observers, Phase
from starman.process.supervision import actions
from starman.process.supervision.supervisor import Supervisor
from starman.process.worker.copy_on_write import immortalize
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starman.process.handover import Handover
    from starman.process.host.errorlog import ErrorLog
    from starman.process.spec import WorkerSpec

# Hazard 6: after the end of file of a process's channel, its exit status may take this long (seconds) to follow; then it
# counts as dead without.
STATUS_SLACK = 0.25
# After an error in the loop itself, how long to wait (seconds) before the next round.
_ERROR_PAUSE = 1.0
# How soon (seconds) lines that the error log did not take at once are tried again.
_LOG_RETRY = 0.2
# The names of the trials' links; those of children count from 1.
_READING = 0
_TRYING = -1


class Master:
    """One server, from its first fork to its last worker's end."""

    __slots__ = (
        *("_deaths", "_embedded", "_error_log", "_failure", "_handover", "_links", "_log_reopen", "_logged_failures"),
        *("_observers", "_orders", "_performers", "_reader", "_reaper", "_reload", "_signals", "_spec", "_stacks"),
        *("_supervisor", "_trials", "_upgrade"),
    )

    def __init__(self, spec: WorkerSpec, error_log: ErrorLog, handover: Handover | None = None) -> None:
        """Serve on the listeners of `spec`, which the master closes.

        error_log: the one that descriptor 2 points at. handover: what an older image of this process has left.
        """
        self._spec = spec
        self._error_log = error_log
        self._handover = handover
        self._supervisor = Supervisor(terms_of(spec.settings, loads=spec.application is None))
        # CrashLog found while an order was carried out, for the next round: number, and how.
        self._deaths: list[tuple[int, str]] = []
        self._failure: actions.FailStart | None = None
        # The kinds of actions that have failed, and how: each is logged once.
        self._logged_failures: set[str] = set()
        self._performers: dict[type[actions.Action], Callable[[Any], None]] = {
            actions.LogReady: self._announce,
            actions.LogLine: say,
            actions.CloseListeners: self._close_listeners,
            actions.FailStart: self._give_up,
        }

    def run(self, *, embedded: bool = False, observers: Observers | None = None) -> int:
        """Serve until a signal ends it. Returns the exit status: 0, or 1 when the master had to cut workers short.

        embedded: whether the process is some other program's, as it is when that program gave a callable: its children are not
        reaped, nor its title changed. observers: they are shown how the server is, in each round. Raises StartError when the
        first start fails. Main thread only, for it takes the signals over; they are given back at the end if `embedded`, and
        else stay blocked.
        """
        self._observers = observers or Observers()
        if embedded or self._spec.application is not None:
            embedded = True
            warn_of_threads()
        else:
            self._spec.title("master")
            # Now, not in the molds: they would each have copies of these pages.
            immortalize()
        self._embedded = embedded
        raise_descriptor_limit()
        with contextlib.ExitStack() as taken:
            try:
                self._set_up_process(taken)
            except OSError as error:
                raise StartError(f"the master cannot take what it needs: {error.strerror}") from None
            self._set_up_parts()
            # The trials before the links, through which they are ended.
            taken.callback(self._cancel_trials)
            status = self._run_loop()
        if self._failure is not None:
            raise StartError(self._failure.reason, self._failure.details)
        log.info(f"starman {VERSION} has ended{'; requests were cut' if status else ''}")
        return status

    def _set_up_process(self, taken: contextlib.ExitStack) -> None:
        """Take what belongs to the whole process. At the end all of it is given back, the last first, so that nothing is left
        behind in the calling program. Raises OSError without memory or descriptors."""
        for listener in self._spec.listeners:
            taken.callback(listener.close)
        taken.callback(self._observers.close)
        self._reaper = Reaper(everything=not self._embedded)
        taken.callback(self._reaper.close)
        if self._reaper.adopts:
            parent_death.arm()
        self._spec.scoreboard = Scoreboard.create() if self._handover is None else open_scoreboard(self._handover)
        taken.callback(self._spec.scoreboard.close)
        self._signals = SignalQueue()
        taken.callback(self._signals.close, ending=not self._embedded)
        self._links = Links(self._signals)
        taken.callback(self._links.close)

    def _set_up_parts(self) -> None:
        """Make those who do the work, and have them go on with what an older image has left."""
        self._reader = ScoreboardReader(self._spec.scoreboard, self._links)
        self._orders = orders = Orders(self._links, self._reader, self._reaper, self._on_exit)
        births = Births(self._spec, self._links, self._reader, self._abandon, self._on_spawned, self._on_exit)
        self._performers |= {
            actions.ForkMold: births.fork_mold,
            actions.SpawnMold: births.spawn_mold,
            actions.SpawnWorker: births.spawn,
            actions.Drain: orders.drain,
            actions.Kill: orders.kill_child,
            actions.DumpStacks: orders.dump_stacks,
            actions.LogKill: orders.log_kill,
            actions.LogStopping: orders.log_stopping,
            actions.RetireMold: orders.retire_mold,
            actions.Forget: self._forget,
        }
        self._stacks = StackReports(self._links, self._reader.describe_requests)
        self._log_reopen = LogReopen(self._links, self._error_log)
        reading = Trial(_READING, self._links, self._reaper, self._abandon)
        self._reload = Reload(self._spec, self._supervisor, reading)
        trying = Trial(_TRYING, self._links, self._reaper, self._abandon)
        self._upgrade = Upgrade(self._spec, self._supervisor, self._links, self._signals, trying)
        self._trials = {trial.number: trial for trial in (reading, trying)}
        if self._handover is not None:
            take_over(self._handover, self._supervisor, self._links, self._reaper)
            if self._handover.reopening:
                self._log_reopen.begin()
            if self._handover.restarting:
                self._reload.begin()

    def _run_loop(self) -> int:
        while True:
            try:
                self._reap_children()
                self._handle_signals()
                if self._supervisor.phase is Phase.STOPPING:
                    self._cancel_trials()
                if self._reload.check_trial(time.monotonic()):
                    self._upgrade.on_restart()
                self._upgrade.check_trial(time.monotonic())
                status = self._perform_plan()
                if status is not None:
                    return status
                log.write_pending()
                # After all else, for what was begun must not be forgotten, nor a HUP whose settings are being read.
                if not self._reload.busy:
                    self._upgrade.exec_when_ready(reopening=self._log_reopen.busy)
                self._wait()
            except Exception:
                import traceback

                # A fault of ours must not take the workers down, and must not spin.
                log.error(f"the master failed, and goes on\n{traceback.format_exc()}")
                time.sleep(_ERROR_PAUSE)

    def _reap_children(self) -> None:
        """Hazard 6: dead is who was reaped, or whose channel is at its end, whichever comes first."""
        now = time.monotonic()
        for pid, how in self._reaper.reap(now):
            link = self._links.find_link_by_pid(pid)
            if link is not None:
                # Its last words may still be in the channel.
                self._handle_messages(link)
                self._remove_child(link, how)
        for link in self._links:
            if link.ended_at is not None and (not self._reaper.adopts or now - link.ended_at >= STATUS_SLACK):
                lives = self._reaper.adopts and link.pid is not None and self._reaper.has_child(link.pid)
                if lives:
                    # Without its channel nobody can look after it.
                    self._orders.kill(link.number, signal.SIGKILL)
                self._remove_child(link, "closed its channel" if lives else "ended")
        deaths, self._deaths = self._deaths, []
        for number, how in deaths:
            link = self._links.find_link(number)
            if link is not None:
                self._remove_child(link, how)
            else:
                self._supervisor.on_gone(number, how, now)

    def _handle_signals(self) -> None:
        for signum in self._signals.take_signals():
            now = time.monotonic()
            if signum == signal.SIGHUP:
                self._reload.begin()
            elif signum == signal.SIGUSR1:
                self._log_reopen.begin()
            elif signum == signal.SIGTTIN:
                self._supervisor.grow()
            elif signum == signal.SIGTTOU:
                self._supervisor.shrink(now)
            elif signum == signal.SIGUSR2:
                self._upgrade.begin(embedded=self._embedded)
            else:
                self._supervisor.stop(now)

    def _perform_plan(self) -> int | None:
        """Carry the plan out; the exit status when it is the last one."""
        self._orders.look(time.monotonic())
        self._supervisor.watch.look(self._reader.read_beats(), time.monotonic())
        for action in self._supervisor.plan(time.monotonic()):
            if isinstance(action, actions.Exit):
                return action.status
            try:
                self._performers[type(action)](action)
            except Exception as error:
                self._not_done(action, error)
        return None

    def _not_done(self, action: actions.Action, error: Exception) -> None:
        """An action has failed: the others are carried out all the same. What it was about is dead, or ends at its deadline."""
        import traceback

        kind = f"{type(action).__name__}: {type(error).__name__}"
        if kind not in self._logged_failures:
            self._logged_failures.add(kind)
            log.error(f"the master could not carry out {kind}: {error}\n{traceback.format_exc()}")
        if isinstance(action, actions.ForkMold | actions.SpawnMold | actions.SpawnWorker):
            self._on_exit(action.child, f"could not be forked ({error})")

    def _wait(self) -> None:
        """Until something happens or the supervisor wants to be asked; then hear what there is."""
        now = time.monotonic()
        self._observers.see(self._supervisor.server_status(), now)
        instants = [link.ended_at + STATUS_SLACK for link in self._links if link.ended_at is not None]
        instants += self._observers.instants()
        instants += self._stacks.instants() + self._orders.instants()
        instants += [trial.deadline for trial in self._trials.values() if trial.deadline is not None]
        instant = self._supervisor.next_instant(now)
        if instant is not None:
            instants.append(instant)
        if log.pending():
            instants.append(now + _LOG_RETRY)
        timeout = 0.0 if self._deaths else max(0.0, min(instants) - now) if instants else None
        for link in self._links.wait_for_messages(timeout):
            self._handle_messages(link)
        self._stacks.log_finished(time.monotonic())

    def _handle_messages(self, link: Link) -> None:
        """Tell the supervisor what a child has said."""
        for message in self._links.read_messages(link):
            now = time.monotonic()
            if link.number in self._trials:
                self._trials[link.number].on_message(message)
            elif isinstance(message, Spawned):
                self._on_spawned(link, message.pid)
            elif isinstance(message, Ready | Loaded):
                self._supervisor.on_ready(link.number, now)
            elif isinstance(message, Recycle):
                self._supervisor.on_recycle(link.number, message.reason)
            elif isinstance(message, Draining):
                self._supervisor.on_draining(link.number, now)
            elif isinstance(message, Doomed):
                self._supervisor.on_doomed(link.number, message.reason, now)
            elif isinstance(message, Reopened):
                self._log_reopen.on_reopened(link.number)
            elif isinstance(message, Failed):
                self._supervisor.on_failed(link.number, message.message, message.details, now)

    def _on_spawned(self, link: Link, pid: int) -> None:
        if link.pid is not None:
            return
        if self._links.find_link_by_pid(pid) is None and self._reaper.owns_process(pid):
            link.pid = pid
            self._reaper.track(pid, link.opened_at)
            self._supervisor.on_spawned(link.number, pid)
        else:
            log.error(f"process {pid} does not belong to this server, and is ignored")

    def _abandon(self) -> None:
        """In a fresh fork: close what is the master's."""
        self._links.abandon()
        self._observers.abandon()
        self._spec.scoreboard.abandon()

    def _cancel_trials(self) -> None:
        for trial in self._trials.values():
            trial.cancel()

    def _on_exit(self, number: int, how: str) -> None:
        self._deaths.append((number, how))

    def _remove_child(self, link: Link, how: str) -> None:
        now = time.monotonic()
        self._stacks.log_last(link, now)
        how += self._reader.describe_requests(link, now)
        self._links.remove_link(link)
        if link.number in self._trials:
            self._trials[link.number].on_gone(how)
            return
        self._log_reopen.on_gone(link.number)
        self._supervisor.on_gone(link.number, how, now)

    # How each action is performed.

    def _forget(self, action: actions.Forget) -> None:
        link = self._links.find_link(action.child)
        if link is not None:
            self._remove_child(link, "was killed")

    def _announce(self, action: actions.LogReady) -> None:
        threads = self._spec.settings.threads
        urls = ", ".join(listener.url for listener in self._spec.listeners)
        log.info(
            f"starman {VERSION} ready: {counted(action.workers, 'worker')} × {counted(threads, 'thread')} on {urls}"  # noqa: RUF001
        )
        release_memory()

    def _close_listeners(self, action: actions.CloseListeners) -> None:
        for listener in self._spec.listeners:
            listener.close()

    def _give_up(self, action: actions.FailStart) -> None:
        self._failure = action
