"""Prepares the process of the master: raises its limit of descriptors, frees memory, and warns of threads."""

from __future__ import annotations

import sys

from starman import log

# The limit is not raised above this: some programs loop over all descriptors that the limit allows.
MOST_DESCRIPTORS = 1_048_576


def raise_descriptor_limit() -> None:
    """Hazard 17: raise the soft limit of open descriptors to the hard one, at most to MOST_DESCRIPTORS. Workers
    inherit it."""
    import resource

    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    except OSError as error:  # a sandbox
        log.warning(f"the limit of open descriptors cannot be read, and stays as it is: {error.strerror}")
        return
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError) as error:
        log.warning(f"the limit of open descriptors stays at {soft}: {error}")


def release_memory() -> None:
    """Give free pages of the heap back to the system. After imports and start, 0.7 of 6.4 MB are free."""
    if sys.platform == "linux":
        try:
            # The reaper has loaded ctypes already.
            import ctypes

            ctypes.CDLL(None).malloc_trim(0)
        except (ImportError, OSError, AttributeError):
            return  # not glibc


def warn_of_threads() -> None:
    """Log a warning if the calling program runs threads: a fork copies locks that they hold, but not the threads."""
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        log.warning(
            f"this program runs {threading.active_count()} threads; they do not exist in the workers, and a lock that "
            "one of them holds now is held there for ever"
        )
