"""Memory for request bodies: a budget for all bodies of one worker, and buffers that are not cleared before they are
filled.

Without the budget each client could add a body of its own to the worker's memory. Never imports asyncio.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Callable

# Each body may take this many bytes outside the budget, no more than a request's head may take. So a request with a
# small body costs no accounting.
FREE_BYTES = 16_384


class BodyMemory:
    """The budget of one worker. The loop reserves bytes, any thread releases them, and there is no lock.

    each_bytes: a larger body goes to a spool file, even if the budget has room for it. free_bytes: what each body may
    take without a reservation.
    """

    __slots__ = ("_available", "_released", "each_bytes", "free_bytes")

    def __init__(self, each_bytes: int, total_bytes: int) -> None:
        self.each_bytes = each_bytes
        self.free_bytes = min(FREE_BYTES, each_bytes)
        self._available = total_bytes
        # Threads append here, and the loop adds up what they have appended: a number that threads add to would need a
        # lock.
        self._released: deque[int] = deque()

    def reserve(self, count: int) -> bool:
        """Reserve `count` bytes more. False: the budget has no room for them, and nothing is reserved. Loop."""
        self._available = available = self.available
        if count > available:
            return False
        self._available = available - count
        return True

    def release(self, count: int) -> None:
        """Return `count` bytes that were reserved. Any thread."""
        self._released.append(count)

    @property
    def available(self) -> int:
        """How many bytes may still be reserved. Loop."""
        released = self._released
        while released:
            self._available += released.popleft()
        return self._available


def uncleared(size: int) -> bytes:
    """A new bytes object of `size` bytes, at least two, with undefined content, for the kernel to write to. Any
    thread.

    The caller must not let anything read a byte that has not been written: it may hold old data of the process. The
    object is made by PyBytes_FromStringAndSize(NULL, size), which is in CPython's stable ABI. Where that cannot be
    called, the bytes are zeros, which takes longer: to clear a buffer takes a seventh of the time of a 1 MB upload.
    """
    return _maker()(size)


@functools.cache
def _maker() -> Callable[[int], bytes]:
    if sys.implementation.name != "cpython":
        return bytes
    try:
        # ctypes takes half a megabyte, so it is imported when the first large body comes.
        from ctypes import c_ssize_t, c_void_p, py_object, pythonapi
    except ImportError:  # CPython was built without ctypes
        return bytes
    make = pythonapi.PyBytes_FromStringAndSize
    make.argtypes, make.restype = [c_void_p, c_ssize_t], py_object
    return functools.partial(make, None)
