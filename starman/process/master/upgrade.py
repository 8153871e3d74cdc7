"""USR2 in the master: tries the installed version in a child, then execs it and hands over listeners and workers.

Hazard 14: the master does not start a second master. If the master is the first process of a container, the container
would end with the old master; below start_server there would be two servers; systemd would lose track of the main
process. An exec keeps the process id, the children and the adoption of orphans.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from starman import log
from starman.config.revision import encode_settings
from starman.log.in_flight import counted
from starman.process.forking import GUARDED, flush_streams
from starman.process.handover import (
    FORMAT,
    HANDOVER_VARIABLE,
    IN_FILE,
    MOST_IN_VARIABLE,
    TRIAL_VARIABLE,
    HandedControl,
    HandedListener,
    HandedWorker,
    Handover,
    encode,
)
from starman.process.host.text_file import store_text
from starman.process.messages import Approved, Failed
from starman.process.scoreboard import Scoreboard
from starman.process.status import Phase
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.host.listeners import Listener
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.master.signals import SignalQueue
    from starman.process.master.trial import Trial
    from starman.process.message_base import Message
    from starman.process.supervision.supervisor import Supervisor
    from starman.process.worker_spec import Program, WorkerSpec


class Upgrade:
    """The steps from the signal to the exec. Only the master's loop calls."""

    __slots__ = ("_links", "_restarting", "_settings", "_signals", "_spec", "_supervisor", "_trial")

    def __init__(self, spec: WorkerSpec, supervisor: Supervisor, links: Links, signals: SignalQueue, trial: Trial) -> None:
        """`trial` is used for upgrades only."""
        self._spec = spec
        self._supervisor = supervisor
        self._links = links
        self._signals = signals
        self._trial = trial
        # The settings that the trial of this upgrade has approved; None before.
        self._settings: str | None = None
        # Whether a restart with other settings was requested since the upgrade began.
        self._restarting = False

    def begin(self, *, embedded: bool) -> None:
        """Begin to try the installed version.

        embedded: the server runs inside another program. The upgrade is then refused: the master cannot start that
        program again.
        """
        if self._supervisor.phase is Phase.STOPPING:
            return
        if embedded:
            log.error("no upgrade: this server runs inside another program; restart that program instead")
            return
        self._settings = None
        self._restarting = False
        self._supervisor.hold(on=False)
        log.info("upgrading: the installed version is tried first")
        running = self._supervisor.terms.settings or encode_settings(self._spec.settings)
        self._trial.start(self._exec_trial, self._supervisor.terms.boot_timeout, running)

    def on_restart(self) -> None:
        """A restart was requested. The trial may have read the settings before they were changed."""
        self._restarting = True

    def check_trial(self, now: float) -> None:
        """If the trial is over, prepare the exec, or log why there is no upgrade."""
        outcome = self._trial.take_outcome(now)
        if isinstance(outcome, Approved):
            version, *refused = outcome.notes.splitlines()
            log.info(f"upgrading to {version}")
            for line in refused:
                log.warning(line)
            self._settings = outcome.settings
            # No new workers until the exec. Those that are starting must become ready or end first, because the next
            # image would not know which orders their mold has.
            self._supervisor.hold(on=True)
        elif outcome is not None:
            log.error(f"upgrade given up, nothing has changed: {outcome.describe()}")

    def exec_when_ready(self, *, reopening: bool) -> None:
        """Exec the new version, if a trial has approved it and no worker is starting. Returns if there is no exec.

        reopening: whether a child has not reopened its logs yet.
        """
        if self._settings is not None and self._supervisor.nothing_starting:
            handover = self._make_handover(self._settings)
            handover.reopening = reopening
            handover.restarting = self._restarting
            self._exec_handover(handover)

    def _exec_handover(self, handover: Handover) -> None:
        """Exec the new version. Returns only if a signal is waiting, or if the exec fails."""
        # Hazard 8: a signal that arrives from here on stays pending until the new image has its handlers.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED)
        file = -1
        try:
            if self._signals.has_signals:
                return
            text = encode(handover)
            if len(text) > MOST_IN_VARIABLE:
                file = store_text(text)
                os.set_inheritable(file, True)
                text = f"{IN_FILE}{file}"
            for fd in handover.fds():
                os.set_inheritable(fd, True)
            self._send_waiting_events()
            flush_streams()
            program = self._spec.program
            _exec_program(program, {**program.variables, HANDOVER_VARIABLE: text})
        except OSError as error:
            for fd in handover.fds():
                os.set_inheritable(fd, False)
            log.error(f"upgrade given up, nothing has changed: {error}")
            self._settings = None
            self._supervisor.hold(on=False)
        finally:
            if file >= 0:
                os.close(file)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def _send_waiting_events(self) -> None:
        """Send the hook process the events that wait. It runs their hooks, and ends: the new image starts another."""
        dropped = 0
        for number, event in self._supervisor.hooks.flush():
            link = self._links.find_link(number)
            dropped += link is None or not self._links.send(link, event) or bool(link.unsent)
        if dropped:
            log.warning(f"{counted(dropped, 'event')} for hooks were dropped: the hook process falls behind")

    def _exec_trial(self, channel: Channel) -> Message:
        """In the trial's child: exec the installed version, which sends the outcome itself (`starman.takeover`)."""
        os.set_inheritable(channel.fileno(), True)
        # The new program unblocks these signals when it has its handlers (`starman.takeover`).
        signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED)
        try:
            # The second colon is for versions with a format before 4. They read settings after it, then report that
            # the formats do not match.
            _exec_program(self._spec.program, {TRIAL_VARIABLE: f"{FORMAT}:{channel.fileno()}:"})
        except OSError as error:
            return Failed(f"{sys.executable}: {error}")

    def _make_handover(self, settings: str) -> Handover:
        listeners = _handed(self._spec.listeners)
        handed_workers = []
        for worker in self._supervisor.children.workers():
            link = self._links.find_link(worker.number)
            # If its channel is closed, the worker is dead, and only its exit status is still to come.
            if link is not None and link.pid is not None and link.channel.fileno() >= 0 and worker.ready_at is not None:
                deadline = 0.0 if worker.ready or worker.deadline is None else worker.deadline
                fd = link.channel.fileno()
                handed_worker = HandedWorker(link.pid, fd, worker.slot, link.page, worker.ready_at, deadline)
                handed_worker.to_replace = worker.to_replace
                handed_worker.stacks = -1 if link.stacks is None else link.stacks.fd
                handed_workers.append(handed_worker)
        handover = Handover(settings, len(self._supervisor.slots), self._supervisor.terms.workers, listeners, handed_workers)
        handover.scoreboard = self._spec.scoreboard.fd
        handover.admin = _handed(self._spec.admin)
        control = self._spec.control
        if control is not None:
            handover.control = HandedControl(control.fileno(), control.name, control.file)
        return handover


def _handed(listeners: Iterable[Listener]) -> list[HandedListener]:
    return [
        HandedListener(listener.socket.fileno(), str(listener.address), secure=listener.secure, file=listener.file)
        for listener in listeners
    ]


def open_scoreboard(handover: Handover) -> Scoreboard:
    """In the new image: open the scoreboard of the old image, or make a new one.

    A new one is needed if the old scoreboard has another format or cannot be mapped. The watchdog then does not see
    the old workers for the short time that they have left, and the metrics begin at 0. Raises OSError if no scoreboard
    can be made.
    """
    reason = "the old version could not hand over the memory of its workers"
    try:
        if handover.scoreboard >= 0:
            return Scoreboard.of_descriptor(handover.scoreboard)
    except ValueError:
        reason = "the old version has another layout of the memory of its workers"
    except OSError as error:
        reason = f"the memory of the old workers cannot be used ({error.strerror})"
    log.warning(
        f"{reason}: counts of requests and connections begin at 0, and worker_timeout does not apply to the old workers "
        "while they end"
    )
    for handed_worker in handover.handed_workers:
        handed_worker.page = 0
    return Scoreboard.create()


def take_over(handover: Handover, supervisor: Supervisor, links: Links, reaper: Reaper) -> None:
    """In the new image: supervise the workers of the old image, and replace them. The old molds end by themselves."""
    supervisor.take_over(handover.slots, handover.workers_setting)
    supervisor.children.black_box.upgraded_at = time.monotonic()
    for handed_worker in handover.handed_workers:
        links.adopt_link(supervisor.adopt_worker(handed_worker), handed_worker)
        reaper.track(handed_worker.pid)
    log.info(
        f"starman {VERSION} has taken over and replaces the {counted(len(handover.handed_workers), 'old worker')}; "
        "`starman-uv status` forgets earlier lost workers, replacements and slow requests"
    )


def _exec_program(program: Program, variables: dict[str, str]) -> NoReturn:
    """Exec this program again, as it is installed now, in the directory in which it was started. Raises OSError.

    variables: environment variables to add.
    """
    start = program.working_directory.start
    # Kept as a descriptor, because the current directory may have been removed.
    before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        os.chdir(start)
        # The path of the interpreter may lead to another one by now. -W, -m and all other arguments stay.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PWD": start, **variables})
    finally:
        os.fchdir(before)
        os.close(before)
