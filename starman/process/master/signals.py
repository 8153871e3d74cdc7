"""Queues the signals that arrive at the master. Handlers only add a signal to the queue; the loop takes them."""

from __future__ import annotations

import os
import signal

from starman.process.forking import (
    FORCED_STACKS,
    GUARDED,
    HANDLED,
    STACKS,
    UNUSED,
    ignore_failing_writes,
    ignore_signal,
    replace_default_handlers,
)
from starman.process.worker.stack_dumps import StackHandler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any


class SignalQueue:
    """Takes HANDLED over from the calling program until `close`, and makes `fileno()` readable when a signal arrives.

    The signals in UNUSED do nothing; STACKS and FORCED_STACKS write the stacks of this process to the error log. If
    the calling program has installed a handler for one of these, its handler stays. Main thread only: Python runs
    signal handlers in no other.
    """

    __slots__ = ("_defaults", "_mask", "_noted", "_previous", "_previous_fd", "_read_fd", "_write_fd")

    def __init__(self) -> None:
        self._noted: list[int] = []
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        # Without the wakeup descriptor, a signal that arrives after `take_signals` and before the poll would wait for
        # another event.
        self._previous_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous: dict[int, Any] = {
            signum: signal.signal(signum, ignore_signal if signum == signal.SIGCHLD else self._note) for signum in HANDLED
        }
        self._defaults = replace_default_handlers(UNUSED, ignore_signal) + ignore_failing_writes()
        # Neither with `faulthandler.register`: the stack that it sets up for signal handlers is too small for many
        # signals at once, and the threads of a program that embeds the server may run meanwhile.
        self._defaults += replace_default_handlers([STACKS, FORCED_STACKS], StackHandler(title="the master"))
        # A program may be started with a stop signal blocked, and could then not be stopped.
        self._mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, GUARDED)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._noted.append(signum)

    @property
    def has_signals(self) -> bool:
        """Whether `take_signals` would return any signal."""
        return bool(self._noted)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._read_fd

    def clear_wakeups(self) -> None:
        """Empty the descriptor after a poll has found it readable."""
        os.read(self._read_fd, 65_536)

    def take_signals(self) -> list[int]:
        """The signals that arrived since the last call, without SIGCHLD, in order."""
        # A signal that arrives from here on stays for the next call. Its byte in the descriptor ends the next poll at
        # once.
        noted, self._noted = self._noted, []
        return noted

    def close(self, *, ending: bool = False) -> None:
        """Give the signals back to the calling program.

        ending: the process is about to end. The signals then stay blocked, so that a second stop signal cannot change
        how it ends.
        """
        if ending:
            self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, GUARDED) | GUARDED
        signal.set_wakeup_fd(self._previous_fd)
        for signum, handler in self._previous.items():
            # None: the previous handler was not installed from Python, and cannot be restored.
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        for signum in self._defaults:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        self.abandon()

    def abandon(self) -> None:
        """In a fresh fork: close the inherited descriptors. The child installs its own handlers."""
        os.close(self._read_fd)
        os.close(self._write_fd)
