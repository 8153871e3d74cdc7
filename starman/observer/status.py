"""The status document: everything that is known about a server at one moment, as plain data.

`starman-uv status --json` prints it, and the other views of the server are made from it. Durations are in seconds,
sizes in bytes, instants (`..._at`) in seconds since the epoch. None: not known.
"""

from __future__ import annotations

import os
import platform
import time

from starman.observer.process_figures import read_figures, started_at
from starman.observer.settings_report import report_settings
from starman.observer.stacks_report import make_stacks
from starman.process.scoreboard import read_entry_of
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.observer.master_link import MasterLink
    from starman.process.scoreboard import WorkerEntry
    from starman.process.worker_spec import WorkerSpec


class StatusReader:
    """Reads the status of one server: from the master, the scoreboard and the kernel. Loop only."""

    __slots__ = ("_board", "_master", "_spec")

    def __init__(self, master: MasterLink, board: memoryview, spec: WorkerSpec) -> None:
        """`board`: a map of the scoreboard. `spec` is that of the start; its settings may be those of a restart."""
        self._master = master
        self._board = board
        self._spec = spec

    async def read_stacks(self, *, force: bool) -> list[dict[str, Any]]:
        """The stacks document (`stacks_report`). `force`: as in `StacksQuery`. Raises MasterSilentError."""
        report = await self._master.status()
        return make_stacks(await self._master.stacks(force=force), report, self._board)

    def read_settings(self) -> dict[str, Any]:
        """See `report_settings`."""
        return report_settings(self._spec)

    async def read(self) -> dict[str, Any]:
        """The status document. Raises MasterSilentError."""
        report = await self._master.status()
        now = time.monotonic()
        settings = self._spec.settings
        pid = report["pid"]
        begun = started_at(pid)
        return {
            "version": VERSION,
            "python": platform.python_version(),
            "name": settings.proc_name or self._spec.program.describe(settings),
            "pid": pid,
            "uid": os.geteuid(),
            "phase": report["phase"],
            "restarting": report["restarting"] or report["reading_settings"],
            "generation": report["generation"],
            "age_seconds": None if begun is None else round(time.clock_gettime(time.CLOCK_BOOTTIME) - begun, 1),
            "listeners": report["listeners"],
            "workers_wanted": report["wanted"],
            "workers_ready": report["ready"],
            "threads": settings.threads,
            "respawns": report["respawns"],
            "log_lines": report["log_lines"],
            "workers": [self._worker(worker, now) for worker in sorted(report["workers"], key=_order)],
            "lost_workers": [_aged(each, now) for each in report["lost_workers"]],
            "lost_count": report["lost_count"],
            "slow_requests": [_aged(each, now) for each in report["slow_requests"]],
            "replacements": [_aged(each, now) for each in report["replacements"]],
            "replacement_count": report["replacement_count"],
            "upgraded_seconds_ago": None if report["upgraded_at"] is None else _since(report["upgraded_at"], now),
            "failed_restart": None if report["failed_restart"] is None else _aged(report["failed_restart"], now),
            "failed_restart_count": report["failed_restart_count"],
            "processes": [
                {"role": "master", "pid": pid, **read_figures(pid)},
                *({"role": role, "pid": number, **read_figures(number)} for role, number in report["processes"]),
            ],
        }

    def _worker(self, report: dict[str, Any], now: float) -> dict[str, Any]:
        entry = read_entry_of(self._board, report["page"])
        if entry is not None and report["pid"] is not None and entry.pid != report["pid"]:
            entry = None  # of another worker, which had the page before
        ready_at, deadline = report["ready_at"], report["deadline"]
        return {
            "number": report["number"],
            "pid": report["pid"],
            "state": report["state"],
            "generation": report["generation"],
            "age_seconds": _since(report["requested_at"], now),
            "ready_seconds": None if ready_at is None else _since(ready_at, now),
            "killed_in_seconds": None if deadline is None else round(deadline - now, 3),
            "is_replaced": report["to_replace"],
            **self._from_scoreboard(entry, now),
            **read_figures(report["pid"]),
        }

    @staticmethod
    def _from_scoreboard(entry: WorkerEntry | None, now: float) -> dict[str, Any]:
        if entry is None:
            names = ("loop_silent_seconds", "requests_finished", "connections", "threads_busy", "requests_in_flight")
            return {**dict.fromkeys(names), "requests": []}
        return {
            "loop_silent_seconds": _since(entry.beat, now),
            "requests_finished": entry.finished,
            "connections": entry.connections,
            "threads_busy": len(entry.requests),
            "requests_in_flight": entry.in_flight,
            "requests": [
                {"thread": request.thread, "request": request.line, "seconds": _since(request.since, now)}
                for request in entry.requests
            ],
        }


def _since(instant: float, now: float) -> float:
    return round(max(0.0, now - instant), 3)


def _aged(entry: dict[str, Any], now: float) -> dict[str, Any]:
    """An entry of the black box, with its age in place of its instant."""
    return {"seconds_ago": _since(entry["at"], now), **{key: value for key, value in entry.items() if key != "at"}}


def _order(report: dict[str, Any]) -> tuple[int, int]:
    return report["number"], report["child"]
