"""The thread pool: threads that run requests, the queue that they take requests from, and the lock on which the loop
parks.

`schedule` decides when the loop parks. The queue is a deque beside a stack of idle threads, each asleep on a lock of
its own. The thread that fell asleep last is woken first, because its caches are still warm.

No wake-up is lost: a thread that finds the queue empty puts itself on the stack and then checks the queue again, and a
request is queued before the stack is checked. So one of the two sides sees the other. Only a thread that the loop has
asked to stop falls asleep beside a queue that is not empty: the loop withdraws the question before it checks the
queue, and then takes another turn. tests/unit/serving/executors/test_pool_interleavings.py tries every order of these
steps: change both together.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from starman import log
from starman.log.tracebacks import format_exception
from starman.serving.executors.executor import MOST_POLLS, Executor
from starman.serving.executors.pool_thread import PoolThread
from starman.serving.executors.queued_request import EXPIRED
from starman.serving.executors.schedule import SLICE, Mode, Schedule, Verdict
from starman.serving.monitor import RequestRecorder, no_recorder, record_thread

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from starman.serving.executors.queued_request import QueuedRequest

# How many pipelined requests of one connection a thread takes in a row before others have their turn.
_MOST_IN_A_ROW: Final = 16


class Pool(Executor):
    """A number of daemon threads, and the loop that feeds them. A thread that is lost has a spare in its place; if it
    comes back, the next thread without work ends."""

    __slots__ = (
        *("_asked", "_counters", "_ended_at", "_gate", "_idle", "_parked", "_permits", "_posted", "_recorder_of"),
        *("_schedule", "_seen", "_stopped", "_takes_turns", "_threads"),
    )

    def __init__(
        self,
        size: int,
        loop: AbstractEventLoop,
        *,
        takes_turns: bool,
        recorder_of: Callable[[int], RequestRecorder | None] = lambda _: None,
    ) -> None:
        """`takes_turns`: whether the loop may park; False if it also serves something else.

        `recorder_of`: as `Heartbeat.request_recorder`.
        """
        super().__init__(loop, size, holds_blocks=takes_turns)
        self._takes_turns = takes_turns
        self._schedule = Schedule()
        self._recorder_of = recorder_of
        self._counters = [self.request_counts.new_counter() for _ in range(size)]
        self._threads = [self._make_thread(number, awake=False) for number in range(size)]
        self._idle = self._threads[::-1]
        self._stopped = False
        # A permit for each thread that may wait for a slow reader. No lock: the steps of a deque are atomic.
        self._permits = deque([None] * max(1, size - 1))
        self._seen = 0  # the length of the queue after the last poll
        # Shared. `_parked`: the loop sets it; any thread resets it and then opens the gate. `_asked` (to stop): the
        # loop sets and resets it. `_posted`: any thread sets it, the loop resets it. `_ended_at`: any thread sets it
        # when its request has ended, and the loop looks whether it has changed.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._parked = False
        self._asked = False
        self._posted, self._ended_at = False, 0.0

    def start(self) -> None:
        """Start the threads. After the loop's signals are unblocked: threads inherit the mask (hazard 8)."""
        for pool_thread in self._threads:
            self._start_thread(pool_thread)

    def stop(self) -> None:
        """Let each thread end when it has nothing left to do. Does not wait. Loop."""
        self._stopped = True
        while self._wake():
            pass

    @property
    def busy(self) -> bool:
        """Whether a request waits or runs; its client may have gone. Any thread; the answer may change at once."""
        return bool(self._queue) or self.awake > 0

    @property
    def threads(self) -> int:
        """How many threads run requests, without lost ones."""
        return len(self._threads) - len(self.lost_threads.threads)

    @property
    def awake(self) -> int:
        """How many threads are not asleep, without lost ones. Any thread; the answer may change at once."""
        return self.threads - len(self._idle)

    def lose(self, ident: int, request: QueuedRequest) -> None:
        """As in `Executor`. The thread cannot come back meanwhile: it waits while the request `ends`."""
        for thread in self._threads.copy():
            if thread.ident == ident and thread.request is request:
                self.lost_threads.add(thread)
                self.start_missing()
                return

    def start_missing(self) -> None:
        """Start the spares that could not be started before. Loop."""
        if not self._stopped:
            self.lost_threads.start_missing(self._start_spare)

    def running(self) -> list[tuple[int, QueuedRequest]]:
        """The requests that run, each with the identifier of its thread. Any thread; the answer may change at once."""
        # A copy, and each attribute is read once: threads change both at any time.
        threads = self._threads.copy()
        return [(thread.ident, request) for thread in threads if (request := thread.request) is not None]

    def put(self, request: QueuedRequest) -> None:
        """Queue a request. Loop."""
        self._queue.append(request)
        if not self._takes_turns:
            self._wake()
        elif not self._turn_due:
            self._schedule_turn(polls=0)

    def begin_wait(self) -> bool:
        """Ask to wait until a client has read. A thread of the pool, which calls `end_wait` after the wait. False: do
        not wait.

        All threads but one may wait at the same time, so slow readers never hold the last thread. A single thread may
        wait.
        """
        try:
            self._permits.pop()
        except IndexError:
            return False
        return True

    def end_wait(self) -> None:
        """The wait is over. The thread that called `begin_wait`."""
        self._permits.append(None)

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call `callback`, and end a park (hazard 10). Any thread. Raises RuntimeError when the loop is
        closed.

        The only way to the loop, except for the timer of `Corking`.
        """
        self._loop.call_soon_threadsafe(callback, *arguments)
        # In this order: the loop sets `_parked` first, then checks `_posted`.
        self._posted = True
        self._unpark()

    # The loop's side

    def _make_thread(self, number: int, *, awake: bool) -> PoolThread:
        # Each counter belongs to the thread of that number.
        while number >= len(self._counters):
            self._counters.append(self.request_counts.new_counter())
        return PoolThread(number, self._recorder_of(number) or no_recorder(), self._counters[number], awake=awake)

    def _start_thread(self, thread: PoolThread) -> None:
        # Daemons, so that an application that never returns cannot keep the worker from ending (hazard 16).
        threading.Thread(target=self._work, args=(thread,), name=f"starman-{thread.number + 1}", daemon=True).start()

    def _start_spare(self, number: int) -> None:
        spare = self._make_thread(number, awake=True)
        self._threads.append(spare)
        try:
            self._start_thread(spare)
        except BaseException:
            self._threads.remove(spare)
            raise

    def _schedule_turn(self, polls: int) -> None:
        # The loop calls everything that was posted until now before the turn.
        self._posted = False
        super()._schedule_turn(polls)

    def _take_turn(self) -> None:
        """The events of a poll are parsed: let the threads run, and park meanwhile if the mode is TURNS."""
        if self._waits_for_arrivals():
            return
        queued = len(self._queue)
        if queued > self._seen and self._polls < MOST_POLLS:
            # Hazard 9: another poll may bring more requests. The fuller the queue, the fewer turns.
            self._seen = queued
            self._schedule_turn(self._polls + 1)
            return
        self._turn_due = False
        self._seen = 0
        if not queued:
            return
        if queued > self.longest_queue:
            self.longest_queue = queued
        now = time.monotonic()
        if self._schedule.mode(now) is Mode.POOL or self._park(now):
            for _ in range(len(self._queue)):
                if not self._wake():
                    break
        if self._queue and self.on_backlog is not None:
            self.on_backlog()

    def _park(self, now: float) -> bool:
        """Wake a thread, and wait until it has emptied the queue or was asked to stop.

        True: the threads are blocked.
        """
        self._schedule.parks(self._ended_at, time.process_time(), now)
        # Before the thread is woken: it may be done before the loop waits.
        self._parked = True
        self.corking.attend(now)
        if not self._wake():
            # All threads are awake, and none falls asleep without checking the queue.
            self._parked = False
            self.corking.leave()
            return False
        blocked = False
        try:
            while not (blocked or self._posted or self._gate.acquire(timeout=SLICE)):
                verdict = self._schedule.after_slice(self._ended_at, time.process_time(), time.monotonic())
                if verdict is Verdict.ASK:
                    self._asked = True
                blocked = verdict is Verdict.OPEN
                self.corking.flush()
        finally:  # an application's signal handler may raise in there
            self._parked = False
            self.corking.leave()
            self._asked = False
            # Check the queue after that: a thread that has still seen the question sleeps beside a queue that is not
            # empty.
            if self._queue and not blocked:
                self._schedule_turn(MOST_POLLS)
        return blocked

    def _wake(self) -> bool:
        """Wake the thread that fell asleep last. Either side. False: no thread sleeps."""
        try:
            pool_thread = self._idle.pop()
        except IndexError:
            return False
        pool_thread.wake_lock.release()
        return True

    # The threads' side

    def _unpark(self) -> None:
        if self._parked:
            self._parked = False
            self.corking.attended = False
            # Another thread may have opened the gate at the same time. At worst it stays open, and the next park ends
            # at once.
            with contextlib.suppress(RuntimeError):
                self._gate.release()

    def _work(self, pool_thread: PoolThread) -> None:
        pool_thread.ident = threading.get_ident()
        record_thread(pool_thread.recorder[1])
        while True:
            try:
                self._work_down(pool_thread)
                return
            except BaseException as error:
                # Raised in this thread from outside between two requests, as timeout libraries do
                # (PyThreadState_SetAsyncExc).
                pool_thread = self._begin_anew(pool_thread, error)

    def _begin_anew(self, pool_thread: PoolThread, error: BaseException) -> PoolThread:
        """Make this thread go on, awake, with a new wake lock: the old one may still be released."""
        with contextlib.suppress(ValueError):
            self._idle.remove(pool_thread)
        pool_thread.recorder[1][0] = 0
        request = pool_thread.request
        if request is not None and request.time_limit == EXPIRED:
            self.lost_threads.come_back(pool_thread, request)
        if request is None or not request.is_interrupted:
            log.error(f"a thread of the pool was interrupted, and goes on\n{format_exception(error)}")
        renewed = PoolThread(pool_thread.number, pool_thread.recorder, pool_thread.counter, awake=True)
        renewed.ident = pool_thread.ident
        self._threads.append(renewed)
        self._threads.remove(pool_thread)
        return renewed

    def _work_down(self, pool_thread: PoolThread) -> None:
        queue = self._queue
        pool_thread.wake_lock.acquire()
        while True:
            if self._asked:
                self._sleep(pool_thread)
            try:
                exchange = queue.popleft()
            except IndexError:
                if self._stopped and not queue:  # checked again: a request may have come before the stop
                    return
                if self.lost_threads.surplus and self.lost_threads.retires(pool_thread):
                    # The others check the queue before they sleep, and are as many as before.
                    self._threads.remove(pool_thread)
                    self._unpark()
                    return
                self._sleep(pool_thread)
                continue
            try:
                self._run(pool_thread, exchange)
            except BaseException as error:
                exchange.abandon(error)
                raise
            del exchange  # so that a sleeping thread keeps nothing of a connection alive

    def _sleep(self, pool_thread: PoolThread) -> None:
        """Sleep until a request is queued. Join the stack first, then check the queue: see the module's docstring."""
        pool_thread.free_at = 0.0
        self._idle.append(pool_thread)
        if (self._queue and not self._asked) or self._stopped:
            try:
                self._idle.remove(pool_thread)
            except ValueError:
                pass  # taken from the stack: the wake lock is about to be released
            else:
                return
        else:
            self._unpark()
        pool_thread.wake_lock.acquire()

    def _run(self, pool_thread: PoolThread, exchange: QueuedRequest) -> None:
        record, busy = pool_thread.recorder
        counter = pool_thread.counter
        for _ in range(_MOST_IN_A_ROW):
            try:
                head = exchange.head
                record(exchange.queued_at, head.method, head.target)
                pool_thread.request = exchange
                # One reading of the clock is the end of a request and the start of the next one, if that has waited.
                exchange.started_at = pool_thread.free_at if pool_thread.free_at >= exchange.queued_at else 0.0
                following = exchange.run()
            except BaseException as error:  # a defect of the server must cost neither the thread nor a client that waits forever
                exchange.abandon(error)
                following = None
            pool_thread.free_at = now = time.monotonic()
            if exchange.time_limit != EXPIRED:
                counter.count(exchange, now)
                counter.finished += 1
                self._ended_at = now
            else:  # the loop counts it, maybe at this moment
                self.lost_threads.come_back(pool_thread, exchange)
            busy[0] = 0
            pool_thread.request = None
            if self.corking.writers:
                follows = (following is not None or bool(self._queue)) and not self._asked
                self.corking.after_request(now, follows=follows)
            if following is None:
                return
            exchange = following
            if self._asked:
                break
        exchange.runnable_at = time.monotonic()
        # This wakes no thread: this one is awake.
        self._queue.append(exchange)
