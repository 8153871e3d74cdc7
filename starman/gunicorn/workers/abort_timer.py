"""Calls worker_abort in a worker that hangs: sends SIGABRT to the own process when its event loop has been silent.

gunicorn's master sends SIGABRT to a worker that exceeds `timeout`, and SIGKILL a second later. Here a thread of the
worker sends it, only if there is the hook. The master kills the worker 2 s after the same time, if native code keeps
the main thread from running the hook.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

# How often (seconds) the loop shows that it runs, and the thread looks.
_SECONDS = 0.5
# The master finds the silence first, and logs it with the stacks of the worker.
_LATER = 0.25


class AbortTimer:
    """Watches the loop of this worker. timeout: how long (seconds) it may be silent.

    The loop writes the time of its last sign of life, the thread reads it.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout + _LATER
        self._interval = min(_SECONDS, timeout / 8)
        self._alive_at = time.monotonic()

    def start(self) -> None:
        """Start to watch, until the loop ends. In the loop."""
        loop = asyncio.get_running_loop()
        self._show_life(loop)
        threading.Thread(target=self._watch, args=(loop,), name="starman-abort-timer", daemon=True).start()

    def _show_life(self, loop: asyncio.AbstractEventLoop) -> None:
        self._alive_at = time.monotonic()
        loop.call_later(self._interval, self._show_life, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # The last sign of life that the thread has seen, and for how long after it the process stood still. The
        # thread's own: only the loop changes `_alive_at`.
        seen_at, stood_still = self._alive_at, 0.0
        while loop.is_running():  # not while exit functions run
            asleep_at = time.monotonic()
            time.sleep(self._interval)
            now = time.monotonic()
            # A thread that wakes up late says that the whole process, or machine, was stopped: that is no silence of
            # the loop alone.
            late = now - asleep_at - self._interval
            if self._alive_at != seen_at:
                seen_at, stood_still = self._alive_at, 0.0
            elif late > self._interval:
                stood_still += late
            if now - seen_at - stood_still >= self._timeout and loop.is_running():
                os.kill(os.getpid(), signal.SIGABRT)
                return
