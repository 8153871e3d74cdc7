"""The signals: how signals reach the master's loop. Handlers only note a signal; the loop takes it when it is its turn."""

from __future__ import annotations

import os
import signal

from starman.process.forking import GUARDED, HANDLED, STACKS, UNUSED, ignore_failing_writes, nothing, take_default
from starman.process.master.stack_pipe import log_own_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


class SignalQueue:
    """Takes HANDLED over from the calling program until `close`, and wakes a poll of `fileno()` when one arrives.

    The signals of UNUSED do nothing, and STACKS writes the stacks of this process to the error log; a handler that the calling
    program has installed for one of them stays. Main thread only, the one that runs Python's signal handlers.
    """

    __slots__ = ("_defaults", "_mask", "_noted", "_previous", "_previous_fd", "_read_fd", "_write_fd")

    def __init__(self) -> None:
        self._noted: list[int] = []
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        # Without the wakeup descriptor, a signal between the look at what was noted and the poll would wait for the next event.
        self._previous_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous: dict[int, Any] = {
            signum: signal.signal(signum, nothing if signum == signal.SIGCHLD else self._note) for signum in HANDLED
        }
        self._defaults = take_default(UNUSED, nothing) + ignore_failing_writes()
        # Not by `faulthandler.register`: the stack that it makes for all signal handlers is too small for many signals at once.
        self._defaults += take_default([STACKS], _show_stack)
        # A program that was started with a stop signal blocked could not be stopped.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, GUARDED)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._noted.append(signum)

    @property
    def has_signals(self) -> bool:
        """Whether `take` has something to give."""
        return bool(self._noted)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read_fd

    def clear_wakeups(self) -> None:
        """Empty the descriptor, which a poll has found readable."""
        os.read(self._read_fd, 65_536)

    def take_signals(self) -> list[int]:
        """The signals that arrived since the last call, SIGCHLD apart, in their order."""
        # What is noted from here on stays for the next call: its byte in the descriptor will end the poll before it.
        noted, self._noted = self._noted, []
        return noted

    def close(self, *, ending: bool = False) -> None:
        """Give the signals back to the calling program.

        `ending`: the process ends next. The signals stay blocked then, so that no second stop signal changes how it ends.
        """
        if ending:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED) | GUARDED
        signal.set_wakeup_fd(self._previous_fd)
        for signum, handler in self._previous.items():
            # None: a handler that was not installed from Python, which cannot be given back.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        for signum in self._defaults:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self.abandon()

    def abandon(self) -> None:
        """In a fresh fork: close the inherited descriptors. Its handlers are replaced by the fork's own."""
        os.close(self._read_fd)
        os.close(self._write_fd)


def _show_stack(signum: int, frame: FrameType | None) -> None:
    """Write the stacks of the master's threads to the error log."""
    log_own_stacks("the master")
