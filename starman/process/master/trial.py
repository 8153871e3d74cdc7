"""A trial: a child in which something is tried before the service is touched, so that a failure costs nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from starman import log
from starman.log.tracebacks import exception_line, format_exception
from starman.process.forking import fork, take_signals
from starman.process.long_text import Assembly, answer, split
from starman.process.messages import FROM_TRIAL, Approved, Failed, Part

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.master.links import Links
    from starman.process.master.reaper import Reaper
    from starman.process.messages import Message


class Trial:
    """At most one child at a time; the newest trial counts. The loop of the master alone calls.

    number: the name of its link, which no child has. deadline: the instant at which a trial under way has lasted too long; None
    when there is none.
    """

    __slots__ = ("_abandon", "_assembly", "_links", "_outcome", "_reaper", "deadline", "number")

    def __init__(self, number: int, links: Links, reaper: Reaper, abandon: Callable[[], None]) -> None:
        """`abandon` has a fresh fork close what it has inherited of the master."""
        self._abandon = abandon
        self.number = number
        self.deadline: float | None = None
        self._links = links
        self._reaper = reaper
        self._outcome: Approved | Failed | None = None
        self._assembly = Assembly()

    def start(self, play: Callable[[Channel], Message], seconds: float, text: str | None = None) -> None:
        """Call `play` in a child, and have the message that it returns; give up after `seconds`. A trial under way is cut.

        text: what the child is sent (`receive_text`).
        """
        self.cancel()
        self._assembly = Assembly()
        try:
            channel = self._links.open_link(self.number, FROM_TRIAL)
        except OSError as error:
            self._outcome = Failed(f"no channel can be made: {error.strerror}")
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
            self._run_child(channel, play)
        channel.close()
        link = self._links.find_link(self.number)
        assert link is not None
        link.pid = pid
        self._reaper.track(pid, link.opened_at)
        for part in [] if text is None else split(text):
            self._links.send(link, part)

    def _run_child(self, channel: Channel, play: Callable[[Channel], Message]) -> NoReturn:
        try:
            self._abandon()
            take_signals(stop_ends=True)
            answer(channel, play(channel))
        except BaseException as error:
            channel.send(Failed(exception_line(error), format_exception(error)))
        finally:
            log.finish()
            os._exit(0)

    def on_message(self, message: Message) -> None:
        """The child has said something."""
        if self.deadline is None:
            return
        if isinstance(message, Part):
            self._assembly.add(message)
        elif isinstance(message, Approved | Failed):
            self._outcome = self._whole(message)
            self.deadline = None

    def _whole(self, message: Approved | Failed) -> Approved | Failed:
        try:
            if isinstance(message, Approved):
                message.settings = self._assembly.resolve(message.settings)
        except ValueError as error:
            return Failed(f"the process that tried it sent {error}")
        return message

    def on_gone(self, how: str) -> None:
        """The child has ended, and its link with it; `how` completes a sentence."""
        if self.deadline is not None:
            self._outcome = Failed(f"the process that tried it {how}")
            self.deadline = None

    def take_outcome(self, now: float) -> Approved | Failed | None:
        """How the trial went; once. None as long as that is not known."""
        if self.deadline is not None and self.deadline <= now:
            self.cancel()
            return Failed("it took too long to try it")
        outcome, self._outcome = self._outcome, None
        return outcome

    def cancel(self) -> None:
        """End the trial that is under way, and forget it."""
        self.deadline = self._outcome = None
        link = self._links.find_link(self.number)
        if link is None:
            return
        if link.pid is not None:
            # Gone already: a program that embeds us may have reaped it. Or it has changed its user, and ends by itself.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self._reaper.owns_process(link.pid):
                    os.kill(link.pid, signal.SIGKILL)
        self._links.remove_link(link)
