"""The stacks document: what all threads of all processes are doing now, each matched with the request that it runs.

A process that has not written its stacks in time is reported all the same: with its requests from the scoreboard, and
with what the kernel says about its threads. Pure, but for what `read_threads` reads.
"""

from __future__ import annotations

import time

from starman.observer.process_figures import read_threads
from starman.process.scoreboard import read_entry_of
from starman.process.worker.stacks import read_dump

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.process.scoreboard import Request, WorkerEntry


def make_stacks(
    collected: list[tuple[str, int, int | None, str | None]], report: dict[str, Any], board: memoryview
) -> list[dict[str, Any]]:
    """One object for each process, workers first. `collected`: as `MasterLink.stacks` returns it. `report`: the
    master's, which names the page of each worker. `board`: a map of the scoreboard."""
    pages = {worker["pid"]: worker["page"] for worker in report["workers"] if worker["pid"] is not None}
    now = time.monotonic()
    found = []
    for title, number, pid, dump in sorted(collected, key=lambda each: (each[1] == 0, each[1])):
        entry = None if pid is None else read_entry_of(board, pages.get(pid, 0))
        found.append(_process(title, number, pid, dump, entry if entry is not None and entry.pid == pid else None, now))
    return found


def _process(title: str, number: int, pid: int | None, dump: str | None, entry: WorkerEntry | None, now: float) -> dict[str, Any]:
    requests = () if entry is None else entry.requests
    process: dict[str, Any] = {
        "title": title,
        "worker": number or None,
        "pid": pid,
        "answered": dump is not None,
        "loop_silent_seconds": None if entry is None else round(max(0.0, now - entry.beat), 3),
        "threads": [],
        "waiting": [],
        "requests": [],
        "kernel_threads": [],
    }
    if dump is None:
        process["requests"] = [_request(request, now) for request in requests]
        process["kernel_threads"] = [] if pid is None else read_threads(pid)
        return process
    by_ident = {request.ident: request for request in requests}
    threads, process["waiting"] = read_dump(dump)
    for thread in threads:
        request = by_ident.pop(thread.ident, None)
        process["threads"].append(
            {
                "name": _name(thread.current, request),
                "ident": thread.ident,
                "request": None if request is None else _request(request, now),
                "frames": [{"file": path, "line": line, "function": function} for path, line, function in thread.frames],
            }
        )
    # The oldest request first, then the threads without one.
    process["threads"].sort(key=lambda each: -each["request"]["seconds"] if each["request"] else 1.0)
    # Of threads that wait for work by now.
    process["requests"] = [_request(request, now) for request in by_ident.values()]
    return process


def _request(request: Request, now: float) -> dict[str, Any]:
    return {"thread": request.thread, "request": request.line, "seconds": round(max(0.0, now - request.since), 3)}


def _name(current: bool, request: Request | None) -> str:
    if request is not None:
        return f"thread {request.thread}"
    return "the main thread (event loop)" if current else "another thread"
