"""Forks of starman under debugpy, whose debugger (pydevd) replaces `os.fork`.

By default such a fork connects its child to the debugger, and the child waits there for a client of the debugger. Without a
client, some of these children wait for ever. So starman has the debugger follow its own forks only while a client is attached.
The master loads this module, so it imports nothing large.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any


def quiet_fork() -> AbstractContextManager[Any]:
    """Around a fork: the child leaves the debugger, and does not wait for it. Changes nothing if no debugger is loaded, if a
    client is attached to it, or if this version of it cannot be asked. This thread only."""
    pydevd = sys.modules.get("pydevd")
    if pydevd is not None:
        try:
            if not pydevd._is_attached():
                skip: AbstractContextManager[Any] = pydevd.skip_subprocess_arg_patch()
                return skip
        except AttributeError:
            pass  # another version
    return nullcontext()
