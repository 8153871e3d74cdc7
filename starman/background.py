"""Closing what takes its time: a file without a name is freed by it, 1 GB in 60 ms on a disk, in 0.4 s where files are in memory.

Such closing is not for a loop: it is left to a thread of its own.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def close_in_background(close: Callable[..., object], *arguments: object) -> None:
    """Call `close` in another thread, which nobody waits for; here, if there can be no further thread. Any thread."""
    try:
        threading.Thread(target=close, args=arguments, name="starman-close", daemon=True).start()
    except (RuntimeError, MemoryError):
        close(*arguments)
