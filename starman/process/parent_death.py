"""Has the kernel kill a process when its parent ends (Linux): a mold always, a worker until it serves.

A trial, and the process between two forks, are tied to their parent, too. While a process loads an application, or is
blocked by a hook of the application, it reads no channel and does not act on TERM. Without this module it would
outlive a killed master, and keep the address, so that no new server could start. A serving worker is not tied to the
master: it finishes its requests when the master is gone.

Fork hooks of an application (`os.register_at_fork`, debuggers that replace `os.fork`) run after the hook of this
module, which the master registers before any application is loaded.
"""

from __future__ import annotations

from _thread import get_ident
from os import _exit, getpid, getppid, register_at_fork
from time import sleep

from starman.process.prctl import load_prctl, set_parent_death_kill

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.prctl import Prctl

# How often (seconds) a child checks whether the process that has forked it has ended.
_CHECK_SECONDS = 0.0002


class _State:
    """The state of this process. Only the main thread changes it.

    prctl: None until `enable`. pending: the thread that is about to fork, its process, and the parent of its child;
    None if no thread is.
    """

    __slots__ = ("pending", "prctl")

    def __init__(self) -> None:
        self.prctl: Prctl | None = None
        self.pending: tuple[int, int, int] | None = None


_state = _State()


def enable() -> None:
    """Make `tie_next_fork` take effect in this process, the master, and in all its descendants. Call it only where
    orphans become children of the master (a child subreaper). May be called again. Main thread."""
    if _state.prctl is None:
        _state.prctl = load_prctl()
        if _state.prctl is not None:
            register_at_fork(after_in_child=_in_child)


def tie_next_fork(parent: int) -> None:
    """Have the kernel kill the child of this thread's next fork when the process `parent` ends. Call it, fork, then
    call `end_tie`.

    If `parent` is not this process, the child first waits until this process has ended and `parent` has adopted the
    child. Main thread.
    """
    if _state.prctl is not None:
        _state.pending = get_ident(), getpid(), parent


def end_tie() -> None:
    """Call in the parent, after the fork. Main thread."""
    _state.pending = None


def untie() -> None:
    """Let this process outlive its parent from now on. Main thread."""
    if _state.prctl is not None:
        set_parent_death_kill(_state.prctl, on=False)


def retie(parent: int) -> None:
    """In a child of `parent`: have the kernel kill this process when `parent` ends. Call it again after a change of
    the user, which removes the tie. Main thread."""
    if _state.prctl is not None:
        set_parent_death_kill(_state.prctl, on=True)
        if getppid() != parent:  # it has already ended
            _exit(1)


def _in_child() -> None:
    pending, _state.pending = _state.pending, None
    if pending is None or _state.prctl is None or pending[0] != get_ident():
        return  # a child of the application
    _, forker, parent = pending
    while forker != parent and getppid() == forker:
        sleep(_CHECK_SECONDS)
    retie(parent)
