"""Wakes one of the workers that share a listener for each connection, in turns (EPOLLEXCLUSIVE, Linux 4.5).

uvloop's epoll would wake all workers for a connection that only one of them can accept. So a thread waits in an epoll
of its own, in exclusive mode. The kernel wakes the first waiter in the listener's wait queue and leaves it in its
place; so a worker leaves the queue when it is woken, and joins it again at the end.
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

# A thread that is woken this many times in a row by a listener that it does not wait for would spin.
_MOST_FAILURES = 10

available = hasattr(select, "EPOLLEXCLUSIVE")


class ExclusiveEpoll:
    """Calls back when the kernel has woken this worker for a connection. All methods must be called in the loop."""

    __slots__ = ("_epoll", "_lost", "_post", "_ready", "_stop")

    def __init__(self, ready: Callable[[int], None], post: Callable[..., object], lost: Callable[[Exception], None]) -> None:
        """`ready` is called in the loop (through `post`) with the descriptor of a listener at which a connection
        waits; this epoll has left its wait queue. `lost` is called when waiting has become impossible. Raises OSError
        if no descriptor is left, RuntimeError if no thread can be started."""
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

    def join_wait_queue(self, descriptor: int) -> None:
        """Go to the end of a listener's wait queue, unless this epoll is in it already. Raises OSError."""
        # Being in it is no error: the thread was just woken, and leaves the queue in a moment.
        with contextlib.suppress(FileExistsError):
            self._epoll.register(descriptor, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def leave_wait_queue(self, descriptor: int) -> bool:
        """Leave a listener's wait queue. A call of `ready` may still follow.

        Return False if this epoll is not in it, or if one of the two descriptors is closed.
        """
        try:
            self._epoll.unregister(descriptor)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        """Leave all wait queues for good. Nothing may be joined afterwards, and the listeners may be closed."""
        with contextlib.suppress(OSError):  # the application has closed the descriptor
            os.eventfd_write(self._stop, 1)

    def descriptors(self) -> list[int]:
        """Return the descriptors that this object has opened."""
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
        """Wait until `stop`. Raises OSError or ValueError when waiting has become impossible."""
        failures = 0
        while True:
            for descriptor, _ in self._epoll.poll():
                if descriptor == self._stop:
                    self._epoll.close()
                    os.close(self._stop)
                    return
                # The loop may have left the queue meanwhile, or closed the listener. If this happens again and again,
                # something else has closed the descriptor, and it cannot be removed from the kernel's set any more.
                failures = 0 if self.leave_wait_queue(descriptor) else failures + 1
                if failures == _MOST_FAILURES:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                self._post(self._ready, descriptor)
