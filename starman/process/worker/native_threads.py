"""Finds native threads of this process, and names the library that started each. Linux only: it reads /proc. Main
thread.

Most libraries leave their threads the name of the process, so the thread's name does not help. The stack of a waiting
thread does: above the frames of the C library, it has frames of the library that started the thread.
"""

from __future__ import annotations

import os
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# By a part of a library's file name: the product, and the environment variable that keeps it from starting threads.
_KNOWN = {
    "openblas": ("OpenBLAS", "OPENBLAS_NUM_THREADS=1"),
    "mkl_": ("Intel MKL", "MKL_NUM_THREADS=1"),
    "libgomp": ("OpenMP", "OMP_NUM_THREADS=1"),
    "libiomp": ("OpenMP", "OMP_NUM_THREADS=1"),
    "libomp": ("OpenMP", "OMP_NUM_THREADS=1"),
    "cygrpc": ("gRPC", ""),
    "libarrow": ("Apache Arrow", ""),
    "librdkafka": ("librdkafka", ""),
    "libtorch": ("PyTorch", ""),
    "uvloop": ("libuv", ""),
}
# Libraries that are on the stack of every thread, whichever library started it.
_COMMON = ("ld-linux", "ld-musl", "libc.", "libc-", "libpthread", "libstdc++", "libgcc_s", "libpython", "[")
# How many bytes of a stack are searched: a thread that waits is a few frames deep.
_SEARCHED_BYTES = 16_384
# A thread is looked at when it waits. OpenBLAS's threads spin for a while at first: how much of the CPU (seconds) a
# thread may use until it counts as one that never waits, and how long (seconds) the wait for all threads may take, on
# a machine that gives them little of it.
_SPINNING = 0.5
_PATIENCE = 5.0
_PAUSE = 0.01


class NativeThread:
    """A thread that Python has not started.

    library: the file name of the library that started it, with the product if it is known: "libgomp.so.1 (OpenMP)". If
    the library cannot be found, the thread's own name.
    remedy: an environment variable that keeps the library from starting threads ("OMP_NUM_THREADS=1"), or "".
    """

    __slots__ = ("library", "remedy")

    def __init__(self, library: str, remedy: str) -> None:
        self.library = library
        self.remedy = remedy


def native_threads() -> list[NativeThread]:
    """The threads of this process that Python has not started, oldest first. Takes five seconds at most."""
    threading = sys.modules.get("threading")
    known = {os.getpid()}
    if threading is not None:
        known.update(thread.native_id for thread in threading.enumerate())
    libraries = _libraries()
    until = time.monotonic() + _PATIENCE
    return [_describe(task, libraries, until) for task in _tasks() if task not in known]


def _tasks() -> list[int]:
    try:
        return sorted(map(int, os.listdir("/proc/self/task")))
    except (OSError, ValueError):
        return []


def _describe(task: int, libraries: list[tuple[int, int, str]], until: float) -> NativeThread:
    """Describe one thread. Waits until the thread blocks, at most until the instant `until` (monotonic)."""
    while (
        _read(f"/proc/self/task/{task}/syscall").startswith(b"running")
        and time.monotonic() < until
        and _cpu_seconds(task) < _SPINNING
    ):
        time.sleep(_PAUSE)
    name = next(_names_on_stack(task, libraries), None)
    if name is None:
        return NativeThread(_read(f"/proc/self/task/{task}/comm").decode("utf-8", "replace").strip() or "?", "")
    for part, (product, remedy) in _KNOWN.items():
        if part in name:
            return NativeThread(f"{name} ({product})", remedy)
    return NativeThread(name, "")


def _cpu_seconds(task: int) -> float:
    """How much of the CPU a thread has used; 0.0 if the kernel does not tell."""
    # Documentation/scheduler/sched-stats: nanoseconds on the CPU, nanoseconds of waiting for it, time slices.
    used = _read(f"/proc/self/task/{task}/schedstat").split()
    return int(used[0]) / 1e9 if used else 0.0


def _libraries() -> list[tuple[int, int, str]]:
    """The code that is mapped in this process, as (start, end, file name), without `_COMMON` libraries and the
    interpreter."""
    found = []
    interpreter = os.path.basename(os.path.realpath(sys.executable))
    for line in _read("/proc/self/maps").decode("utf-8", "surrogateescape").splitlines():
        # proc(5): address perms offset dev inode pathname
        fields = line.split(None, 5)
        if len(fields) == 6 and "x" in fields[1]:
            start, _, end = fields[0].partition("-")
            name = os.path.basename(fields[5])
            if name != interpreter and not name.startswith(_COMMON):
                found.append((int(start, 16), int(end, 16), name))
    return found


def _names_on_stack(task: int, libraries: list[tuple[int, int, str]]) -> Iterator[str]:
    """The libraries with return addresses on the stack of a waiting thread, the innermost frame first."""
    # proc(5): the system call's number, six arguments, stack pointer, program counter; "running" for a thread that
    # does not wait.
    fields = _read(f"/proc/self/task/{task}/syscall").split()
    if len(fields) != 9:
        return
    for (word,) in struct.iter_unpack("=Q", _stack(int(fields[7], 16))):
        for start, end, name in libraries:
            if start <= word < end:
                yield name


def _stack(pointer: int) -> bytes:
    """The memory at a stack pointer, in whole words of 8 bytes. Shorter near the end of the stack, empty if not
    readable."""
    try:
        memory = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    found = b""
    try:
        while len(found) < _SEARCHED_BYTES:
            # One page at a time: the next one may not be mapped.
            part = os.pread(memory, 4096 - (pointer + len(found)) % 4096, pointer + len(found))
            if not part:
                break
            found += part
    except (OSError, OverflowError):
        pass
    finally:
        os.close(memory)
    return found[: len(found) // 8 * 8]


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
