"""How much memory the unread responses of one worker may take together. Without this limit each slow reader would add
its own.

A thread takes memory before it leaves a response to the loop, and the loop returns the memory when the client has read
the response. Bytes that the socket takes at once are not counted.
"""

from __future__ import annotations

import threading
from typing import Final


class ResponseMemory:
    """What is left of one worker's memory for unread responses (bytes).

    Any thread: threads take, and the loop does.
    """

    __slots__ = ("_lock", "bytes_left")

    def __init__(self, total_bytes: int) -> None:
        self._lock = threading.Lock()
        self.bytes_left = total_bytes

    def reserve_bytes(self, count: int) -> bool:
        """Take so many bytes more. False: there is no room, and nothing is taken."""
        with self._lock:
            if count > self.bytes_left:
                return False
            self.bytes_left -= count
            return True

    def overdraw(self, count: int) -> None:
        """Count so many bytes that are in memory already, even without room for them."""
        with self._lock:
            self.bytes_left -= count

    def release_bytes(self, count: int) -> None:
        """Return so many bytes."""
        with self._lock:
            self.bytes_left += count


class UnsentMemory:
    """A part of a response in memory, for which memory was taken. `data` is still to be sent."""

    __slots__ = ("_count", "_memory", "data")

    def __init__(self, data: memoryview, memory: ResponseMemory, count: int) -> None:
        """`count` bytes were taken from `memory`, and are given back by `close`."""
        self.data = data
        self._memory = memory
        self._count = count

    def close(self) -> None:
        """The part is sent, or never will be: return its memory. May be called more than once."""
        count, self._count = self._count, 0
        if count:
            self._memory.release_bytes(count)

    def __del__(self) -> None:
        # For a part that its thread could not hand over, because the connection was lost meanwhile.
        self.close()


def take_memory(data: memoryview, memory: ResponseMemory, most_bytes: int | None) -> UnsentMemory | None:
    """Take the memory for the last part of a response, and keep no more than that part. None: there is no room.

    `most_bytes`: how much the memory behind a view may be; None: any. A view that is the small end of a large body is
    copied.
    """
    whole = memoryview(data.obj).nbytes
    is_part = 2 * data.nbytes < whole or (most_bytes is not None and data.nbytes < whole > most_bytes)
    count = data.nbytes if is_part else whole
    if not memory.reserve_bytes(count):
        return None
    return UnsentMemory(memoryview(bytes(data)) if is_part else data, memory, count)


# For responses that are kept without a limit, as in tests.
UNLIMITED: Final = ResponseMemory(1 << 62)
