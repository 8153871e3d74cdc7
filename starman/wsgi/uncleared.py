"""Bytes to be filled by the kernel: to clear them first, as Python does, takes a seventh of the time of a 1 MB upload."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable


def uncleared(size: int) -> bytes:
    """So many bytes, more than one, with anything in them: the caller lets nobody read one that it has not written. Any thread.

    By PyBytes_FromStringAndSize(NULL, size), of CPython's stable ABI; cleared ones where that cannot be called.
    """
    return _maker()(size)


@functools.cache
def _maker() -> Callable[[int], bytes]:
    if sys.implementation.name != "cpython":
        return bytes
    try:
        # Not before a large body comes: it is half a megabyte, where nobody else has imported it.
        from ctypes import c_ssize_t, c_void_p, py_object, pythonapi
    except ImportError:  # a Python without it
        return bytes
    make = pythonapi.PyBytes_FromStringAndSize
    make.argtypes, make.restype = [c_void_p, c_ssize_t], py_object
    return functools.partial(make, None)
