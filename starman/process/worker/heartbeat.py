"""A worker's heartbeat: writes its page of the scoreboard, which the master's watchdog and status read.

Also does the work of a quiet moment: unblocks signals, and gives free memory back to the system.
"""

from __future__ import annotations

import os
import signal
import time

from starman import log
from starman.process.forking import FORCED_STACKS, STACKS, signal_name
from starman.process.worker.malloc import give_back_free_pages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.process.scoreboard import WorkerPage
    from starman.process.worker.recycle_request import RecycleRequest

# A worker without requests for this many ticks gives the memory that it keeps for the next requests back to the
# system.
_IDLE_TICKS = 10

# The signals that the master sends to workers. Others may stay blocked: a thread of the application may wait for them.
_NEEDED = frozenset({signal.SIGQUIT, signal.SIGTERM, STACKS, FORCED_STACKS})


class WorkerHeartbeat:
    """The `Heartbeat` of a worker's service. Call all methods in the loop, unless they say otherwise.

    draining: whether the worker drains already.
    """

    __slots__ = ("_finished", "_idle_ticks", "_page", "_recycle_request", "_signals_logged", "_slot", "draining")

    def __init__(self, slot: int, page: WorkerPage | None, recycle_request: RecycleRequest) -> None:
        """`slot`: the worker's number. `page`: its page of the scoreboard; None if it has none. `recycle_request` is
        checked at every tick."""
        self._slot = slot
        self._page = page
        self._recycle_request = recycle_request
        self._finished = 0
        self._idle_ticks = 0
        self._signals_logged = False
        self.draining = False

    def start(self) -> None:
        """The worker is ready: begin to count requests and age, and let the master's watchdog check the loop."""
        now = time.monotonic()
        self._recycle_request.start(now)
        if self._page is not None:
            self._page.write_start(os.getpid(), self._slot, now)
            self._page.write_heartbeat(now, 0, 0, 0, self.draining)

    def request_recorder(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview] | None:
        """Where a thread of that number records the requests that it runs. None: nowhere."""
        return None if self._page is None else self._page.request_recorder(thread)

    def tick(self, finished: int, connections: int, busy: int) -> None:
        """Write a heartbeat, check the limits of `Recycling`, and free memory if the worker is idle."""
        now = time.monotonic()
        self._unblock_signals()
        self._free_memory_when_idle(finished, busy)
        if self._page is not None:
            self._page.write_heartbeat(now, finished, connections, busy, self.draining)
        if not self.draining:
            self._recycle_request.check(finished, now)

    def write_in_flight(self, requests: int) -> None:
        """Write the number of requests in flight to the scoreboard, for a worker that drains. Loop, or a signal
        handler."""
        if self._page is not None:
            self._page.write_in_flight(requests)

    def _unblock_signals(self) -> None:
        """Unblock the signals that the application has blocked in the main thread: a worker that does not react to a
        stop signal is killed in the end."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _NEEDED) & _NEEDED
        if blocked and not self._signals_logged:
            self._signals_logged = True
            names = ", ".join(map(signal_name, sorted(blocked)))
            log.warning(f"the application has blocked signals that this worker needs, which are unblocked: {names}")

    def _free_memory_when_idle(self, finished: int, busy: int) -> None:
        if busy or finished != self._finished:
            self._finished = finished
            self._idle_ticks = 0
            return
        self._idle_ticks += 1
        if self._idle_ticks == _IDLE_TICKS:
            give_back_free_pages()
