"""Lets starman fork under debugpy, whose debugger (pydevd) replaces `os.fork`.

By default, the debugger connects each forked child, which then waits for a client of the debugger. Without a client,
some children wait for ever. So the debugger follows starman's own forks only while a client is attached. The master
loads this module, so it must not import anything large.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any


def quiet_fork() -> AbstractContextManager[Any]:
    """Use around a fork: the child is not connected to the debugger. Changes nothing if no debugger is loaded, if a
    client is attached, or if this version of the debugger lacks the functions. Affects this thread only."""
    pydevd = sys.modules.get("pydevd")
    if pydevd is not None:
        try:
            if not pydevd._is_attached():
                skip: AbstractContextManager[Any] = pydevd.skip_subprocess_arg_patch()
                return skip
        except AttributeError:
            pass  # another version
    return nullcontext()
