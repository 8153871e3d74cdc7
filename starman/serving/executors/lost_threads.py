"""The lost threads of a pool: threads with requests that have passed their deadlines, and have not ended.

A spare is started in place of each. If the lost thread comes back, the pool has a thread too many, and the next one
without work ends. The loop adds lost threads; threads remove themselves. No lock: each step is one operation on a list
or a deque, which is atomic.
"""

from __future__ import annotations

from collections import deque
from time import monotonic, sleep
from typing import TYPE_CHECKING, Final

from starman import log
from starman.serving.executors.interruption import withdraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.executors.pool_thread import PoolThread
    from starman.serving.executors.queued_request import QueuedRequest

# How often (seconds) it is logged that a spare cannot be started.
_QUIET_SECONDS: Final = 60.0
# How often (seconds) a thread checks whether the loop is done with its request.
_MOMENT: Final = 0.0005


class LostThreads:
    """The lost threads of one pool.

    threads: those that are lost. missing: a token for each spare that has still to be started. surplus: a token for
    each thread that may end. total: how many threads have ever been lost.
    """

    __slots__ = ("_free_numbers", "_numbers", "_quiet_until", "missing", "surplus", "threads", "total")

    def __init__(self, size: int) -> None:
        """`size`: how many threads the pool has; they have the numbers below it."""
        self.threads: list[PoolThread] = []
        self.missing: deque[None] = deque()
        self.surplus: deque[None] = deque()
        self.total = 0
        self._numbers = size
        self._free_numbers: deque[int] = deque()
        self._quiet_until = 0.0

    def add(self, thread: PoolThread) -> None:
        """A thread is lost: a spare is missing. Loop. The thread cannot come back meanwhile (`QueuedRequest.ends`)."""
        self.total += 1
        self.missing.append(None)
        self.threads.append(thread)

    def start_missing(self, start: Callable[[int], None]) -> None:
        """Start the spares that are missing. `start(number)` starts one, with a number that no other thread has.
        Loop."""
        while self.missing:
            number = self._free_numbers.popleft() if self._free_numbers else self._numbers
            self._numbers = max(self._numbers, number + 1)
            try:
                start(number)
            except (RuntimeError, MemoryError) as error:
                self._free_numbers.append(number)
                self._log_missing(error, monotonic())
                return
            try:
                self.missing.pop()
            except IndexError:  # the lost thread has come back meanwhile
                self.surplus.append(None)

    def _log_missing(self, error: BaseException, now: float) -> None:
        if now >= self._quiet_until:
            self._quiet_until = now + _QUIET_SECONDS
            reason = str(error) or "out of memory"
            log.error(f"cannot start a thread in place of one whose request has timed out, will try again: {reason}")

    def come_back(self, thread: PoolThread, request: QueuedRequest) -> None:
        """The request of a thread has ended, after its deadline. That thread; may be called again for this request."""
        while request.ends:  # for a moment: the loop counts the thread as lost
            sleep(_MOMENT)
        if request.is_interrupted:
            withdraw()  # it must not reach the next request
        try:
            self.threads.remove(thread)
        except ValueError:
            return
        try:
            self.missing.pop()
        except IndexError:
            self.surplus.append(None)

    def retires(self, thread: PoolThread) -> bool:
        """Whether this thread, which has no work, has to end now. That thread."""
        try:
            self.surplus.pop()
        except IndexError:
            return False
        self._free_numbers.append(thread.number)
        return True
