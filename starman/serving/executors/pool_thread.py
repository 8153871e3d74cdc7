"""A thread of the pool, as the pool and the loop see it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.metrics.request_counts import RequestCounter
    from starman.serving.monitor import RequestRecorder


class PoolThread:
    """wake_lock: a lock that the thread waits for; releasing it wakes the thread.

    number: from 0; that of a thread that has ended is used again. recorder: where the thread records its request.
    counter: where it counts finished ones.
    ident: the identifier of the thread (`threading.get_ident`); 0 before it runs. request: the one that it runs; None
    between two requests. Set by the thread, read by the loop.
    free_at: when its last request ended, monotonic; 0.0: it has slept since. The thread's own.
    """

    __slots__ = ("counter", "free_at", "ident", "number", "recorder", "request", "wake_lock")

    def __init__(self, number: int, recorder: RequestRecorder, counter: RequestCounter, *, awake: bool = False) -> None:
        """`awake`: the thread runs already, and does not wait for its wake lock first."""
        self.number = number
        self.recorder = recorder
        self.ident = 0
        self.request: QueuedRequest | None = None
        self.counter = counter
        self.free_at = 0.0
        self.wake_lock = threading.Lock()
        if not awake:
            self.wake_lock.acquire()
