"""What `starman-uv top` shows, and what its keys do: the workers, one worker, or its stacks. Pure.

`top` gives it keys and documents, and draws its lines.
"""

from __future__ import annotations

from enum import Enum

from starman.commands.printable import printable
from starman.commands.stacks_text import stacks_text
from starman.commands.status_table import HEADS, bytes_text, seconds_text, server_lines, table, worker_row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
# The key of each, its first letter, except for that of "cpu".
SORT_KEYS = {"n": "number", "a": "age", "b": "busy", "c": "connections", "p": "cpu", "m": "memory", "r": "requests"}

_FOOTERS = {
    "workers": "q quit   arrows choose   Enter open   s stacks   n a b c p m r sort   ? help",
    "worker": "q quit   Esc back   s stacks   ? help",
    "stacks": "q quit   Esc back   arrows scroll   s read again   ? help",
    "help": "q quit   Esc back",
}
_HELP = (
    "arrows, j, k     choose a worker, or scroll",
    "PgUp, PgDn       scroll by a screen; Home and End: to its ends",
    "Enter            open the worker: its threads and their requests",
    "s                the stacks of the worker, read now",
    "Esc, Backspace   back",
    "n a b c p m r    sort by number, age, busy threads, connections, CPU time (p), memory, requests",
    "Space            read the status now",
    "q, Ctrl-C        quit",
)


class Screen(Enum):
    """What is shown."""

    WORKERS = "workers"
    WORKER = "worker"
    STACKS = "stacks"
    HELP = "help"


class Wish(Enum):
    """What a key asks of the caller."""

    QUIT = "quit"
    STATUS = "status"  # read the status
    STACKS = "stacks"  # read the stacks, and pass them to `set_stacks`


class TopView:
    """The state of the view.

    screen: what is shown. sort: the name in SORTS. selected: the process id of the chosen worker; None: there is none.
    """

    __slots__ = ("_back", "_height", "_scroll", "_stacks", "_status", "_workers", "screen", "selected", "sort")

    def __init__(self, sort: str) -> None:
        self.sort = sort
        self.screen = Screen.WORKERS
        self.selected: int | None = None
        self._back = [Screen.WORKERS]
        self._scroll = 0
        self._height = 1
        self._stacks: list[str] = []
        self._status: dict[str, Any] = {}
        self._workers: list[dict[str, Any]] = []

    def set_status(self, status: dict[str, Any]) -> None:
        """A new status document. The selection stays at its worker, or at its line if the worker has gone."""
        line = self._line()
        self._status = status
        self._workers = sorted(status["workers"], key=SORTS[self.sort])
        if not any(worker["pid"] == self.selected for worker in self._workers):
            self._select(line)

    def set_stacks(self, processes: list[dict[str, Any]]) -> None:
        """The stacks document that was asked for: show that of the chosen worker."""
        found = [process for process in processes if process["pid"] == self.selected]
        self._stacks = stacks_text(found).splitlines() or ["the worker has ended"]
        if self.screen is not Screen.STACKS:
            self._open(Screen.STACKS)

    def on_key(self, key: str) -> Wish | None:
        """A key was pressed (`terminal.split_keys`)."""
        if key == "q":
            return Wish.QUIT
        if key in ("escape", "backspace"):
            self._close()
        elif key == "?" and self.screen is not Screen.HELP:
            self._open(Screen.HELP)
        elif key == "space":
            return Wish.STATUS
        elif key in ("s", "S") and self.selected is not None and self.screen is not Screen.HELP:
            return Wish.STACKS
        elif self.screen is Screen.WORKERS:
            self._on_list_key(key)
        else:
            self._on_scroll_key(key)
        return None

    def _on_list_key(self, key: str) -> None:
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -10, "page down": 10, "home": -(10**6), "end": 10**6}
        if key in steps:
            self._select(self._line() + steps[key])
        elif key == "enter" and self.selected is not None:
            self._open(Screen.WORKER)
        elif key in SORT_KEYS:
            self.sort = SORT_KEYS[key]
            self._workers.sort(key=SORTS[self.sort])

    def _on_scroll_key(self, key: str) -> None:
        page = max(1, self._height - 1)
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -page, "page down": page, "home": -(10**6), "end": 10**6}
        # `lines` knows where the end is.
        self._scroll = max(0, self._scroll + steps.get(key, 0))

    def _open(self, screen: Screen) -> None:
        self._back.append(self.screen)
        self.screen = screen
        self._scroll = 0

    def _close(self) -> None:
        self.screen = self._back.pop() if len(self._back) > 1 else Screen.WORKERS
        self._scroll = 0

    def _line(self) -> int:
        return next((line for line, worker in enumerate(self._workers) if worker["pid"] == self.selected), 0)

    def _select(self, line: int) -> None:
        """Choose the worker of this line, or of the nearest one."""
        known = [worker for worker in self._workers if worker["pid"] is not None]
        self.selected = known[max(0, min(line, len(known) - 1))]["pid"] if known else None

    def lines(self, height: int, columns: int) -> list[tuple[str, bool]]:
        """What to draw on this many lines and columns: each line, and whether it is highlighted. The last one names
        the keys. Stacks are folded; lines of the list of workers may be too long."""
        footer = (_FOOTERS[self.screen.value], True)
        self._height = room = max(0, height - 1)
        if self.screen is Screen.WORKERS:
            body = self._workers_lines(room)
        else:
            found = [part for text in self._texts() for part in _folded(printable(text), columns)]
            self._scroll = min(self._scroll, max(0, len(found) - room))
            body = [(text, False) for text in found[self._scroll : self._scroll + room]]
        body += [("", False)] * (room - len(body))
        return [*body, footer][:height]

    def _texts(self) -> list[str]:
        if self.screen is Screen.WORKER:
            return self._worker_texts()
        return self._stacks if self.screen is Screen.STACKS else list(_HELP)

    def _workers_lines(self, room: int) -> list[tuple[str, bool]]:
        if not self._status:
            return []
        head = [(line, False) for line in server_lines(self._status)]
        rows = table(HEADS, [worker_row(worker, self._status["threads"]) for worker in self._workers])
        head += [(f"sorted by {self.sort}", False), (rows[0], False)]
        # The chosen worker stays in sight, and requests get what is left.
        space = max(1, room - len(head))
        first = max(0, min(self._line() - space // 2, len(rows) - 1 - space))
        body = [
            (row, worker["pid"] == self.selected and self.selected is not None)
            for row, worker in zip(rows[1:], self._workers, strict=True)
        ][first : first + space]
        requests = [(request["seconds"], worker, request) for worker in self._workers for request in worker["requests"]]
        requests.sort(key=lambda each: -each[0])
        rows = table((), [_request_row(*each) for each in requests])
        body += [(printable(line), False) for line in (["", "running requests, the oldest first:", *rows] if rows else [])]
        return [*head, *body][:room]

    def _worker_texts(self) -> list[str]:
        worker = next((worker for worker in self._workers if worker["pid"] == self.selected), None)
        if worker is None:
            return ["the worker has ended"]
        memory = worker["memory"]
        lines = [
            f"worker {worker['number']}, process {worker['pid']}: {worker['state']}, generation {worker['generation']}",
            f"age {seconds_text(worker['age_seconds'])}, CPU time {seconds_text(worker['cpu_seconds'])}, "
            f"memory {bytes_text(memory['private'])} of its own, {bytes_text(memory['rss'])} resident",
            f"{worker['requests_finished']} requests finished, {worker['connections']} connections, event loop silent for "
            f"{seconds_text(worker['loop_silent_seconds'])}",
            "",
        ]
        running = sorted(worker["requests"], key=lambda request: request["thread"])
        rows = [(f"thread {each['thread']}", seconds_text(each["seconds"]), each["request"]) for each in running]
        idle = max(0, (self._status["threads"] or 1) - len(running))
        return [*lines, *table((), rows), f"{idle} {'thread' if idle == 1 else 'threads'} without a request"]


def _folded(text: str, columns: int) -> list[str]:
    """A text in lines of this length."""
    size = max(1, columns)
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def _request_row(seconds: float, worker: dict[str, Any], request: dict[str, Any]) -> tuple[str, ...]:
    return seconds_text(seconds), f"worker {worker['number']}", f"thread {request['thread']}", request["request"]
