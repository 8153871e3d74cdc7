"""USR2: the installed version is tried in a child, then the master execs itself: the same process, listeners and workers.

Hazard 14: not by a second master. That would end a container whose first process is the first one, run twice below
start_server, and confuse systemd. Children, process id and the adoption of orphans survive an exec.
"""

from __future__ import annotations

import os
import signal
import sys

from starman import log
from starman.config.revision import encode_settings
from starman.process.forking import GUARDED, flush
from starman.process.handover import (
    FORMAT,
    HANDOVER_VARIABLE,
    IN_FILE,
    MOST_IN_VARIABLE,
    TRIAL_VARIABLE,
    HandedListener,
    Handover,
    Veteran,
    encode,
)
from starman.process.host.text_file import store_text
from starman.process.messages import Approved, Failed
from starman.process.scoreboard import Scoreboard
from starman.process.status import Phase
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.master.signals import SignalQueue
    from starman.process.master.trial import Trial
    from starman.process.messages import Message
    from starman.process.spec import Program, WorkerSpec
    from starman.process.supervision.supervisor import Supervisor


class Upgrade:
    """The way from a signal to the exec. The loop of the master alone calls.

    links, signals: the master's. trial: the upgrades' own.
    """

    __slots__ = ("_links", "_restarting", "_settings", "_signals", "_spec", "_supervisor", "_trial")

    def __init__(self, spec: WorkerSpec, supervisor: Supervisor, links: Links, signals: SignalQueue, trial: Trial) -> None:
        self._spec = spec
        self._supervisor = supervisor
        self._links = links
        self._signals = signals
        self._trial = trial
        # What a trial has approved; None as long as none has.
        self._settings: str | None = None
        # Whether a restart on settings of its own was granted since.
        self._restarting = False

    def begin(self, *, embedded: bool) -> None:
        """Have the installed version tried. Refused in a program that embeds us: what it is, only its own start knows."""
        if self._supervisor.phase is Phase.STOPPING:
            return
        if embedded:
            log.error("no upgrade: this server runs inside another program, which has to be started anew")
            return
        self._settings = None
        self._restarting = False
        self._supervisor.hold(on=False)
        log.info("upgrading: the installed version is tried first")
        running = self._supervisor.terms.settings or encode_settings(self._spec.settings)
        self._trial.start(self._exec_trial, self._supervisor.terms.boot_timeout, running)

    def on_restart(self) -> None:
        """A restart begins, or waits, on settings that the trial may have read before they were changed."""
        self._restarting = True

    def check_trial(self, now: float) -> None:
        """Draw the consequence when the trial is over."""
        outcome = self._trial.take_outcome(now)
        if isinstance(outcome, Approved):
            version, *refused = outcome.notes.splitlines()
            log.info(f"upgrading to {version}")
            for line in refused:
                log.warning(line)
            self._settings = outcome.settings
            # Who is starting shall be ready, or gone: the next image could not know what its mold was told.
            self._supervisor.hold(on=True)
        elif outcome is not None:
            details = f"\n{outcome.details}" if outcome.details else ""
            log.error(f"upgrade given up, nothing has changed: {outcome.message}{details}")

    def exec_when_ready(self, *, reopening: bool) -> None:
        """Take the last step, if it is time: this program is another then. `reopening`: whether somebody has still to open the
        logs again."""
        if self._settings is not None and self._supervisor.nothing_starting:
            handover = self._handover(self._settings)
            handover.reopening = reopening
            handover.restarting = self._restarting
            self._exec(handover)

    def _exec(self, handover: Handover) -> None:
        """Become the new version. Returns only if that is not to be had now."""
        # Hazard 8: what arrives from here on is the new image's: it stays pending until that has handlers.
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
            flush()
            program = self._spec.program
            _become(program, {**program.variables, HANDOVER_VARIABLE: text})
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

    def _exec_trial(self, channel: Channel) -> Message:
        """In the child of a trial: be the installed version, which answers by itself (`starman.takeover`)."""
        os.set_inheritable(channel.fileno(), True)
        # The new program unblocks these signals when it has handlers (`starman.takeover`).
        signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED)
        try:
            # The second colon is for versions of formats before 4: they have settings behind it, and say then what does not fit.
            _become(self._spec.program, {TRIAL_VARIABLE: f"{FORMAT}:{channel.fileno()}:"})
        except OSError as error:
            return Failed(f"{sys.executable}: {error}")

    def _handover(self, settings: str) -> Handover:
        listeners = [
            HandedListener(listener.socket.fileno(), str(listener.address), secure=listener.secure, file=listener.file)
            for listener in self._spec.listeners
        ]
        veterans = []
        slots, children = self._supervisor.slots_and_workers()
        for worker in children:
            link = self._links.find_link(worker.number)
            # One without channel is dead, and its exit status all that is left of it.
            if link is not None and link.pid is not None and link.channel.fileno() >= 0 and worker.ready_at is not None:
                deadline = 0.0 if worker.ready or worker.deadline is None else worker.deadline
                fd = link.channel.fileno()
                veteran = Veteran(link.pid, fd, worker.slot, link.place, worker.ready_at, deadline)
                veteran.to_replace = worker.to_replace
                veteran.stacks = -1 if link.stacks is None else link.stacks.fd
                veterans.append(veteran)
        handover = Handover(settings, slots, self._supervisor.terms.workers, listeners, veterans)
        handover.scoreboard = self._spec.scoreboard.fd
        return handover


def open_scoreboard(handover: Handover) -> Scoreboard:
    """In the new image: the scoreboard of the old one, or another when it is none of this version, or not to be had: then nobody
    watches the workers of before for the short time that they have left. Raises OSError when there is no other."""
    try:
        if handover.scoreboard >= 0:
            return Scoreboard.of_descriptor(handover.scoreboard)
    except (OSError, ValueError) as error:
        log.warning(f"a new scoreboard: {error}")
    for veteran in handover.veterans:
        veteran.place = 0
    return Scoreboard.create()


def take_over(handover: Handover, supervisor: Supervisor, links: Links, reaper: Reaper) -> None:
    """In the new image: look after the workers of the old one, and replace them. Its molds end by themselves."""
    supervisor.take_over(handover.slots, handover.workers)
    for veteran in handover.veterans:
        links.adopt_link(supervisor.adopt_worker(veteran), veteran)
        reaper.track(veteran.pid)
    log.info(f"starman {VERSION} has taken over, and replaces the {len(handover.veterans)} workers of before")


def _become(program: Program, variables: dict[str, str]) -> NoReturn:
    """Exec this program anew, where it was started, from what is installed now, with `variables` more. Raises OSError."""
    start = program.working_directory.start
    # By a descriptor: the current directory may have been removed.
    before = os.open(".", getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC)
    try:
        os.chdir(start)
        # The interpreter by its path, which may lead to another by now; -W, -m and all other arguments as they were.
        os.execve(sys.executable, sys.orig_argv, {**os.environ, "PWD": start, **variables})
    finally:
        os.fchdir(before)
        os.close(before)
