"""Raises the limit of open descriptors of the master, which workers inherit."""

from __future__ import annotations

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
