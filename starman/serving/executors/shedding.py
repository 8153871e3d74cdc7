"""The executors of a service that refuses requests when too many wait, or one has waited too long (`load_shedding`).

They are classes of their own, so without such limits a request pays nothing. The loop refuses a request by taking it
out of the queue, and then answers in the place of a thread. A thread refuses the late requests that it takes itself
(`Exchange.run`). So each request is answered once.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from starman.serving.executors.executor import LOOP_SLICE, end_in_loop
from starman.serving.executors.inline import Inline, InlineExchange
from starman.serving.executors.pool import Pool
from starman.serving.load_shedding import QUEUE_IS_FULL, WAITED_TOO_LONG

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.load_shedding import LoadShedding
    from starman.serving.monitor import RequestRecorder

# The queue is checked for late requests at most this often (seconds).
_SHORTEST_PAUSE: Final = 0.01
# A full queue is checked for requests whose clients have gone at most this often (seconds).
_DROP_PAUSE: Final = 0.1


class SheddingPool(Pool):
    """A pool whose queue has limits. Loop only, as far as it differs from `Pool`."""

    __slots__ = ("_check_at", "_dropped_at", "_shedding", "_timer")

    def __init__(
        self,
        size: int,
        loop: AbstractEventLoop,
        shedding: LoadShedding,
        *,
        takes_turns: bool,
        recorder_of: Callable[[int], RequestRecorder | None] = lambda _: None,
    ) -> None:
        super().__init__(size, loop, takes_turns=takes_turns, recorder_of=recorder_of)
        self._shedding = shedding
        self._timer: TimerHandle | None = None
        self._check_at = inf  # when the timer runs, monotonic
        self._dropped_at = 0.0

    def put(self, request: QueuedRequest) -> None:
        """Queue a request, or refuse it at once. Loop."""
        now, timeout = monotonic(), self._shedding.queue_timeout
        waited = request.thread_wait(now)
        if waited >= timeout:
            self._shed(request, WAITED_TOO_LONG)
        elif self._shedding.max_queue and self._is_full(now):
            self._shed(request, QUEUE_IS_FULL)
        else:
            super().put(request)
            if timeout < inf:
                self._check_by(now + timeout - waited, now)

    def drop_gone(self, now: float) -> None:
        """As in `Executor`. Each tick calls this, so it also checks the requests that a thread has put back."""
        super().drop_gone(now)
        if self._shedding.queue_timeout < inf:
            self._shed_late()

    def stop(self) -> None:
        """As in `Pool`."""
        if self._timer is not None:
            self._timer.cancel()
        self._check_at = -inf
        super().stop()

    def _is_full(self, now: float) -> bool:
        """Whether as many requests wait as may. Requests for which a thread is idle do not wait."""
        if len(self._queue) - len(self._idle) < self._shedding.max_queue:
            return False
        if now - self._dropped_at < _DROP_PAUSE:
            return True
        self._dropped_at = now
        super().drop_gone(now)
        return len(self._queue) - len(self._idle) >= self._shedding.max_queue

    def _check_by(self, instant: float, now: float) -> None:
        """Check the queue for late requests at `instant`, if not before."""
        if instant < self._check_at:
            if self._timer is not None:
                self._timer.cancel()
            self._check_at = instant
            self._timer = self._loop.call_later(max(instant - now, 0.0), self._shed_late)

    def _shed_late(self) -> None:
        """Refuse the requests that have waited too long, and set the timer for the next one."""
        if self._check_at == -inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._check_at = None, inf
        now, timeout = monotonic(), self._shedding.queue_timeout
        until, following = now + LOOP_SLICE, inf
        for request in self._queue.copy():
            left = timeout - request.thread_wait(now)
            if left > 0.0:
                following = min(following, max(now + left, now + _SHORTEST_PAUSE))
            elif self.withdraw(request):
                self._shed(request, WAITED_TOO_LONG)
                if monotonic() > until:
                    following = now
                    break
        if following < inf:
            self._check_by(following, monotonic())

    def _shed(self, request: QueuedRequest, reason: str) -> None:
        end_in_loop(request, lambda: request.shed(reason), self.request_counts)


class SheddingInline(Inline):
    """Without threads: the number of waiting requests has a limit. `Exchange.run` refuses those that are late when
    their turn comes: while the loop runs another request, nothing can refuse them."""

    __slots__ = ("_shedding",)

    def __init__(
        self,
        loop: AbstractEventLoop,
        shedding: LoadShedding,
        *,
        recorder_of: Callable[[int], RequestRecorder | None] = lambda _: None,
    ) -> None:
        super().__init__(loop, recorder_of=recorder_of)
        self._shedding = shedding

    def put(self, request: QueuedRequest) -> None:
        """Queue a request, or refuse it at once; or queue one whose response goes on."""
        most = self._shedding.max_queue
        if most and len(self._queue) >= most and not (isinstance(request, InlineExchange) and request.has_begun):
            end_in_loop(request, lambda: request.shed(QUEUE_IS_FULL), self.request_counts)
        else:
            super().put(request)
