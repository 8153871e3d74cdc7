"""The master's loop: reaps children, acts on signals, performs the supervisor's plan, then waits for the next event.

A plain blocking loop, without asyncio, threads or HTTP. The application never runs in this process. The supervisor
decides what to do, and the executor does it. Never imports the serving side or any large module: the master stays
near 7 MB.
"""

from __future__ import annotations

import contextlib
import signal
import time

from starman import log
from starman.errors import StartError
from starman.process import parent_death
from starman.process.forking import warn_of_threads
from starman.process.host.control_socket import open_control_socket
from starman.process.host.rlimits import raise_descriptor_limit
from starman.process.master.executor import Executor
from starman.process.master.file_watching import FileWatching
from starman.process.master.link import Link
from starman.process.master.links import Links
from starman.process.master.log_reopen import LogReopen
from starman.process.master.observation import Observation
from starman.process.master.reaper import Reaper, describe
from starman.process.master.reload import Reload, terms_of
from starman.process.master.scoreboard_reader import ScoreboardReader
from starman.process.master.signals import SignalQueue
from starman.process.master.trial import Trial
from starman.process.master.upgrade import Upgrade, open_scoreboard, take_over
from starman.process.messages import Draining, DrainRequest, Failed, Handled, Loaded, Notice, Ready, Recycle, Reopened, Spawned
from starman.process.scoreboard import Scoreboard
from starman.process.status import Observers, Phase
from starman.process.supervision import actions
from starman.process.supervision.supervisor import Supervisor
from starman.process.worker.copy_on_write import immortalize_constants
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.handover import Handover
    from starman.process.host.errorlog import ErrorLog
    from starman.process.worker_spec import WorkerSpec

# Hazard 6: how long (seconds) a child's exit status may take to follow the end of file of its channel. After that the
# child counts as dead without a status.
STATUS_SLACK = 0.25
# How long to wait (seconds) after an error in the loop itself, before the next round.
_ERROR_PAUSE = 1.0
# How soon (seconds) to retry lines that the error log did not take at once.
_LOG_RETRY = 0.2
# How many different notices of children are logged: children are not trusted.
MOST_NOTICES = 20
# The numbers of the trials' links. The numbers of children begin at 1; 0 stands for all workers (`LogKill`).
_READING = -1
_TRYING = -2
# The numbers of the links of the watcher and the observer.
_WATCHING = -3
_OBSERVING = -4


class Master:
    """One server, from its first fork to the end of its last worker."""

    __slots__ = (
        *("_embedded", "_error_log", "_executor", "_exits", "_file_watching", "_handover", "_links", "_log_reopen", "_notices"),
        *("_observation", "_observers", "_reader", "_reaper", "_reload", "_signals", "_spec", "_stacks", "_supervisor"),
        *("_uncounted", "_upgrade"),
    )

    def __init__(self, spec: WorkerSpec, error_log: ErrorLog, handover: Handover | None = None) -> None:
        """Serve on the listeners of `spec`, which the master closes at the end.

        error_log: the error log that descriptor 2 points at. handover: what an older image of this process left; None:
        nothing.
        """
        self._spec = spec
        self._error_log = error_log
        self._handover = handover
        self._supervisor = Supervisor(terms_of(spec.settings, loads=spec.application is None))
        # Children found dead while an action was performed, for the next round: the number, and how the child ended.
        self._exits: list[tuple[int, str]] = []
        # The notices of children that were logged.
        self._notices: set[str] = set()

    def run(self, *, embedded: bool = False, observers: Observers | None = None) -> int:
        """Serve until a signal ends the server. Returns the exit status: 0, or 1 if the master killed workers with
        requests.

        embedded: the process belongs to another program. Its other children are then not reaped, and its title stays.
        True in any case if the program passed its application as a callable. observers: they see the server's status
        in each round.

        Raises StartError if the first start fails. Main thread only, because the master takes the signals over. At the
        end it restores the handlers; unless `embedded`, the signals stay blocked.
        """
        self._observers = observers or Observers()
        if embedded or self._spec.application is not None:
            embedded = True
            warn_of_threads()
        else:
            self._spec.set_title("master")
            if not self._spec.settings.disable_immortal_objects:
                # Before the first fork: in the molds, each would get its own copies of these pages.
                immortalize_constants()
        self._embedded = embedded
        raise_descriptor_limit()
        with contextlib.ExitStack() as cleanup:
            try:
                self._set_up_process(cleanup)
            except OSError as error:
                raise StartError(f"the master process cannot start: {error.strerror}") from None
            self._set_up_parts()
            # Registered last, so it runs first: ending the trials needs the links.
            cleanup.callback(self._observation.close)
            cleanup.callback(self._cancel_uncounted)
            status = self._run_loop()
        failure = self._executor.start_failure
        if failure is not None:
            failed = StartError(failure.reason, failure.details)
            failed.exit_status = failure.status
            raise failed
        log.info(f"starman {VERSION} has ended{'; requests were cut' if status else ''}")
        return status

    def _set_up_process(self, cleanup: contextlib.ExitStack) -> None:
        """Take over what belongs to the whole process. `cleanup` undoes each step in reverse order, so that the
        calling program finds its process as it was. Raises OSError without memory or descriptors."""
        for listener in self._spec.listeners:
            cleanup.callback(listener.close)
        for listener in self._spec.admin:
            cleanup.callback(listener.close)
        cleanup.callback(self._observers.close)
        self._reaper = Reaper(everything=not self._embedded)
        cleanup.callback(self._reaper.close)
        if self._reaper.adopts:
            parent_death.enable()
        if self._spec.settings.reload:
            from starman.process.watching.reports import ReportPipe

            self._spec.reports = ReportPipe()
            cleanup.callback(self._spec.reports.close)
        self._spec.scoreboard = Scoreboard.create() if self._handover is None else open_scoreboard(self._handover)
        cleanup.callback(self._spec.scoreboard.close)
        handed = None if self._handover is None else self._handover.control
        self._spec.control = open_control_socket(self._spec.settings, self._spec.program.working_directory.absolute, handed)
        if self._spec.control is not None:
            cleanup.callback(self._spec.control.close)
        self._signals = SignalQueue()
        cleanup.callback(self._signals.close, ending=not self._embedded)
        self._links = Links(self._signals, capture=self._spec.settings.capture_output)
        cleanup.callback(self._links.close)

    def _set_up_parts(self) -> None:
        """Make the parts of the master. After an upgrade, continue with the workers of the older image."""
        self._reader = ScoreboardReader(self._spec.scoreboard, self._links)
        self._executor = Executor(self._spec, self._links, self._reader, self._reaper, self._abandon, self)
        self._stacks = self._executor.stacks
        self._log_reopen = LogReopen(self._links, self._error_log)
        reading = Trial(_READING, self._links, self._reaper, self._abandon)
        self._reload = Reload(self._spec, self._supervisor, reading)
        trying = Trial(_TRYING, self._links, self._reaper, self._abandon)
        self._upgrade = Upgrade(self._spec, self._supervisor, self._links, self._signals, trying)
        self._file_watching = FileWatching(_WATCHING, self._spec, self._supervisor, self._links, self._reaper, self._abandon)
        self._observation = Observation(_OBSERVING, self._spec, self._supervisor, self._executor, self._links, self._reload)
        # All children that the supervisor does not count.
        children = (reading, trying, self._file_watching, self._observation)
        self._uncounted = {child.number: child for child in children}
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
                    self._cancel_uncounted()
                self._file_watching.check(time.monotonic())
                self._observation.check(time.monotonic())
                if self._reload.check_trial(time.monotonic()):
                    self._upgrade.on_restart()
                self._upgrade.check_trial(time.monotonic())
                status = self._perform_plan()
                if status is not None:
                    return status
                log.write_pending()
                self._error_log.check(time.monotonic())
                # Last, because an exec must not lose anything that has begun. For the same reason it waits while
                # the settings are read after a HUP.
                if not self._reload.busy:
                    self._upgrade.exec_when_ready(reopening=self._log_reopen.busy)
                self._wait()
            except Exception:
                import traceback

                # A bug in the master must not end the workers. The pause keeps the loop from spinning.
                log.critical(f"the master failed and continues\n{traceback.format_exc()}")
                time.sleep(_ERROR_PAUSE)

    def _reap_children(self) -> None:
        """Remove the children that have ended. Hazard 6: a child is dead when it is reaped, or when its channel is at
        the end of file, whichever comes first."""
        now = time.monotonic()
        for pid, status in self._reaper.reap(now):
            link = self._links.find_link_by_pid(pid)
            if link is not None:
                # The channel may still hold the child's last messages.
                self._handle_messages(link)
                self.remove_child(link, describe(status), status)
        for link in self._links:
            if link.ended_at is not None and (not self._reaper.adopts or now - link.ended_at >= STATUS_SLACK):
                lives = self._reaper.adopts and link.pid is not None and self._reaper.has_child(link.pid)
                if lives:
                    # Without its channel, the process cannot be supervised.
                    self._executor.send_signal(link.number, signal.SIGKILL)
                self.remove_child(link, "closed its channel" if lives else "ended")
        exits, self._exits = self._exits, []
        for number, how in exits:
            link = self._links.find_link(number)
            if link is not None:
                self.remove_child(link, how)
            else:
                self._supervisor.on_exit(number, how, now)

    def _handle_signals(self) -> None:
        for signum in self._signals.take_signals():
            now = time.monotonic()
            if signum == signal.SIGHUP:
                self._reload.begin()
            elif signum == signal.SIGUSR1:
                self._log_reopen.begin()
            elif signum == signal.SIGTTIN:
                self._supervisor.scale(len(self._supervisor.slots) + 1, now)
            elif signum == signal.SIGTTOU:
                self._supervisor.scale(len(self._supervisor.slots) - 1, now)
            elif signum == signal.SIGUSR2:
                self._upgrade.begin(embedded=self._embedded)
            else:
                if signum != signal.SIGTERM:
                    self._executor.drain_signal = signal.SIGQUIT
                self._supervisor.stop(now)

    def _perform_plan(self) -> int | None:
        """Perform the supervisor's plan. Returns the exit status if the plan ends the server, else None."""
        self._executor.log_stop_when_counted(time.monotonic())
        self._supervisor.watchdog.check(self._reader.read_heartbeats(), time.monotonic())
        for action in self._supervisor.plan(time.monotonic()):
            if isinstance(action, actions.Exit):
                return action.status
            self._executor.perform(action)
        return None

    def _wait(self) -> None:
        """Wait for an event, or until the next instant at which something is due. Then handle the messages that have
        arrived."""
        now = time.monotonic()
        self._observers.on_status(self._supervisor.server_status(), now)
        instants = [link.ended_at + STATUS_SLACK for link in self._links if link.ended_at is not None]
        instants += self._observers.next_instants() + self._error_log.next_instants()
        instants += self._stacks.next_instants() + self._executor.next_instants()
        instants += [child.deadline for child in self._uncounted.values() if child.deadline is not None]
        instant = self._supervisor.next_instant(now)
        if instant is not None:
            instants.append(instant)
        if log.pending():
            instants.append(now + _LOG_RETRY)
        timeout = 0.0 if self._exits else max(0.0, min(instants) - now) if instants else None
        for link in self._links.wait_for_messages(timeout):
            self._handle_messages(link)
        self._stacks.log_finished(time.monotonic())

    def _handle_messages(self, link: Link) -> None:  # noqa: C901 - a case for each message
        """Report a child's messages to the supervisor."""
        for message in self._links.read_messages(link):
            now = time.monotonic()
            if isinstance(message, Spawned):
                self.on_spawned(link, message.pid)
            elif isinstance(message, Reopened):
                self._log_reopen.on_reopened(link.number)
            elif link.number in self._uncounted:
                self._uncounted[link.number].on_message(message)
            elif isinstance(message, Ready | Loaded):
                if log.enabled(log.DEBUG):
                    log.debug(f"{link.title} is ready")
                self._supervisor.on_ready(link.number, now)
                self._observation.tracing.on_ready(link)
            elif isinstance(message, Recycle):
                self._supervisor.on_recycle(link.number, message.reason, now)
            elif isinstance(message, Draining):
                self._supervisor.on_draining(link.number, now)
            elif isinstance(message, DrainRequest):
                self._supervisor.on_drain_request(link.number, message.reason, now)
            elif isinstance(message, Handled):
                self._supervisor.hooks.on_handled(link.number, now)
            elif isinstance(message, Notice):
                self._log_notice(message.reason)
            elif isinstance(message, Failed):
                self._supervisor.on_failed(link.number, message.message, message.details, now, message.status)
            else:
                self._supervisor.children.keep_report(link.number, message, now)

    def _log_notice(self, text: str) -> None:
        """Log a notice of a child, once, however many children send it."""
        if text not in self._notices and len(self._notices) < MOST_NOTICES:
            self._notices.add(text)
            log.warning(text)

    # The events of a child. The executor reports them, too.

    def on_spawned(self, link: Link, pid: int) -> None:
        """The child of `link` exists, as process `pid`. Only the first report counts, and only of a descendant of the
        master."""
        if link.pid is not None:
            return
        if self._links.find_link_by_pid(pid) is None and self._reaper.owns_process(pid):
            link.pid = pid
            self._reaper.track(pid, link.opened_at)
            self._supervisor.on_spawned(link.number, pid)
        else:
            log.error(f"process {pid} does not belong to this server, and is ignored")

    def on_exit(self, number: int, how: str) -> None:
        """The child with this number is dead, or could not be forked. Removed in the next round."""
        self._exits.append((number, how))

    def remove_child(self, link: Link, how: str, status: int | None = None) -> None:
        """Remove the link of a child that has ended, and report its end. `how` completes a sentence. `status`: its
        wait status; None: not known."""
        now = time.monotonic()
        self._stacks.log_last(link, now)
        how += self._reader.describe_requests(link, now)
        if log.enabled(log.DEBUG):
            log.debug(f"{link.title} {how}")
        self._links.remove_link(link)
        self._log_reopen.on_gone(link.number)
        if link.number in self._uncounted:
            self._uncounted[link.number].on_gone(how)
            return
        self._supervisor.on_exit(link.number, how, now, status)

    def _abandon(self) -> None:
        """In a fresh fork: close what belongs to the master."""
        self._links.abandon()
        if self._spec.control is not None:
            self._spec.control.abandon()
        for listener in self._spec.admin:
            listener.close()
        self._observers.abandon()
        self._spec.scoreboard.abandon()

    def _cancel_uncounted(self) -> None:
        for child in self._uncounted.values():
            child.cancel()
