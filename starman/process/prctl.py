"""Attributes of this process that only Linux has: prctl(2), by ctypes. Elsewhere nothing happens.

ctypes is imported inside the functions, not at the top: it takes 0.3 MB that a mold need not have.
"""

from __future__ import annotations

import sys
from signal import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Prctl = Callable[..., int]

# <linux/prctl.h>
_SET_PDEATHSIG = 1
_SET_DUMPABLE = 4
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


def load_prctl() -> Prctl | None:
    """The function; None where it cannot be called."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        function: Prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    return function


def set_parent_death_kill(prctl: Prctl, *, on: bool) -> None:
    """Have the kernel kill this process when its parent ends, or not any more. A change of the user ends it.

    `prctl` comes from `load_prctl`, which must not be called right after a fork.
    """
    prctl(_SET_PDEATHSIG, SIGKILL if on else 0)


def make_dumpable() -> None:
    """Let the process use its own files in /proc, which Linux gives to root after a change of the user."""
    prctl = load_prctl()
    if prctl is not None:
        prctl(_SET_DUMPABLE, 1, 0, 0, 0)


def is_subreaper() -> bool:
    """Whether orphaned descendants become children of this process."""
    prctl = load_prctl()
    if prctl is None:
        return False
    import ctypes

    flag = ctypes.c_int()
    prctl(_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0)
    return bool(flag.value)


def set_subreaper(wanted: bool) -> bool:
    """Set whether orphaned descendants become children of this process. Returns False if the system cannot do that."""
    prctl = load_prctl()
    return prctl is not None and prctl(_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) == 0
