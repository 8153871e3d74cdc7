"""Waits for the outcome of `starman-uv reload`, `scale` and `stop`, and says what it is.

The status of the server is asked for again and again, because a restart that has begun can be overtaken by another
one, given up, or ended by a stop.
"""

from __future__ import annotations

import time

from starman.commands.client import CommandError, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starman.commands.client import Client

# How often (seconds) the status is asked for.
_INTERVAL = 0.1
# How many lines of the details of a failure are shown: the last ones, which name the error.
_DETAIL_LINES = 12


class Deadline:
    """How long to wait. Seconds; 0: without a limit."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._begun = time.monotonic()

    def elapsed(self) -> float:
        """How long (seconds) since it was made."""
        return time.monotonic() - self._begun

    def check(self, waits_for: str) -> None:
        """Raises CommandError if the time is over; `waits_for` completes "still waiting for"."""
        if self._seconds and self.elapsed() >= self._seconds:
            raise CommandError(f"after {self._seconds:g} s, still waiting for {waits_for}; the server goes on with it")


def reload(client: Client, seconds: float) -> str:
    """Restart, and wait until the new workers serve. Returns what has happened. Raises CommandError if the restart is
    given up."""
    deadline = Deadline(seconds)
    before = _status(client)
    client.request("reload")

    def finished(status: dict[str, Any]) -> bool:
        if status["failed_restart_count"] != before["failed_restart_count"]:
            raise CommandError(_failure(status["failed_restart"]))
        return not status["restarting"]

    status = _wait(client, finished, deadline, "the new workers")
    if status["generation"] == before["generation"]:
        stopping = status["phase"] == "stopping"
        raise CommandError("the server is stopping" if stopping else "the server has not restarted: its log says why")
    return f"restarted: {_serving(status['workers_ready'], 'new worker')}, after {deadline.elapsed():.1f} s"


def scale(client: Client, workers: int, seconds: float) -> str:
    """Have this number of workers run, and wait until they serve. Returns what has happened. Raises CommandError."""
    deadline = Deadline(seconds)
    client.request("scale", workers=workers)

    def finished(status: dict[str, Any]) -> bool:
        if status["phase"] == "stopping":
            raise CommandError("the server is stopping")
        if status["workers_wanted"] != workers:
            raise CommandError(f"{status['workers_wanted']} workers are wanted now: another command has changed the number")
        return bool(status["workers_ready"] == workers)

    _wait(client, finished, deadline, "the workers")
    return f"scaled: {_serving(workers, 'worker')}, after {deadline.elapsed():.1f} s"


def stop(client: Client, pid: int | None, control: str | None, seconds: float) -> str:
    """Stop, and wait until the server has ended. `pid`, `control`: as in `connect`. Raises CommandError."""
    deadline = Deadline(seconds)
    master = _status(client)["pid"]
    client.request("stop")
    while True:
        try:
            while True:
                client.request("status")
                deadline.check("the requests in flight")
                time.sleep(_INTERVAL)
        except CommandError:
            deadline.check("the requests in flight")
        # The connection has ended, and with it the server, unless only the observer has.
        client.close()
        try:
            client = connect(master if control is None else pid, control)
        except CommandError:
            return f"stopped, after {deadline.elapsed():.1f} s"


def _wait(client: Client, finished: Callable[[dict[str, Any]], bool], deadline: Deadline, waits_for: str) -> dict[str, Any]:
    while True:
        status = _status(client)
        if finished(status):
            return status
        if status["phase"] == "stopping":
            raise CommandError("the server is stopping")
        deadline.check(waits_for)
        time.sleep(_INTERVAL)


def _status(client: Client) -> dict[str, Any]:
    status: dict[str, Any] = client.request("status")["status"]
    return status


def _serving(count: int, what: str) -> str:
    return f"1 {what} serves" if count == 1 else f"{count} {what}s serve"


def _failure(failed: dict[str, Any]) -> str:
    lines = failed["details"].splitlines()
    shown = ["  ...", *lines[-_DETAIL_LINES:]] if len(lines) > _DETAIL_LINES else lines
    return "\n".join((f"the restart is given up, and the old workers stay: {failed['reason']}", *shown))
