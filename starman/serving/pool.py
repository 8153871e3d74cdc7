"""The threads that run applications, and the one queue they take exchanges from.

`queue.SimpleQueue` was measured at 57-70k requests a second where a pool with a lock per thread had 39-41k, and
`run_in_executor` 17k: its get and put are C, and a thread that finds work does not sleep.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue

from starman import log
from starman.serving.exchange import Exchange

# How many pipelined requests of one connection a thread takes in a row before others have their turn.
_MOST_IN_A_ROW = 16


class Pool:
    """A fixed number of daemon threads. `put` may be called by any thread."""

    __slots__ = ("_queue", "_running", "_size", "_threads", "put")

    def __init__(self, size: int) -> None:
        self._queue: SimpleQueue[Exchange | None] = SimpleQueue()
        self.put = self._queue.put
        self._size = size
        # Each thread writes its own place only.
        self._running = [False] * size
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads. After the loop's signals are unblocked: threads inherit the mask (hazard 8)."""
        for number in range(self._size):
            # Daemons, so that an application that never returns cannot keep the worker from ending (hazard 16).
            thread = threading.Thread(target=self._work, args=(number,), name=f"starman-{number + 1}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Let each thread end when it has nothing left to do. Does not wait."""
        for _ in self._threads:
            self.put(None)

    @property
    def busy(self) -> bool:
        """Whether an exchange waits or runs; its client may have gone. A look: it may be over at once."""
        return not self._queue.empty() or any(self._running)

    def _work(self, number: int) -> None:
        get = self._queue.get
        running = self._running
        while True:
            running[number] = False
            exchange = get()
            if exchange is None:
                return
            running[number] = True
            for _ in range(_MOST_IN_A_ROW):
                current = exchange
                try:
                    exchange = current.run()
                except BaseException as error:  # a defect of ours must cost neither a thread nor a hanging client
                    _log_defect(error)
                    current.abandon()
                    exchange = None
                if exchange is None:
                    break
            else:
                self.put(exchange)


def _log_defect(error: BaseException) -> None:
    import traceback

    log.error("an exchange failed inside starman\n" + "".join(traceback.format_exception(error)))
