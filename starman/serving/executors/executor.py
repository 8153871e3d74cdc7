"""The interface of what runs requests: threads (`executors.pool`), or the event loop itself (`executors.inline`).

Must not import an implementation or the context of a service.

A base class, not a Protocol: mypyc calls its methods through a vtable.
"""

from __future__ import annotations

import contextlib
from abc import ABCMeta, abstractmethod
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from starman.serving.executors.lost_threads import LostThreads
from starman.serving.metrics.request_counts import RequestCounts
from starman.serving.sending.corking import Corking

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from starman.serving.executors.queued_request import QueuedRequest

# How many polls of the loop may bring requests before a turn begins all the same.
MOST_POLLS: Final = 1
# How many polls more while a connection is new: the first poll creates it, and the second one reads its request.
ARRIVAL_POLLS: Final = 2


# How long (seconds) the loop ends requests of the queue before it serves its connections again.
LOOP_SLICE: Final = 0.002


def end_in_loop(request: QueuedRequest, end: Callable[[], QueuedRequest | None], counts: RequestCounts) -> None:
    """Call `end`, a method of `request` that ends its connection and counts the request in `counts`. Loop, after
    `Executor.withdraw`."""
    try:
        end()
    except BaseException as error:  # a defect of the server, or no memory: as in a thread
        request.abandon(error)
        with contextlib.suppress(MemoryError):  # no thread counts it
            counts.add_unrun(request, request.status_code, monotonic())


class Executor(metaclass=ABCMeta):
    """Runs requests in the order in which they were queued, in turns: the requests that one poll of the loop brings
    run together.

    corking: the responses and blocks that wait a moment to be written together.
    finished: how many requests have ended in the loop. The loop's own: each thread counts its own (`all_finished`).
    longest_queue: how many requests have waited at most when a turn began. The loop reads it and sets it to 0.
    lost_threads: the threads with requests that have passed their deadlines, and have not ended.
    request_counts: what the threads, or the loop, have counted of finished requests.
    on_backlog: called in the loop when requests are left in the queue at the end of a turn; None: not called.
    """

    __slots__ = (
        *("_arriving", "_loop", "_polls", "_queue", "_turn_due", "corking", "finished", "longest_queue", "lost_threads"),
        *("on_backlog", "request_counts"),
    )

    def __init__(self, loop: AbstractEventLoop, threads: int, *, holds_blocks: bool) -> None:
        """`threads`: how many there are. `holds_blocks`: as of `Corking`."""
        self._loop = loop
        self._queue: deque[QueuedRequest] = deque()
        # Loop only: whether a turn is due when the events of this poll are parsed, and how many polls it has been put
        # off.
        self._turn_due = False
        self._polls = 0
        self._arriving = 0  # how many polls a turn has still to wait for the requests of new connections
        self.corking = Corking(loop, self._queue, holds_blocks=holds_blocks)
        self.finished = 0
        self.longest_queue = 0
        self.lost_threads = LostThreads(threads)
        self.request_counts = RequestCounts()
        self.on_backlog: Callable[[], None] | None = None

    # Of each implementation

    @abstractmethod
    def start(self) -> None:
        """Get ready to run requests. Loop."""

    @abstractmethod
    def stop(self) -> None:
        """End when every queued request has run. Does not block. Loop."""

    @property
    @abstractmethod
    def busy(self) -> bool:
        """Whether a request waits or runs; its client may have gone. Any thread; the answer may change at once."""

    @property
    @abstractmethod
    def awake(self) -> int:
        """How many threads are not idle. Any thread; the answer may change at once."""

    @abstractmethod
    def running(self) -> list[tuple[int, QueuedRequest]]:
        """The requests that run in threads, each with the identifier of its thread (`threading.get_ident`).

        Any thread; the answer may change at once."""

    @abstractmethod
    def lose(self, ident: int, request: QueuedRequest) -> None:
        """Count the thread `ident` as lost while it runs `request`, which has expired, and start a spare. Loop."""

    @abstractmethod
    def start_missing(self) -> None:
        """Start the spares that could not be started before. Loop."""

    @abstractmethod
    def put(self, request: QueuedRequest) -> None:
        """Queue a request. Loop."""

    @abstractmethod
    def post(self, callback: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call `callback` soon. Any thread. Raises RuntimeError when the loop is closed."""

    @abstractmethod
    def begin_wait(self) -> bool:
        """Ask for permission to wait until a client has read. The thread of a request, which calls `end_wait` after
        the wait.

        False: too many threads wait already, or the loop runs the request and must not wait.
        """

    @abstractmethod
    def end_wait(self) -> None:
        """The wait is over. The thread that called `begin_wait`."""

    @abstractmethod
    def _take_turn(self) -> None:
        """Run the requests of a turn. Loop."""

    # Shared

    @property
    def all_finished(self) -> int:
        """How many requests have ended, in threads and in the loop. Loop."""
        return self.finished + self.request_counts.finished

    @property
    def threads(self) -> int:
        """How many threads run requests; 0: the loop runs them."""
        return 0

    @property
    def queue_length(self) -> int:
        """How many requests wait. Any thread; the answer may change at once."""
        return len(self._queue)

    def longest_wait(self, now: float) -> float:
        """How long (seconds) the oldest request in the queue has waited; 0.0 when it is empty. Loop.

        `now` is monotonic.
        """
        try:
            return now - self._queue[0].queued_at
        except IndexError:
            return 0.0

    def withdraw(self, request: QueuedRequest) -> bool:
        """Take a request out of the queue, to end it in the place of a thread. Loop. False: a thread has taken it.

        One step, like every step of a deque: comparing requests runs no code of Python. A thread that is asleep, or
        about to be, need not be told that less is in the queue.
        """
        try:
            self._queue.remove(request)
        except ValueError:
            return False
        return True

    def drop_gone(self, now: float) -> None:
        """End the requests in the queue whose clients have left. Loop. `now` is monotonic."""
        if not self._queue:
            return
        until = now + LOOP_SLICE
        for request in self._queue.copy():
            if request.is_gone(now) and self.withdraw(request):
                end_in_loop(request, request.end_lost, self.request_counts)
                if monotonic() > until:
                    self._loop.call_soon(self._drop_more)
                    return

    def _drop_more(self) -> None:
        self.drop_gone(monotonic())

    def welcome(self) -> None:
        """A connection was accepted: wait for its first request before the next turn. Loop.

        The request is likely to be in the kernel already. Without this wait it would run a turn later (hazard 9).
        """
        self._arriving = ARRIVAL_POLLS

    def _schedule_turn(self, polls: int) -> None:
        """Take a turn after the events of this poll; `polls`: how many polls the turn has been put off."""
        self._turn_due = True
        self._polls = polls
        self._loop.call_soon(self._take_turn)

    def _waits_for_arrivals(self) -> bool:
        """Whether the turn is put off by a poll, because a new connection is about to bring a request."""
        if not self._arriving or self._polls >= MOST_POLLS + ARRIVAL_POLLS:
            return False
        self._arriving -= 1
        self._schedule_turn(self._polls + 1)
        return True
