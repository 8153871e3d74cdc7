"""Reports a worker's state to its master: writes to the scoreboard, and says when the worker should be replaced."""

from __future__ import annotations

import os
import random
import signal
import time

import anyio
import anyio.to_thread

from starman import log
from starman.process.forking import STACKS
from starman.process.messages import Recycle
from starman.process.worker.malloc import give_back_free_pages
from starman.process.worker.recycling import Recycling, used_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.scoreboard import Place

# How often (seconds) the memory is measured at most, and what part of the time may go into that: 200 MB take 5 ms.
MEASURE_SECONDS = 1.0
_MEASURE_SHARE = 0.005

# A worker that has finished no request for so many ticks, and runs none, gives back what memory it has kept for the next ones.
_IDLE_TICKS = 10

# What the master tells a worker by signals. Other signals may be blocked: a thread of the application may wait for them.
_NEEDED = frozenset({signal.SIGQUIT, signal.SIGTERM, STACKS})


class WorkerMonitor:
    """The `Monitor` of a worker's service. All methods are the loop's.

    on_harakiri: called when the application asks for the end of the worker. on_give_up: called with the reason when the loop
    cannot go on. draining: whether the worker drains already.
    """

    __slots__ = (
        "_channel",
        "_finished",
        "_idle_ticks",
        "_memory_bytes",
        "_place",
        "_recycle_sent",
        "_recycling",
        "_settings",
        "_signals_logged",
        "_slot",
        "draining",
        "on_give_up",
        "on_harakiri",
    )

    def __init__(self, channel: Channel, slot: int, place: Place | None, settings: Settings) -> None:
        """The worker is that of `slot`; `place` is None when the scoreboard is full."""
        self._channel = channel
        self._slot = slot
        self._place = place
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
        """The worker is ready: from now on it is worn, and watched."""
        now = time.monotonic()
        self._recycling = Recycling(self._settings, now, random.SystemRandom().random)
        if self._place is not None:
            self._place.begin(os.getpid(), self._slot, now)
            self._place.beat(now, 0, 0, 0, self.draining)

    def line(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview] | None:
        """Where a thread notes the requests that it runs."""
        return None if self._place is None else self._place.line(thread)

    def tick(self, finished: int, connections: int, busy: int) -> None:
        """Show that the loop is alive, look whether the worker is spent, and whether it has nothing to do."""
        now = time.monotonic()
        self._unblock_signals()
        self._free_memory_when_idle(finished, busy)
        if self._place is not None:
            self._place.beat(now, finished, connections, busy, self.draining)
        if self._recycling is not None and not (self._recycle_sent or self.draining):
            reason = self._recycling.reason(finished, now, self._memory_bytes)
            if reason is not None:
                self._recycle_sent = self._channel.send(Recycle(reason))

    def _unblock_signals(self) -> None:
        """Unblock what the application has blocked in the main thread: a worker that does not hear a stop would be killed."""
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, _NEEDED) & _NEEDED
        if blocked and not self._signals_logged:
            self._signals_logged = True
            names = ", ".join(signal.Signals(signum).name for signum in sorted(blocked))
            log.warning(f"the application has blocked signals that this worker needs, which are unblocked: {names}")

    def in_flight(self, requests: int) -> None:
        """Show how many requests are in flight, because the worker is to drain or drains. The loop, or a signal handler."""
        if self._place is not None:
            self._place.count(requests)

    def _free_memory_when_idle(self, finished: int, busy: int) -> None:
        if busy or finished != self._finished:
            self._finished = finished
            self._idle_ticks = 0
            return
        self._idle_ticks += 1
        if self._idle_ticks == _IDLE_TICKS:
            give_back_free_pages()

    def note(self, connections: int, *, crowded: bool) -> None:
        """Let the siblings know how this worker is."""
        if self._place is not None:
            self._place.note(connections, crowded=crowded)

    def fewest(self) -> int | None:
        """How many connections the least busy sibling has."""
        return None if self._place is None else self._place.fewest(time.monotonic())

    def alone(self) -> bool:
        """Whether this worker is the only one, as far as the scoreboard tells."""
        return self._place is not None and self._place.alone(time.monotonic())

    def give_up(self, reason: str) -> None:
        """The loop cannot go on: have the worker replaced."""
        self.on_give_up(reason)

    def harakiri(self) -> None:
        """The application wishes that this process ends."""
        self.on_harakiri()

    async def measure_memory(self) -> None:
        """Measure the worker's memory now and then, in a thread, if that is bounded; until it is cancelled."""
        logged = False
        while self._settings.max_worker_memory:
            began = time.monotonic()
            try:
                self._memory_bytes = await anyio.to_thread.run_sync(used_bytes, abandon_on_cancel=True)
                logged = False
            except OSError as error:
                log.error(f"the memory of this worker cannot be measured, and is not bounded (max_worker_memory): {error}")
                return
            except (RuntimeError, MemoryError) as error:  # no thread can be started for it
                if not logged:
                    log.error(f"the memory of this worker cannot be measured for now (max_worker_memory): {error}")
                logged = True
            await anyio.sleep(max(MEASURE_SECONDS, (time.monotonic() - began) / _MEASURE_SHARE))


def _nothing(*_: str) -> None:
    pass
