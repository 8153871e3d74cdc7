"""A thread's place on the pool's stack of idle threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.serving.monitor import Line


class IdleThread:
    """bell: a lock that the thread waits for; releasing it wakes the thread.

    line: where the thread records its request.
    """

    __slots__ = ("bell", "line")

    def __init__(self, line: Line, *, awake: bool = False) -> None:
        """`awake`: the thread runs already, and does not wait for its bell first."""
        self.line = line
        self.bell = threading.Lock()
        if not awake:
            self.bell.acquire()
