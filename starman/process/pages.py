"""Pages of memory, as malloc and the kernel see them: fill malloc's holes in a mold, give back zeros in a worker.

Both keep memory shared, or free, that nobody needs; measured: docs/performance.md, "Memory". Of glibc on Linux; elsewhere they
do nothing.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

# What is asked for to fill the holes, in bytes: first the large ones, then each size of malloc's small bins. All below the 128 kB
# from which malloc asks the kernel for a mapping of its own.
_SIZES = (65_536, 32_768, 16_384, 8192, 4096, 2048, *range(1032, 16, -16))
# At most so much is filled in all; 0.8 MB were seen with a small application. Filling touches 16 bytes of each hole.
_MOST_FILLING = 256 << 20

# The kernel's, 16 or 64 KiB on some machines: madvise(2) rounds up to it, and would take what follows the zeros along.
_PAGE = os.sysconf("SC_PAGESIZE")
_NO_BYTES = bytes(_PAGE)
_MADV_DONTNEED = 4  # <bits/mman-linux.h>

# The C library, from the first call on, which is a mold's: its workers share it.
_libc: list[CDLL] = []


def fill_malloc_holes() -> int:
    """Take all that malloc's heap has free between live blocks, so that what is made later lies together, on pages of its own.

    A worker's first blocks would be put into these holes otherwise, one on each of many shared pages. Nothing gives them back:
    call it once, in a mold that has all it needs, without threads. Returns how many bytes it took.
    """
    libc = _glibc()
    if libc is None:
        return 0
    malloc, free = libc.malloc, libc.free
    end = libc.sbrk(0) or 0
    taken = 0
    for size in _SIZES:
        while taken < _MOST_FILLING and (block := malloc(size)):
            if block >= end:  # the heap has grown for it: no hole is so large any more
                free(block)
                break
            taken += size
    return taken


def give_back_zeros(item: object) -> int:
    """Let the kernel take the pages of `item` that hold nothing but zeros; whoever looks at one later is given zeros again.

    For a large buffer that was cleared when it was made, and of which little will be used, as a uvloop loop has. Nobody else may
    write to it meanwhile. Returns how many bytes were given back.
    """
    libc = _glibc()
    if libc is None:
        return 0
    from ctypes import string_at

    madvise = libc.madvise
    given = 0
    end = id(item) + sys.getsizeof(item)
    for page in range(-(-id(item) // _PAGE) * _PAGE, end - _PAGE + 1, _PAGE):
        if string_at(page, _PAGE) == _NO_BYTES and madvise(page, _PAGE, _MADV_DONTNEED) == 0:
            given += _PAGE
    return given


def _glibc() -> CDLL | None:
    if not _libc:
        if sys.platform != "linux" or sys.implementation.name != "cpython":
            return None
        try:
            from ctypes import CDLL, c_int, c_size_t, c_ssize_t, c_void_p

            libc = CDLL(None)
            libc.gnu_get_libc_version  # noqa: B018 - other C libraries have a heap of another kind
        except (ImportError, OSError, AttributeError):
            return None
        libc.malloc.restype = libc.sbrk.restype = c_void_p
        libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [c_size_t], [c_void_p], [c_ssize_t]
        libc.madvise.argtypes = [c_void_p, c_size_t, c_int]
        _libc.append(libc)
    return _libc[0]
