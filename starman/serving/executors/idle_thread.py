"""A thread's place on the pool's stack of idle threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.serving.monitor import RequestRecorder


class IdleThread:
    """wake_lock: a lock that the thread waits for; releasing it wakes the thread.

    recorder: where the thread records its request.
    """

    __slots__ = ("recorder", "wake_lock")

    def __init__(self, recorder: RequestRecorder, *, awake: bool = False) -> None:
        """`awake`: the thread runs already, and does not wait for its wake lock first."""
        self.recorder = recorder
        self.wake_lock = threading.Lock()
        if not awake:
            self.wake_lock.acquire()
