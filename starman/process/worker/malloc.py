"""Sets up malloc: fills holes of its heap in a mold, keeps free pages in a busy worker, returns them in an idle one.

For glibc on Linux, by its documented calls: malloc(3), sbrk(2), mallopt(3), mallinfo(3), malloc_trim(3). With another
C library the functions do nothing. Figures: docs/performance.md, "Memory", and docs/decisions/large-bodies.md. Never
imports asyncio.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import CDLL

# The sizes (bytes) of blocks that fill the holes: first large ones, then each size of malloc's small bins. All are
# below the 128 kB from which malloc asks the kernel for a mapping of its own.
_SIZES = (65_536, 32_768, 16_384, 8192, 4096, 2048, *range(1032, 16, -16))
# The most bytes that are filled in all; 0.8 MB were seen with a small application. Filling touches 16 bytes of each
# hole.
_MOST_FILLING = 256 << 20

# Parameters of mallopt(3) (<malloc.h>). A worker keeps up to 64 MiB that are free at the end of a heap, which is what
# the bodies of its requests may take together by default. 32 MiB is the largest threshold for mappings that mallopt
# allows.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 64 << 20
_LARGEST_HEAP_BLOCK = 32 << 20
# Variables by which an operator sets these parameters; then they stay as they are.
_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_")
_TUNABLES = tuple(f"glibc.malloc.{name}" for name in ("trim_threshold", "mmap_threshold", "mmap_max", "top_pad"))
# An idle worker may keep this many free bytes in malloc's heaps.
_MOST_FREE = 4_194_304

# The fields of `struct mallinfo2`: mallinfo(3).
_MALLINFO_FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")

# The C library, once it has been loaded: a mold loads it, and its workers share it. Only the main thread changes the
# list.
_libc: list[CDLL] = []


def fill_malloc_holes() -> int:
    """Allocate all free places between live blocks of malloc's heap, for good. Returns how many bytes that took.

    Without it the first blocks of a worker would be put into these places, one on each of many shared pages. Call it
    once, in a mold that has loaded everything, without threads.
    """
    libc = _glibc()
    if libc is None:
        return 0
    malloc, free = libc.malloc, libc.free
    end = libc.sbrk(0) or 0
    taken = 0
    for size in _SIZES:
        while taken < _MOST_FILLING and (block := malloc(size)):
            if block >= end:  # the heap has grown for this block, so no hole is as large as that any more
                free(block)
                break
            taken += size
    return taken


def keep_free_pages() -> bool:
    """Have malloc keep up to 64 MiB of free pages, for the next request. Returns whether it will.

    By default malloc returns the pages of each large body to the kernel, which clears other pages for the next body: a
    third of the time of a 1 MB upload. A worker that becomes idle should call `give_back_free_pages`. Does nothing if
    the environment sets malloc's thresholds.
    """
    libc = _glibc()
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if libc is None or any(map(os.environ.get, _VARIABLES)) or any(name in tunables for name in _TUNABLES):
        return False
    mapped = libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)
    return bool(mapped and libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


def release_free_pages() -> None:
    """Return all free pages of malloc's heaps to the kernel. For the master: after imports and start, 0.7 of 6.4 MB
    are free."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def give_back_free_pages() -> bool:
    """Return free pages of malloc's heaps to the kernel if there are more than 4 MiB of them.

    Returns whether any were returned. Takes some milliseconds.
    """
    libc = _glibc()
    if libc is None or not hasattr(libc, "mallinfo2"):
        return False
    from ctypes import Structure, c_size_t

    class MallInfo(Structure):
        _fields_ = [(name, c_size_t) for name in _MALLINFO_FIELDS]

    libc.mallinfo2.restype = MallInfo
    free: int = libc.mallinfo2().fordblks
    return free > _MOST_FREE and bool(libc.malloc_trim(0))


def _glibc() -> CDLL | None:
    if not _libc:
        if sys.platform != "linux" or sys.implementation.name != "cpython":
            return None
        try:
            from ctypes import CDLL, c_int, c_size_t, c_ssize_t, c_void_p

            libc = CDLL(None)
            libc.gnu_get_libc_version  # noqa: B018 - other C libraries have another kind of heap
        except (ImportError, OSError, AttributeError):
            return None
        libc.malloc.restype = libc.sbrk.restype = c_void_p
        libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [c_size_t], [c_void_p], [c_ssize_t]
        libc.mallopt.argtypes = [c_int, c_int]
        _libc.append(libc)
    return _libc[0]
