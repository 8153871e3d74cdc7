"""`starman-uv top`: a live view of a server in the terminal; without one, the status again and again."""

from __future__ import annotations

import sys
import time

from starman.commands.status_table import status_text
from starman.commands.terminal import Terminal, is_full_screen
from starman.commands.top_view import SORTS, TopView, Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.commands.client import Client


def show(client: Client, *, interval: float, sort: str, count: int = 0) -> None:
    """Show the status every `interval` seconds, `count` times (0: until the user quits or the server ends).

    Raises CommandError when the server has ended. Main thread.
    """
    if is_full_screen(sys.stdout):
        try:
            with Terminal() as terminal:
                _show_live(client, terminal, interval, sort, count)
        except EOFError:
            return
        return
    shown = 0
    while True:
        status = client.request("status")["status"]
        status["workers"].sort(key=SORTS[sort])
        print(status_text(status) + "\n", flush=True)
        shown += 1
        if shown == count:
            return
        time.sleep(interval)


def _show_live(client: Client, terminal: Terminal, interval: float, sort: str, count: int) -> None:
    view = TopView(sort)
    shown, due = 0, time.monotonic()
    while True:
        if time.monotonic() >= due:
            view.set_status(client.request("status")["status"])
            due = time.monotonic() + interval
            shown += 1
        columns, lines = terminal.size
        terminal.draw(view.lines(lines, columns))
        if shown == count:
            return
        for key in terminal.read_keys(due - time.monotonic()):
            wish = view.on_key(key)
            if wish is Wish.QUIT:
                return
            if wish is Wish.STATUS:
                due = time.monotonic()
            elif wish is Wish.STACKS:
                view.set_stacks(client.request("stacks")["processes"])
