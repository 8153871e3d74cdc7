"""Has a process write the stacks of all its threads: at a signal, and when native code crashes.

`faulthandler` reads the frames of all threads. While other threads run Python code, these frames change and are freed,
and a read of them may crash the process. So the dump at STACKS holds the interpreter's lock (the GIL).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys

from starman import log
from starman.log.output import duplicate_high
from starman.process.forking import FORCED_STACKS, STACKS
from starman.process.worker.stacks import arrange_stacks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

# The longest part of a dump (bytes) that is kept, and the capacity of a pipe for dumps: it holds that much until it is
# read.
MAX_BYTES = 262_144
# Room for a handler of each signal at the same time, in bytes.
_SIGNAL_STACK_BYTES = 1 << 20
# The memory of that stack, once it is in use. Only the main thread changes the list.
_signal_stack: list[object] = []


def enable_stack_dumps(fd: int = -1) -> None:
    """Write the stacks of all threads to `fd` at the signals STACKS and FORCED_STACKS, and when native code crashes.

    At STACKS, a handler in Python writes them, in the main thread, and the process goes on. So the main thread must
    run Python code, or wait in a system call. At FORCED_STACKS and at a crash, a handler in C writes them at once,
    whatever the interpreter is doing. It may crash a process that is running Python code.

    A mold or worker writes to a pipe, and the master logs what it reads (`master.stack_pipe`). -1: to the error log.
    Main thread only.
    """
    import faulthandler

    target = log.fileno() if fd < 0 else fd
    faulthandler.enable(target)
    faulthandler.register(FORCED_STACKS, target)
    _enlarge_signal_stack()
    # Without SA_RESTART, as Python does it: a system call in which the main thread waits is interrupted, so that the
    # handler runs.
    signal.signal(STACKS, StackHandler(fd))


class StackHandler:
    """A signal handler that writes the stacks of all threads. Raises nothing into what it interrupts."""

    __slots__ = ("_dump", "_fd", "_title", "_writing")

    def __init__(self, fd: int = -1, title: str = "this process") -> None:
        """fd: where to write; -1: to the error log, which calls the process `title`."""
        from faulthandler import dump_traceback

        self._dump = dump_traceback
        self._fd = fd
        self._title = title
        self._writing = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        # Signals that come in quick succession would nest their handlers, without end, and the inner one would wait
        # for the lock of the error log.
        if self._writing:
            return
        self._writing = True
        try:
            if self._fd < 0:
                log_own_stacks(self._title)
            else:
                self._dump(self._fd)
        except (MemoryError, RecursionError):
            # Raised here, it would end whatever the main thread is doing. Other exceptions belong to handlers of the
            # application, which may run meanwhile.
            return
        finally:
            self._writing = False


def log_own_stacks(title: str) -> None:
    """Log the stacks of all threads of this process, which the log calls `title`. Raises only MemoryError and
    RecursionError. Any thread."""
    import faulthandler

    try:
        reading, writing = open_dump_pipe()
    except OSError as error:
        log.error(f"the stacks of {title} cannot be shown: {error.strerror}")
        return
    try:
        faulthandler.dump_traceback(writing)
        dump = os.read(reading, MAX_BYTES)
    except OSError:  # the application has closed the descriptors
        return
    finally:
        os.close(writing)
        os.close(reading)
    log.info(f"stacks of {title}\n{arrange_stacks(dump.decode('utf-8', 'replace'))}")


def open_dump_pipe() -> tuple[int, int]:
    """Make a pipe for dumps. Returns the descriptors to read from and to write to. Neither end blocks. Raises
    OSError."""
    reading, writing = os.pipe()
    try:
        high = duplicate_high(writing)
    except OSError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
    os.set_blocking(reading, False)
    os.set_blocking(high, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with contextlib.suppress(OSError):  # the pipes of this user have reached their limit
            fcntl.fcntl(high, fcntl.F_SETPIPE_SZ, MAX_BYTES)
    return reading, high


def _enlarge_signal_stack() -> None:
    """Give signal handlers a larger stack than `faulthandler` gives them. A few signals at once overflow the small
    one, and the process ends by SIGSEGV: the kernel saves the CPU registers for each signal, 3 to 11 kB with vector
    units.

    The stack belongs to the main thread, and a fork inherits it. Unused pages cost no memory.
    """
    if sys.platform != "linux" or _signal_stack:
        return
    try:
        import ctypes
        import mmap

        class Stack(ctypes.Structure):
            """`stack_t` of sigaltstack(2)."""

            _fields_ = (("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))

        # Private: by default, a fork would share the stack with its parent.
        memory = mmap.mmap(-1, _SIGNAL_STACK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        start = ctypes.c_char.from_buffer(memory)
        if ctypes.CDLL(None).sigaltstack(ctypes.byref(Stack(ctypes.addressof(start), 0, len(memory))), None) == 0:
            _signal_stack.append(start)  # keeps the memory, too
    except (ImportError, OSError, AttributeError, ValueError):
        return  # keep the small stack
