"""The observer, as the master sees it: the control socket, the process, and the answers to its queries.

Like a trial, the observer is a child with a link and without a number in the supervisor. The life of the process is
decided by `supervision.observer`. No method waits for the observer: what a stopped one does not read stays in its
link, until it is killed.
"""

from __future__ import annotations

import os
import signal
import time

from starman import log
from starman.log.tracebacks import format_exception
from starman.process.forking import fork
from starman.process.long_messages import prepare_text
from starman.process.master.tracing import Tracing
from starman.process.messages import FROM_OBSERVER, Failed, Loaded, Role, Spawn
from starman.process.observer_messages import (
    Leaving,
    Restart,
    Scale,
    StacksQuery,
    StacksReport,
    StatusQuery,
    StatusReport,
    Stop,
    Trace,
)
from starman.process.status import Phase
from starman.process.supervision.observer import ObserverLife, Step
from starman.process.supervision.report import make_report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from starman.process.channel import Channel
    from starman.process.host.control_socket import ControlSocket
    from starman.process.master.executor import Executor
    from starman.process.master.link import Link
    from starman.process.master.links import Links
    from starman.process.master.reload import Reload
    from starman.process.message_base import Message
    from starman.process.supervision.supervisor import Supervisor
    from starman.process.worker_spec import WorkerSpec


class Observation:
    """At most one observer at a time. Only the master's loop calls.

    number: the number of the observer's link, which no other process has. deadline: the monotonic instant at which
    `check` is to be called even if nothing happens; None: never. tracing: the trace of requests, if one goes on.
    """

    __slots__ = (
        *("_executor", "_life", "_links", "_reload", "_spec", "_supervisor", "_watching"),
        *("deadline", "number", "tracing"),
    )

    def __init__(
        self, number: int, spec: WorkerSpec, supervisor: Supervisor, executor: Executor, links: Links, reload: Reload
    ) -> None:
        self.number = number
        self._spec = spec
        self._supervisor = supervisor
        self._executor = executor
        self._links = links
        self._reload = reload
        self._life = ObserverLife(always=spec.settings.is_observed)
        # Whether the poll of the links has the control socket.
        self._watching = False
        self.deadline: float | None = None
        self.tracing = Tracing(links, number)

    @property
    def _control(self) -> ControlSocket | None:
        return self._spec.control

    def check(self, now: float) -> None:
        """Start or kill the observer if it is time to, and answer a query for stacks. Call it in each round of the
        loop."""
        stacks = self._executor.stacks.take_collected(now)
        if stacks is not None:
            self._answer(StacksReport, ascii(stacks))
        mold = self._supervisor.molds.pristine_number
        match self._life.plan(now, mold=mold is not None, stopping=self._supervisor.phase is Phase.STOPPING):
            case Step.SPAWN:
                self._start(mold)
            case Step.FORK:
                self._start(None)
            case Step.KILL:
                log.warning("the observer does not respond, and is killed")
                self._executor.send_signal(self.number, signal.SIGKILL)
        self._watch_control()
        self.deadline = self._life.next_instant(now)

    def _watch_control(self) -> None:
        wanted = self._control is not None and self._life.waits_for_clients
        if self._control is not None and wanted != self._watching:
            self._watching = wanted
            if wanted:
                self._links.watch(self._control.fileno(), self._on_client)
            else:
                self._links.unwatch(self._control.fileno())

    def _on_client(self) -> None:
        self._life.on_client(time.monotonic())
        self._watch_control()

    # The process.

    def _start(self, mold: int | None) -> None:
        """Have the mold with this number fork the observer; None: fork it here."""
        try:
            channel = self._links.open_link(self.number, FROM_OBSERVER)
        except OSError as error:
            self._note_gone(f"could not be forked ({error.strerror})")
            return
        fds = self._descriptors()
        link = self._links.find_link(self.number)
        assert link is not None
        try:
            if mold is None:
                self._fork(channel, link, fds)
            else:
                order = Spawn(Role.OBSERVER, 0, settings=self._supervisor.terms.settings)
                mold_link = self._links.find_link(mold)
                if mold_link is None or not self._executor.send_order(mold_link, order, [*channel.fds(), *fds]):
                    raise BrokenPipeError("the mold does not answer")
        except OSError as error:
            self._links.remove_link(link)
            self._note_gone(f"could not be forked ({error.strerror or error})")
        finally:
            channel.close()

    def _descriptors(self) -> list[int]:
        """The descriptors that the observer needs: of the listeners of the admin HTTP, of the control socket, and of
        the scoreboard."""
        control = [] if self._control is None else [self._control.fileno()]
        board = self._spec.scoreboard.fd
        admin = [listener.socket.fileno() for listener in self._spec.admin]
        return [*admin, *control, *([board] if board >= 0 else [])]

    def _fork(self, channel: Channel, link: Link, fds: list[int]) -> None:
        pid = fork()
        if pid == 0:
            self._run_child(channel, [os.dup(fd) for fd in fds])
        self._executor.events.on_spawned(link, pid)

    def _run_child(self, channel: Channel, fds: list[int]) -> NoReturn:
        try:
            self._executor.abandon()
            self._spec.program.run_observer(channel, self._spec, fds)
        except BaseException as error:
            log.error(f"the observer failed\n{format_exception(error)}")
        finally:
            log.finish()
            os._exit(1)

    def on_message(self, message: Message) -> None:  # noqa: C901 - a case for each message
        """The observer has sent `message`."""
        now = time.monotonic()
        self._life.on_message(now)
        match message:
            case Loaded():
                self._life.on_loaded()
            case Leaving():
                self._life.on_leaving()
            case Failed():
                self._life.on_failed(message.message)
                if message.details:
                    log.error(message.describe())
            case StatusQuery():
                self._answer(StatusReport, ascii(self._make_report()))
            case StacksQuery():
                self._executor.stacks.collect(now, force=message.force)
            case Trace():
                self.tracing.follow(message.filters)
            case Scale():
                self._supervisor.scale(message.workers, now)
            case Restart():
                self._reload.begin()
            case Stop():
                self._supervisor.stop(now)

    def _make_report(self) -> dict[str, Any]:
        report = make_report(self._supervisor)
        report["pid"] = os.getpid()
        report["observers"] = self._life.loaded_count
        report["reading_settings"] = self._reload.busy
        for worker in report["workers"]:
            link = self._links.find_link(worker["child"])
            worker["page"] = 0 if link is None else link.page
        report["processes"] = [(link.title, link.pid) for link in self._links if not link.slot]
        report["listeners"] = [listener.url for listener in self._spec.listeners]
        return report

    def _answer(self, kind: Callable[[str], Message], text: str) -> None:
        link = self._links.find_link(self.number)
        # An observer that does not read gets no second answer.
        if link is not None and not link.unsent:
            parts, text = prepare_text(text)
            for message in (*parts, kind(text)):
                self._links.send(link, message)

    def on_gone(self, how: str) -> None:
        """The observer has ended, and its link is removed. `how` completes a sentence."""
        self.tracing.follow("")
        self._note_gone(how)

    def _note_gone(self, how: str) -> None:
        line = self._life.on_gone(how, time.monotonic())
        if line is not None and self._supervisor.phase is not Phase.STOPPING:
            log.warning(line)

    def cancel(self) -> None:
        """Does nothing: the observer also answers while the server stops."""

    def close(self) -> None:
        """The server has ended: close the channel of the observer, which then ends by itself."""
        link = self._links.find_link(self.number)
        if link is not None:
            self._links.remove_link(link)
