"""The error log: one line an event, on file descriptor 2, which `--error-log` points at a file.

Any thread of any process may call. A line leaves in one write, so lines of many workers do not mix. The logging
package is not used, nor imported: it would add 2 MB to a master of 5.
"""

from __future__ import annotations

import os
import sys
import time


def info(text: str) -> None:
    """What an operator wants to know once: ready, restarted, stopped."""
    _write("INFO", text)


def warning(text: str) -> None:
    """Something went wrong, and starman has dealt with it."""
    _write("WARNING", text)


def error(text: str) -> None:
    """Something went wrong that somebody should look at. `text` may have several lines (a traceback)."""
    _write("ERROR", text)


# What a client says may be in the message of an application's exception. There it does nothing to a terminal, and its lines
# are indented, as all of an event but the first are: so none of them can pass for an event.
_HARMLESS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) != "\t"} | {ord("\n"): "\n  "}


def _write(level: str, text: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z")
    line = f"[{stamp}] [{os.getpid()}] [{level}] {text.rstrip().translate(_HARMLESS)}\n"
    raw(line)


def raw(text: str) -> None:
    """Write `text` as it is. Never raises: a full disk or a closed terminal must not take the server down."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.write(2, text.encode("utf-8", "backslashreplace"))
    except (OSError, ValueError):
        pass
