"""The threads that run applications, the queue they take exchanges from, and the lock on which the loop parks meanwhile.

`schedule` says when the loop parks, and why; how is written here. The queue is a deque beside a stack of idle threads, each
asleep on a lock of its own: the thread that slept last is woken first, its caches still warm. A thread that finds the
queue empty puts itself on the stack and then looks at the queue again, and whoever queues an exchange does it before looking at
the stack: so one of the two sees the other, and no wake-up is lost. Only a thread that the loop has asked to stop falls asleep
beside a queue that is not empty: the loop takes its question back before it looks at the queue, and then takes another turn.
Every order of these steps is tried in tests/unit/serving/executors/test_pool_interleavings.py: a change here is a change there.
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
from starman.serving.executors.idle_thread import IdleThread
from starman.serving.executors.schedule import SLICE, Mode, Schedule, Verdict
from starman.serving.monitor import Line, nowhere

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from starman.serving.executors.queued_request import QueuedRequest

# How many pipelined requests of one connection a thread takes in a row before others have their turn.
_MOST_IN_A_ROW: Final = 16


class Pool(Executor):
    """A fixed number of daemon threads, and the loop that feeds them."""

    __slots__ = (
        "_asked",
        "_gate",
        "_idle",
        "_parked",
        "_permits",
        "_posted",
        "_schedule",
        "_seen",
        "_stopped",
        "_takes_turns",
        "_threads",
    )

    def __init__(
        self,
        size: int,
        loop: AbstractEventLoop,
        *,
        takes_turns: bool,
        line: Callable[[int], Line | None] = lambda _: None,
    ) -> None:
        """`takes_turns` False: the loop is not ours alone, so it never parks. `line`: where the thread of that number, from 0,
        notes what it runs."""
        super().__init__(loop, holds_blocks=takes_turns)
        self._takes_turns = takes_turns
        self._schedule = Schedule()
        self._threads = [IdleThread(line(number) or nowhere()) for number in range(size)]
        self._idle = self._threads[::-1]
        self._stopped = False
        # A permit for each thread that may wait for a slow reader. Taken and put back without a lock: a deque's pop is atomic.
        self._permits = deque([None] * max(1, size - 1))
        self._seen = 0  # the length of the queue after the last poll
        # Between the two. Parked: the loop sets it, any thread takes it back and opens the gate. Asked: the loop sets it while it
        # parks, and takes it back. Posted: any thread sets it, the loop takes it back.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._parked = False
        self._asked = False
        self._posted = False

    def start(self) -> None:
        """Start the threads. After the loop's signals are unblocked: threads inherit the mask (hazard 8)."""
        for number, idle_thread in enumerate(self._threads, 1):
            # Daemons, so that an application that never returns cannot keep the worker from ending (hazard 16).
            thread = threading.Thread(target=self._work, args=(idle_thread,), name=f"starman-{number}", daemon=True)
            thread.start()

    def stop(self) -> None:
        """Let each thread end when it has nothing left to do. Does not wait. Loop."""
        self._stopped = True
        while self._wake():
            pass

    @property
    def busy(self) -> bool:
        """Whether an exchange waits or runs; its client may have gone. A look: it may be over at once."""
        return bool(self._queue) or len(self._idle) < len(self._threads)

    @property
    def awake(self) -> int:
        """How many threads are not asleep. A look."""
        return len(self._threads) - len(self._idle)

    def put(self, request: QueuedRequest) -> None:
        """Queue an exchange. Loop."""
        self._queue.append(request)
        if not self._takes_turns:
            self._wake()
        elif not self._turn_due:
            self._schedule_turn(polls=0)

    def begin_wait(self) -> bool:
        """Ask to wait until a client has read. A thread of the pool, which then calls `end_wait`, unless the answer is False.

        All but one may wait at the same time, so that slow readers never hold the last; where there is but one, that one may.
        """
        try:
            self._permits.pop()
        except IndexError:
            return False
        return True

    def end_wait(self) -> None:
        """The wait is over. The thread that asked for it."""
        self._permits.append(None)

    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call something: the one door to it (hazard 10), but for looks at the corking. Any thread.
        Raises RuntimeError when it is closed."""
        self._loop.call_soon_threadsafe(callback, *arguments)
        # Two that look at each other again: we set this, then look whether the loop is parked; it parks, then looks at this.
        self._posted = True
        self._unpark()

    # The loop's side

    def _schedule_turn(self, polls: int) -> None:
        # The loop calls everything that was posted until now before the turn.
        self._posted = False
        super()._schedule_turn(polls)

    def _take_turn(self) -> None:
        """The events of a poll are parsed: let the threads run, and park meanwhile, if that is the mode."""
        if self._waits_for_arrivals():
            return
        queued = len(self._queue)
        if queued > self._seen and self._polls < MOST_POLLS:
            # Hazard 9: more may be there. The fuller the queue, the fewer turns.
            self._seen = queued
            self._schedule_turn(self._polls + 1)
            return
        self._turn_due = False
        self._seen = 0
        if not queued:
            return
        now = time.monotonic()
        if self._schedule.mode(now) is Mode.POOL or self._park(now):
            for _ in range(len(self._queue)):
                if not self._wake():
                    break
        if self._queue and self.on_backlog is not None:
            self.on_backlog()

    def _park(self, now: float) -> bool:
        """Wake a thread, and wait until it has worked the queue down, or was asked to stop. True: it was found blocked."""
        self._schedule.parks(self.finished, time.process_time(), now)
        # Before the thread is woken: it may be done before we wait for it.
        self._parked = True
        self.corking.attend(now)
        if not self._wake():
            # All are awake, and none of them falls asleep without a look at the queue.
            self._parked = False
            self.corking.leave()
            return False
        blocked = False
        try:
            while not (blocked or self._posted or self._gate.acquire(timeout=SLICE)):
                verdict = self._schedule.after_slice(self.finished, time.process_time(), time.monotonic())
                if verdict is Verdict.ASK:
                    self._asked = True
                blocked = verdict is Verdict.OPEN
                self.corking.flush()
        finally:  # an application's signal handler may raise in there
            self._parked = False
            self.corking.leave()
            self._asked = False
            # After that: a thread that has still seen the question sleeps, and left the queue to us. One poll, then it is woken.
            if self._queue and not blocked:
                self._schedule_turn(MOST_POLLS)
        return blocked

    def _wake(self) -> bool:
        """Wake the thread that fell asleep last. Any side. Whether there was one."""
        try:
            idle_thread = self._idle.pop()
        except IndexError:
            return False
        idle_thread.bell.release()
        return True

    # The threads' side

    def _unpark(self) -> None:
        if self._parked:
            self._parked = False
            self.corking.attended = False
            # Another thread may have done it at the same time. At worst the gate is left open, and the next park is none.
            with contextlib.suppress(RuntimeError):
                self._gate.release()

    def _work(self, idle_thread: IdleThread) -> None:
        while True:
            try:
                self._work_down(idle_thread)
                return
            except BaseException as error:
                # Raised in this thread from outside between two requests, as timeout libraries do (PyThreadState_SetAsyncExc).
                idle_thread = self._begin_anew(idle_thread, error)

    def _begin_anew(self, idle_thread: IdleThread, error: BaseException) -> IdleThread:
        """Make this thread go on, awake, with a new bell: the old one may still be rung."""
        with contextlib.suppress(ValueError):
            self._idle.remove(idle_thread)
        idle_thread.line[1][0] = 0
        log.error(f"a thread of the pool was interrupted, and goes on\n{format_exception(error)}")
        return IdleThread(idle_thread.line, awake=True)

    def _work_down(self, idle_thread: IdleThread) -> None:
        queue = self._queue
        idle_thread.bell.acquire()
        while True:
            if self._asked:
                self._sleep(idle_thread)
            try:
                exchange = queue.popleft()
            except IndexError:
                if self._stopped and not queue:  # it was empty; since then an exchange may have been queued, and all told to stop
                    return
                self._sleep(idle_thread)
                continue
            try:
                self._run(idle_thread, exchange)
            except BaseException as error:
                exchange.abandon(error)
                raise
            del exchange  # while this thread sleeps, it keeps nothing of a connection alive

    def _sleep(self, idle_thread: IdleThread) -> None:
        """Until somebody queues an exchange. On the stack first, then a look at the queue: see the module's docstring."""
        self._idle.append(idle_thread)
        if (self._queue and not self._asked) or self._stopped:
            try:
                self._idle.remove(idle_thread)
            except ValueError:
                pass  # taken off by whoever rings the bell now
            else:
                return
        else:
            self._unpark()
        idle_thread.bell.acquire()

    def _run(self, idle_thread: IdleThread, exchange: QueuedRequest) -> None:
        note, busy = idle_thread.line
        for _ in range(_MOST_IN_A_ROW):
            try:
                head = exchange.head
                note(exchange.queued_at, head.method, head.target)
                following = exchange.run()
            except BaseException as error:  # a defect of ours must cost neither a thread nor a hanging client
                exchange.abandon(error)
                following = None
            self.finished += 1
            busy[0] = 0
            if self.corking.writers:
                follows = (following is not None or bool(self._queue)) and not self._asked
                self.corking.after_request(time.monotonic(), follows=follows)
            if following is None:
                return
            exchange = following
            if self._asked:
                break
        # Nobody is woken for it: this thread is awake.
        self._queue.append(exchange)
