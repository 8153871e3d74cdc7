"""Runs a function in a child of the master, so that a failure there does not touch the service.

HUP reads the settings in a trial, and USR2 starts the installed version in one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time

from starman import log
from starman.log.tracebacks import exception_line, format_exception
from starman.process.forking import fork, install_handlers
from starman.process.long_messages import TextAssembly, send_answer, split_text
from starman.process.messages import FROM_TRIAL, Approved, Failed, Part
from starman.process.worker.stack_dumps import enable_stack_dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.message_base import Message


class Trial:
    """At most one child at a time: a new trial cancels the one under way. Only the master's loop calls.

    number: the number of the trial's link, which no worker or mold has. deadline: the monotonic instant at which the
    trial under way has lasted too long; None if none is under way.
    """

    __slots__ = ("_abandon", "_assembly", "_links", "_outcome", "_reaper", "_seconds", "deadline", "number")

    def __init__(self, number: int, links: Links, reaper: Reaper, abandon: Callable[[], None]) -> None:
        """`abandon` closes, in a fresh fork, the descriptors that belong to the master."""
        self._abandon = abandon
        self.number = number
        self.deadline: float | None = None
        self._links = links
        self._reaper = reaper
        self._outcome: Approved | Failed | None = None
        self._assembly = TextAssembly()
        self._seconds = 0.0

    def start(self, function: Callable[[Channel], Message], seconds: float, text: str | None = None) -> None:
        """Call `function` in a child. The message that it returns is the outcome. Cancels the trial under way.

        seconds: how long the child may take. text: a text to send, which the child reads with `receive_text`.
        """
        self.cancel()
        self._assembly = TextAssembly()
        self._seconds = seconds
        try:
            channel = self._links.open_link(self.number, FROM_TRIAL)
        except OSError as error:
            self._outcome = Failed(f"cannot create a channel: {error.strerror}")
            return
        self.deadline = time.monotonic() + seconds
        try:
            pid = fork()
        except OSError as error:
            channel.close()
            self.cancel()
            self._outcome = Failed(f"cannot create a process: {error.strerror}")
            return
        if pid == 0:
            self._run_child(channel, function)
        channel.close()
        link = self._links.find_link(self.number)
        assert link is not None
        link.pid = pid
        self._reaper.track(pid, link.opened_at)
        for part in [] if text is None else split_text(text):
            self._links.send(link, part)

    def _run_child(self, channel: Channel, function: Callable[[Channel], Message]) -> NoReturn:
        try:
            self._abandon()
            enable_stack_dumps()
            install_handlers(stop_ends=True)
            send_answer(channel, function(channel))
        except BaseException as error:
            channel.send(Failed(exception_line(error), format_exception(error)))
        finally:
            log.finish()
            os._exit(0)

    def on_message(self, message: Message) -> None:
        """The child has sent `message`."""
        if self.deadline is None:
            return
        if isinstance(message, Part):
            self._assembly.add_part(message)
        elif isinstance(message, Approved | Failed):
            self._outcome = self._assembled(message)
            self.deadline = None

    def _assembled(self, message: Approved | Failed) -> Approved | Failed:
        """`message` with its settings, which may have come in parts before."""
        try:
            if isinstance(message, Approved):
                message.settings = self._assembly.resolve_text(message.settings)
        except ValueError as error:
            return Failed(f"the process that tried it sent {error}")
        return message

    def on_gone(self, how: str) -> None:
        """The child has ended, and its link is removed. `how` completes a sentence."""
        if self.deadline is not None:
            self._outcome = Failed(f"the process that tried it {how}")
            self.deadline = None

    def take_outcome(self, now: float) -> Approved | Failed | None:
        """The outcome of the trial, returned once. None if it is not known yet, or if there was no trial."""
        if self.deadline is not None and self.deadline <= now:
            self.cancel()
            return Failed(f"the process that tried it did not answer within {self._seconds:g} s")
        outcome, self._outcome = self._outcome, None
        return outcome

    def cancel(self) -> None:
        """Kill the child of the trial under way, and drop the outcome."""
        self.deadline = self._outcome = None
        link = self._links.find_link(self.number)
        if link is None:
            return
        if link.pid is not None:
            # The embedding program may have reaped the child already. Or the child has changed its user; it ends by
            # itself.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self._reaper.owns_process(link.pid):
                    os.kill(link.pid, signal.SIGKILL)
        self._links.remove_link(link)
