"""Signals and forks: what every process of the server does in the same way."""

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

# The signals that the master handles. None of them may be lost, or reach the wrong process, around a fork.
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


# Have a worker or mold write the stacks of all its threads to the error log (`worker.stack_dumps`): STACKS once the
# main thread can run Python code, FORCED_STACKS at once. Real-time signals where the system has them, because
# applications use other signals for their own purposes.
STACKS: int
FORCED_STACKS: int
if sys.platform == "darwin":
    STACKS, FORCED_STACKS = signal.SIGINFO, signal.SIGEMT
else:
    STACKS, FORCED_STACKS = signal.SIGRTMIN, signal.SIGRTMIN + 1

# Signals that mean nothing to a server, but end a process without a handler. Not every system has all of them.
_UNUSED_NAMES = ("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGIO", "SIGPWR", "SIGSTKFLT", "SIGEMT")


def _unused() -> Iterator[signal.Signals | int]:
    valid = signal.valid_signals() - {STACKS, FORCED_STACKS}
    yield from (found for name in _UNUSED_NAMES if (found := getattr(signal, name, None)) in valid)
    if hasattr(signal, "SIGRTMIN"):
        yield from (found for found in range(signal.SIGRTMIN, signal.SIGRTMAX + 1) if found in valid)


# Every process of the server has a handler for these that does nothing. An application may install its own handlers.
UNUSED: frozenset[int] = frozenset(_unused())
# The signals that are blocked while this process has no handlers: around an exec, before the start, and at the end.
GUARDED: frozenset[int] = HANDLED | UNUSED | {STACKS, FORCED_STACKS}
# Commands of an operator. One that comes before the master has its handlers must not end the server.
_EARLY = GUARDED - {signal.SIGCHLD, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
# Hazard 8: Ctrl-C and the TERM of a process manager may both arrive. The master and a worker count a stop signal as
# the second one only when it comes at least this many seconds after the first.
SECOND_STOP = 1.0
# Python ignores these two, so that a write fails with an error instead of ending the process.
_IGNORED = tuple(getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ"))


def block_early_signals() -> None:
    """Block the signals that would end or stop the process until the master has its handlers. Stop signals still end
    it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _EARLY)


def replace_default_handlers(
    signums: Iterable[int], handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> list[int]:
    """Install `handler` for those of `signums` that have the system's default action; returns these. A handler that
    the application or the calling program has installed stays. Main thread only."""
    taken = [signum for signum in signums if signal.getsignal(signum) is signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, handler)
    return taken


def ignore_failing_writes() -> list[int]:
    """Ignore SIGPIPE and SIGXFSZ, as Python does at its start, where an application has restored their default action:
    a client that closes its connection would end the process. Programs that `subprocess` starts still have the default
    action.

    Returns the signals that were changed. Main thread only.
    """
    return replace_default_handlers(_IGNORED, signal.SIG_IGN)


def fork() -> int:
    """`os.fork`, with HANDLED blocked around it. They stay blocked in the child, which calls `install_handlers`.

    The kernel kills the child when this process ends, until the child calls `parent_death.untie`. Raises OSError when
    no process can be created. Main thread only.
    """
    import warnings

    # Hazard 16: text that is still in a buffer would be written twice.
    flush_streams()
    # Hazard 8: a TERM to a fresh child wrote to the wakeup descriptor of its parent. A TERM that came before the child
    # had its own handlers was lost, or killed the child.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
    parent_death.tie_next_fork(getpid())
    try:
        with warnings.catch_warnings():
            # Since 3.12 a fork beside other threads warns. The log already tells when an embedding program or a
            # preloaded application has threads; with warnings as errors, the warning would end the server.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = application_forks.fork()
    except BaseException:
        parent_death.end_tie()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    parent_death.end_tie()
    if pid == 0:
        signal.set_wakeup_fd(-1)
    else:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def install_handlers(*, stop_ends: bool) -> None:
    """In a fresh fork, or after an exec: install handlers for HANDLED and UNUSED, then unblock these signals.

    Hazard 8: Ctrl-C and the end of a terminal reach the whole process group, but only the master acts on them, so INT
    and HUP do nothing here. Nor do USR1 and USR2, which would end a process without a handler. The handler is a
    function that does nothing, because programs that the application starts would inherit SIG_IGN. With `stop_ends` (a
    worker that boots: it has no request yet) QUIT and TERM end the process at once; otherwise they do nothing (a mold:
    it exits when its channel is closed).
    """
    for signum in (signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(signum, ignore_signal)
    for signum in (signal.SIGQUIT, signal.SIGTERM):
        signal.signal(signum, _end if stop_ends else ignore_signal)
    replace_default_handlers(UNUSED, ignore_signal)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, GUARDED)


def reseed_numpy() -> None:
    """Reseed numpy's legacy generator, if it is imported, in a worker after its mold has loaded the application.

    `random` and OpenSSL (1.1.1 and later) reseed themselves at each fork; `secrets` and `uuid.uuid4` ask the kernel.
    Generators that the application has created are reseeded by the application, in an after_fork hook.
    """
    seed = getattr(sys.modules.get("numpy.random"), "seed", None)
    if seed is not None:
        seed()


def signal_name(signum: int) -> str:
    """The name of a signal, for the log: Python has no names for most real-time signals."""
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"SIGRTMIN+{signum - signal.SIGRTMIN}"


def is_own_handler(handler: object) -> bool:
    """Whether `install_handlers` has installed this signal handler."""
    return handler is ignore_signal or handler is _end


def ignore_signal(signum: int = 0, frame: FrameType | None = None) -> None:
    """A signal handler that does nothing."""


def _end(signum: int, frame: FrameType | None) -> None:
    os._exit(0)


def replace_error_log(fds: list[int]) -> None:
    """In a mold or worker: make the descriptor that came with a `Reopen` message, if any, that of the error log."""
    for fd in fds:
        log.follow(fd)
        os.close(fd)


def flush_streams() -> None:
    """Flush the standard streams. Never raises."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            continue


def warn_of_threads() -> None:
    """Log a warning if the calling program runs threads: a fork copies locks that they hold, but not the threads."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        log.warning(
            f"this program runs {threading.active_count()} threads; they do not exist in the workers, and a lock that "
            "one of them holds now is held there for ever"
        )
