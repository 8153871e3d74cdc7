"""Recognises a build of CPython without the GIL (PEP 703), on which the server has not been run. Imported by the
master."""

from __future__ import annotations

import sys


def warning() -> str | None:
    """What to log about a free-threaded interpreter; None on a build with the GIL."""
    if "t" not in sys.abiflags:
        return None
    return (
        f"this is a free-threaded build of Python {sys.version_info.major}.{sys.version_info.minor}, on which the server "
        f"has not been tested: {_state()}. Use a build with the GIL in production"
    )


def _state() -> str:
    # CPython 3.13. Until an extension module that needs the GIL is imported, it is off unless PYTHON_GIL=1 is set.
    enabled = getattr(sys, "_is_gil_enabled", None)
    if enabled is not None and enabled():
        return "the GIL is on, as PYTHON_GIL=1 or an extension module wants it"
    return "the GIL is off unless an extension module turns it on (PYTHON_GIL=1 does)"
