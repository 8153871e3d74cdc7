"""`starman-uv top`: the status of a server, again and again. In a terminal each one replaces the one before."""

from __future__ import annotations

import shutil
import sys
import time

from starman.commands.status_table import status_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starman.commands.client import Client

# Move to the upper left corner and clear the screen (ECMA-48).
_CLEAR = "\x1b[H\x1b[2J"
# By what the workers can be sorted: the largest first, or by number.
SORTS: dict[str, Callable[[dict[str, Any]], float]] = {
    "number": lambda worker: worker["number"],
    "age": lambda worker: -(worker["age_seconds"] or 0),
    "busy": lambda worker: -(worker["threads_busy"] or 0),
    "connections": lambda worker: -(worker["connections"] or 0),
    "cpu": lambda worker: -(worker["cpu_seconds"] or 0),
    "memory": lambda worker: -(worker["memory"]["private"] or worker["memory"]["rss"] or 0),
    "requests": lambda worker: -(worker["requests_finished"] or 0),
}


def show(client: Client, *, interval: float, sort: str, count: int = 0) -> None:
    """Show the status every `interval` seconds, `count` times (0: until Ctrl-C or the end of the server).

    Raises CommandError when the server has ended.
    """
    shown = 0
    while True:
        status = client.request("status")["status"]
        status["workers"].sort(key=SORTS[sort])
        text = status_text(status)
        if sys.stdout.isatty():
            size = shutil.get_terminal_size()
            lines = [line[: size.columns] for line in text.splitlines()[: size.lines - 1]]
            print(_CLEAR + "\n".join(lines), flush=True)
        else:
            print(text + "\n", flush=True)
        shown += 1
        if shown == count:
            return
        time.sleep(interval)
