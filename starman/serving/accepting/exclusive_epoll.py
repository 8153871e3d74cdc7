"""Which of the workers that share a listener is woken for its next connection: one at a time, each in its turn.

An epoll of its own, in which the kernel wakes one waiter for an event (EPOLLEXCLUSIVE, Linux 4.5), and a thread that waits in it:
uvloop's own epoll would wake all workers, of which one finds a connection. The kernel wakes the first in the listener's line who
waits, and leaves it there: so a worker leaves the line when it is woken, and joins it again at its end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A thread that is woken so many times in a row by a listener that stands in no line would spin.
_MOST_FAILURES = 10

available = hasattr(select, "EPOLLEXCLUSIVE")


class ExclusiveWatch:
    """Tells the loop when it is this worker's turn to accept. All methods are the loop's."""

    __slots__ = ("_epoll", "_lost", "_post", "_ready", "_stop")

    def __init__(self, ready: Callable[[int], None], post: Callable[..., object], lost: Callable[[Exception], None]) -> None:
        """`ready` is called in the loop, by way of `post`, with the descriptor of a listener whose line was left because a
        connection waits there; `lost` when it cannot wait any more. Raises OSError when there is no descriptor left for it,
        RuntimeError without a further thread."""
        self._ready = ready
        self._post = post
        self._lost = lost
        self._epoll = select.epoll()
        self._stop = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._stop, select.EPOLLIN)
        try:
            threading.Thread(target=self._wait, name="starman-accept", daemon=True).start()
        except (RuntimeError, MemoryError):
            self._epoll.close()
            os.close(self._stop)
            raise

    def join(self, descriptor: int) -> None:
        """Go to the end of a listener's line, unless this watch stands there already. Raises OSError when that fails."""
        # To stand there already is no error: this thread was woken, and leaves the line in a moment.
        with contextlib.suppress(FileExistsError):
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def leave(self, descriptor: int) -> bool:
        """Leave a listener's line, from any place in it. A call of `ready` may still follow.

        False: this watch stands in no line, or its descriptor or the listener's is closed.
        """
        try:
            self._epoll.unregister(descriptor)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Out of all lines, for good: descriptors must not be joined, and may be closed, behind it."""
        with contextlib.suppress(OSError):  # an application has closed it
            os.eventfd_write(self._stop, 1)

    def descriptors(self) -> list[int]:
        """The descriptors that this watch has opened."""
        return [] if self._epoll.closed else [self._epoll.fileno(), self._stop]

    def _wait(self) -> None:
        try:
            try:
                self._wait_for_stop()
            except (OSError, ValueError) as error:
                self._post(self._lost, error)
        except RuntimeError:  # the loop is closed
            return

    def _wait_for_stop(self) -> None:
        """Raises OSError or ValueError when it cannot go on."""
        failures = 0
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._stop:
                    self._epoll.close()
                    os.close(self._stop)
                    return
                # The loop may have taken the listener out of its line meanwhile, or closed it. If this happens again and
                # again, something else has closed the descriptor, and it can no longer be removed from the kernel's set.
                failures = 0 if self.leave(descriptor) else failures + 1
                if failures == _MOST_FAILURES:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                self._post(self._ready, descriptor)
