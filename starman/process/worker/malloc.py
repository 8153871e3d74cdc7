"""Pages of memory, as malloc and the kernel see them: fill malloc's holes in a mold; in a worker give back zeros, and keep what
is free while there is work.

Measured: docs/performance.md, "Memory" and "All scenarios". Of glibc on Linux; elsewhere they do nothing.
"""

from __future__ import annotations

import contextlib
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

# malloc gives what is free at the end of a heap back when it is twice as much as the largest block it has ever unmapped, which is
# none at first, and does not count above 32 MiB with its header and rounded up to pages (glibc's malloc.c, "dynamic mmap
# threshold"). In bytes. So it keeps 64 MiB, which is what bodies may take together, if `body_memory` is as it is.
_UNMAPPED = 33_546_240
# So much (bytes) may be free in malloc's heaps of a worker that has nothing to do.
_MOST_FREE = 4_194_304

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


def keep_free_pages() -> None:
    """Have malloc keep up to 64 MiB that are free, as it does in any process that once had a large block.

    With each body of a request or response that is freed it would have the kernel take its pages, and clear others for the next
    one: a third of the time of a 1 MB upload. A worker that has nothing to do should `give_back_free_pages`.
    """
    with contextlib.suppress(MemoryError):  # a limit of virtual memory (RLIMIT_AS) is near: uploads are slower, no more
        bytes(_UNMAPPED)  # never touched, so it costs no page


def give_back_free_pages() -> bool:
    """Let the kernel have what malloc keeps, if that is worth it. Takes some milliseconds. Whether it was."""
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        return False
    from ctypes import Structure, c_size_t

    class Figures(Structure):
        _fields_ = [(f"_{number}", c_size_t) for number in range(10)]

    libc.mallinfo2.restype = Figures
    free: int = libc.mallinfo2()._8  # `fordblks` of mallinfo(3)
    return free > _MOST_FREE and bool(libc.malloc_trim(0))


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
