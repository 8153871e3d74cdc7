"""Ends children that the application forks (os.fork, multiprocessing, process pools), which must not serve requests.

A fork copies everything in the process: listeners, sockets of clients, signal handlers, and the running call of the
application. `watch` registers functions that release these in the child. When the call of the application returns or
raises in the child, `end_child` ends the process.

Processes that starman forks itself, with `fork`, are not affected. The master loads this module, so it must not
import anything large.
"""

from __future__ import annotations

import os
import signal
import sys
from _thread import get_ident

from starman import debugging, log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

# What `watch` has registered.
_guards: list[Callable[[], None]] = []
# The signals that were blocked in a thread before it began to fork, by the thread's identifier.
_masks: dict[int, Collection[int]] = {}
# The threads that fork for starman.
_own: set[int] = set()
# Flags, each set by a True in the list: the hooks of `os` are registered; this process is a child of the application;
# this process has such a child.
_registered: list[bool] = []
_child: list[bool] = []
_parent: list[bool] = []


def watch(abandon: Callable[[], None]) -> None:
    """Call `abandon` in each child that the application forks from now on. It must take no lock and must not block,
    because a thread that does not exist in the child may hold any lock. All signals are blocked during the call. Any
    thread."""
    if not _registered:
        _registered.append(True)
        # Such handlers cannot be removed, so they are registered once, and only if they are needed.
        os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
    # A server started in such a child is a new server.
    _child.clear()
    _guards.append(abandon)


def unwatch(abandon: Callable[[], None]) -> None:
    """Stop calling `abandon` in children. Does nothing if `abandon` is not registered."""
    if abandon in _guards:
        _guards.remove(abandon)


def fork() -> int:
    """`os.fork` for a process of starman's own. The child inherits nothing that `watch` has registered. Raises
    OSError."""
    ident = get_ident()
    _own.add(ident)
    try:
        with debugging.quiet_fork():
            pid = os.fork()
    finally:
        _own.discard(ident)
    if pid == 0:
        for state in (_guards, _masks, _child, _parent):
            state.clear()
    return pid


def has_forked() -> bool:
    """Whether the application has forked this process. A child may then hold descriptors that `watch` could not
    release."""
    return bool(_parent)


def in_child() -> bool:
    """Whether this process is a child that the application has forked."""
    return bool(_child)


def end_child(error: BaseException | None = None) -> None:
    """Call after the application has returned or raised `error`: ends the process if the application has forked it.

    The child ends as a script does: with the status of a SystemExit, with a traceback and status 1 after any other
    exception, else with 0. The standard streams are flushed. Functions registered with atexit belong to the parent
    and do not run.
    """
    if not _child:
        return
    status = 1
    try:
        status = _status(error)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        log.finish()
    finally:
        os._exit(status)


def _status(error: BaseException | None) -> int:
    if error is None:
        return 0
    if not isinstance(error, SystemExit):
        from starman.log.tracebacks import format_exception

        log.error(f"a process that the application forked ends, because its call failed\n{format_exception(error)}")
        return 1
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def _before() -> None:
    if _guards and get_ident() not in _own:
        # A signal to the child must not run handlers inherited from the server.
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        _parent[:] = [True]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is None:
        return
    _masks.clear()
    _own.clear()
    _child[:] = [True]
    for abandon in _guards:
        try:
            abandon()
        except Exception as error:
            log.error(
                f"a process that the application forked may still hold sockets of the server: {type(error).__name__}: {error}"
            )
    _guards.clear()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
