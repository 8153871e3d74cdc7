"""Signals, fork and exit of every process of ours."""

from __future__ import annotations

import os
import signal
import sys
from os import getpid  # an application may replace os.getpid

from starman import application_forks, log
from starman.process import parent_death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType

# The signals that the master handles, and that must not be lost, or reach the wrong process, around a fork.
HANDLED = frozenset(
    {
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
    }
)


# Asks a worker or mold for the stacks of all its threads, in the error log. A real-time signal where there are such: those that
# applications use for their own ends are left to them.
if sys.platform == "darwin":
    STACKS = signal.SIGINFO
else:
    STACKS = signal.SIGRTMIN

# Signals that have no meaning for a server, and would end a process without a handler. Not every system has all of them.
_UNUSED_NAMES = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGEMT")


def _unused() -> Iterator[signal.Signals | int]:
    valid = signal.valid_signals()
    yield from (found for name in _UNUSED_NAMES if (found := getattr(signal, name, None)) in valid)
    if hasattr(signal, "SIGRTMIN"):
        yield from range(signal.SIGRTMIN + 1, signal.SIGRTMAX + 1)


# Every process of ours has a handler for these that does nothing. An application may install handlers of its own.
UNUSED: frozenset[int] = frozenset(_unused())
# All signals that have to wait while this process is without handlers: around an exec, before the start, and at the end.
GUARDED: frozenset[int] = HANDLED | UNUSED | {STACKS}
# What an operator tells a server that runs: a moment too early, it must not end the server.
_EARLY = GUARDED - {signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
# Hazard 8: Ctrl-C and the TERM of a process manager may both arrive. The master and a worker count a stop signal as the second
# one only when it comes at least this many seconds after the first.
SECOND_STOP = 1.0
# Room for a handler of each signal at the same time, in bytes.
_SIGNAL_STACK_BYTES = 1 << 20
_signal_stack: list[object] = []
# Python ignores these two, so that a write fails with an error instead of ending the process.
_IGNORED = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ"))


def hold_signals() -> None:
    """Have the signals that would end, or stop, the process wait until the master has its handlers, except the stop signals."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY)


def take_default(signums: Iterable[int], handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> list[int]:
    """Install `handler` for those of `signums` that have the system's default action; return these. A handler that the
    application or the calling program has installed stays. Main thread only."""
    taken = [signum for signum in signums if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, handler)
    return taken


def ignore_failing_writes() -> list[int]:
    """Ignore SIGPIPE and SIGXFSZ, as Python does at its start, where an application has given them their default action back:
    a client that goes away would end the process. Programs that `subprocess` starts have the default action all the same.

    Returns the signals that were changed. Main thread only.
    """
    return take_default(_IGNORED, signal.SIG_IGN)


def fork() -> int:
    """`os.fork`, with HANDLED blocked around it. In the child they stay blocked: it calls `take_signals` when its
    handlers are known. The child ends with this process, until it calls `parentdeath.untie`. Raises OSError when no process can
    be made. Main thread only.
    """
    import warnings

    # Hazard 16: what stands in a buffer now would leave twice.
    flush()
    # Hazard 8: a TERM to a fresh child wrote into the wakeup descriptor of its parent; one that came before the child's own
    # handlers stood was lost, or killed it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    parent_death.tie(getpid())
    try:
        with warnings.catch_warnings():
            # From 3.12 on a fork beside other threads warns. That an embedding program has some, or an application started some
            # when it was preloaded, is said in the log; where warnings are errors, it must not end the server.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = application_forks.fork()
    except BaseException:
        parent_death.untie_next()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    parent_death.untie_next()
    if pid == 0:
        signal.set_wakeup_fd(-1)
    else:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def take_signals(*, stop_ends: bool) -> None:
    """In a fresh fork, or a fresh program: give HANDLED and UNUSED handlers of this process, then unblock them.

    Hazard 8: Ctrl-C and the end of a terminal reach the whole group, but only the master decides what they mean, so INT
    and HUP do nothing here; nor do USR1 and USR2, which would end a process that has no handler. By a handler that does nothing,
    not SIG_IGN: that would be inherited by the programs that an application starts. QUIT and TERM end the process at once
    if `stop_ends` (a worker that boots: it has no request yet), and else do nothing (a mold: it ends with its channel).
    """
    for signum in (signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, nothing)
    for signum in (signal.SIGQUIT, signal.SIGTERM):
        signal.signal(signum, _end if stop_ends else nothing)
    take_default(UNUSED, nothing)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GUARDED)


def reseed() -> None:
    """In a worker whose mold has loaded the application: numbers of its own from numpy's legacy generator, if there is one.

    `random` does it by itself at each fork, and so does OpenSSL (1.1.1 and later); `secrets` and `uuid.uuid4` ask the kernel.
    Generators that the application has made are its own to reseed, in an after_fork hook.
    """
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed is not None:
        seed()


def show_stacks(fd: int = -1) -> None:
    """Write the stacks of all threads to `fd` at a crash in native code, and at STACKS, whatever the interpreter is doing at that
    moment: in a mold or worker to the master, which logs them (`stackpipe`). -1: to the error log."""
    import faulthandler

    target = log.fileno() if fd < 0 else fd
    faulthandler.enable(target)
    faulthandler.register(STACKS, target)
    _enlarge_signal_stack()


def _enlarge_signal_stack() -> None:
    """Give signal handlers more of a stack than `faulthandler` has given them, which a few signals at once overflow: the process
    then ends by SIGSEGV. The kernel saves the registers of the processor for each signal, 3 to 11 kB with vector units.

    The stack belongs to the main thread, and a fork inherits it. Pages that are not used cost no memory.
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
        return  # the small one stays


def is_ours(handler: object) -> bool:
    """Whether a signal handler is one that `take_signals` has installed."""
    return handler is nothing or handler is _end


def nothing(signum: int = 0, frame: FrameType | None = None) -> None:
    """A signal handler that does nothing."""


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


def adopt_error_log(fds: list[int]) -> None:
    """In a mold or a worker: have the descriptor that came with an order to reopen, if one did, as descriptor 2."""
    for fd in fds:
        os.dup2(fd, 2)
        os.close(fd)
        log.renew_own_descriptor()


def flush() -> None:
    """Write out what stands in the buffers of the standard streams. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue
