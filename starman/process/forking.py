"""What every process of ours does around its birth and at its end: signals, fork, exit. Never imports starman's other rooms."""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn

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

# What an operator tells a server that runs: a moment too early, it must not end the server.
_EARLY = HANDLED - {signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}


def hold_signals() -> None:
    """Have HUP, USR1, USR2, TTIN and TTOU wait until the master has its handlers; any of them would end, or stop, the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY)


def fork() -> int:
    """`os.fork`, with HANDLED blocked around it. In the child they stay blocked: it calls `take_signals` when its
    handlers are known. Raises OSError when no process can be made. Main thread only.
    """
    import warnings

    # Hazard 16: what stands in a buffer now would leave twice.
    flush()
    # Hazard 8: a TERM to a fresh child wrote into the wakeup descriptor of its parent; one that came before the child's own
    # handlers stood was lost, or killed it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    try:
        with warnings.catch_warnings():
            # From 3.12 on a fork beside other threads warns. That an embedding program has some, or an application started some
            # when it was preloaded, is said in the log; where warnings are errors, it must not end the server.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid == 0:
        signal.set_wakeup_fd(-1)
    else:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def take_signals(*, stop_ends: bool) -> None:
    """In a fresh fork: give HANDLED handlers of this process, then unblock them.

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
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED)


def reseed() -> None:
    """In a worker whose mold has loaded the application: numbers of its own from numpy's legacy generator, if there is one.

    `random` does it by itself at each fork, and so does OpenSSL (1.1.1 and later); `secrets` and `uuid.uuid4` ask the kernel.
    Generators that the application has made are its own to reseed, in an after_fork hook.
    """
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed is not None:
        seed()


def show_stacks() -> None:
    """In a mold, for itself and all that it will fork: write the stacks of all threads to the error log at a crash in native
    code, and at STACKS, whatever the interpreter is doing at that moment."""
    import faulthandler

    faulthandler.enable(2)
    faulthandler.register(STACKS, 2)


def nothing(signum: int = 0, frame: FrameType | None = None) -> None:
    """A signal handler that does nothing."""


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


def adopt_error_log(fds: list[int]) -> None:
    """In a mold or a worker: have the descriptor that came with an order to reopen, if one did, as descriptor 2."""
    for fd in fds:
        os.dup2(fd, 2)
        os.close(fd)


def flush() -> None:
    """Write out what stands in the buffers of the standard streams. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue


def leave(status: int) -> NoReturn:
    """End a worker: run what the application has registered with atexit, flush, and be gone.

    Hazard 16: not by `sys.exit`, which would wait for threads of the application, and would run what lies further up the
    stack: the code of the program that has embedded us.
    """
    import atexit

    try:
        atexit._run_exitfuncs()
        flush()
    finally:
        os._exit(status)
