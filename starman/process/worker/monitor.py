"""Reports a worker's state to the master: writes the worker's page of the scoreboard, and requests the worker's
replacement.

Also does the work of a quiet moment: unblocks signals, and gives free memory back to the system. Implements
`serving.monitor`.
"""

from __future__ import annotations

import os
import random
import signal
import time

import anyio
import anyio.to_thread

from starman import log
from starman.process.forking import FORCED_STACKS, STACKS, signal_name
from starman.process.messages import Recycle
from starman.process.worker.malloc import give_back_free_pages
from starman.process.worker.recycling import Recycling, used_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.scoreboard import WorkerPage

# The memory is measured once in this many seconds, or less often, so that it takes at most this share of the time. The
# kernel needs 5 ms for 200 MB.
MEASURE_SECONDS = 1.0
_MEASURE_SHARE = 0.005

# A worker without requests for this many ticks gives the memory that it keeps for the next requests back to the
# system.
_IDLE_TICKS = 10

# The signals that the master sends to workers. Others may stay blocked: a thread of the application may wait for them.
_NEEDED = frozenset({signal.SIGQUIT, signal.SIGTERM, STACKS, FORCED_STACKS})


class WorkerMonitor:
    """The `Monitor` of a worker's service. Call all methods in the loop, unless they say otherwise.

    on_harakiri: called when the application requests the end of the worker. on_give_up: called with a reason when the
    loop cannot continue. draining: whether the worker drains already.
    """

    __slots__ = (
        "_channel",
        "_finished",
        "_idle_ticks",
        "_memory_bytes",
        "_page",
        "_recycle_sent",
        "_recycling",
        "_settings",
        "_signals_logged",
        "_slot",
        "draining",
        "on_give_up",
        "on_harakiri",
    )

    def __init__(self, channel: Channel, slot: int, page: WorkerPage | None, settings: Settings) -> None:
        """`slot`: the worker's number. `page`: its page of the scoreboard; None if it has none."""
        self._channel = channel
        self._slot = slot
        self._page = page
        self._settings = settings
        self._recycling: Recycling | None = None
        self._memory_bytes = 0
        self._finished = 0
        self._idle_ticks = 0
        self._recycle_sent = False
        self._signals_logged = False
        self.draining = False
        self.on_harakiri: Callable[[], None] = _nothing
        self.on_give_up: Callable[[str], None] = _nothing

    def start(self) -> None:
        """The worker is ready: begin to count requests and age, and let the master's watchdog check the loop."""
        now = time.monotonic()
        self._recycling = Recycling(self._settings, now, random.SystemRandom().random)
        if self._page is not None:
            self._page.write_start(os.getpid(), self._slot, now)
            self._page.write_heartbeat(now, 0, 0, 0, self.draining)

    def line(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview] | None:
        """Where a thread of that number records the requests that it runs. None: nowhere."""
        return None if self._page is None else self._page.request_line(thread)

    def tick(self, finished: int, connections: int, busy: int) -> None:
        """Write a heartbeat, check the limits of `Recycling`, and free memory if the worker is idle."""
        now = time.monotonic()
        self._unblock_signals()
        self._free_memory_when_idle(finished, busy)
        if self._page is not None:
            self._page.write_heartbeat(now, finished, connections, busy, self.draining)
        if self._recycling is not None and not (self._recycle_sent or self.draining):
            reason = self._recycling.reason(finished, now, self._memory_bytes)
            if reason is not None:
                self._recycle_sent = self._channel.send(Recycle(reason))

    def _unblock_signals(self) -> None:
        """Unblock the signals that the application has blocked in the main thread: a worker that does not react to a
        stop signal is killed in the end."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _NEEDED) & _NEEDED
        if blocked and not self._signals_logged:
            self._signals_logged = True
            names = ", ".join(map(signal_name, sorted(blocked)))
            log.warning(f"the application has blocked signals that this worker needs, which are unblocked: {names}")

    def in_flight(self, requests: int) -> None:
        """Write the number of requests in flight to the scoreboard, for a worker that drains. Loop, or a signal
        handler."""
        if self._page is not None:
            self._page.write_in_flight(requests)

    def _free_memory_when_idle(self, finished: int, busy: int) -> None:
        if busy or finished != self._finished:
            self._finished = finished
            self._idle_ticks = 0
            return
        self._idle_ticks += 1
        if self._idle_ticks == _IDLE_TICKS:
            give_back_free_pages()

    def note(self, connections: int, *, crowded: bool) -> None:
        """Publish the number of connections, and whether the worker is crowded, for the other workers to balance
        by."""
        if self._page is not None:
            self._page.write_load(connections, crowded=crowded)

    def fewest(self) -> int | None:
        """The fewest connections that another worker has, of those that accept and are not crowded. None: there is
        none."""
        return None if self._page is None else self._page.fewest_connections(time.monotonic())

    def alone(self) -> bool:
        """Whether the scoreboard shows no other worker."""
        return self._page is not None and self._page.is_alone(time.monotonic())

    def give_up(self, reason: str) -> None:
        """The loop cannot continue: have the worker replaced."""
        self.on_give_up(reason)

    def harakiri(self) -> None:
        """The application requests the end of this worker."""
        self.on_harakiri()

    async def measure_memory(self) -> None:
        """With max_worker_memory, measure the memory again and again, in a thread, until cancelled."""
        logged = False
        while self._settings.max_worker_memory:
            began = time.monotonic()
            try:
                self._memory_bytes = await anyio.to_thread.run_sync(used_bytes, abandon_on_cancel=True)
                logged = False
            except OSError as error:
                log.error(f"the memory of this worker cannot be measured, so max_worker_memory has no effect: {error}")
                return
            except (RuntimeError, MemoryError) as error:  # cannot start a thread
                if not logged:
                    log.error(f"the memory of this worker cannot be measured for now (max_worker_memory): {error}")
                logged = True
            await anyio.sleep(max(MEASURE_SECONDS, (time.monotonic() - began) / _MEASURE_SHARE))


def _nothing(*_: str) -> None:
    pass
