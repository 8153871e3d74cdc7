"""What the kernel reports about a process of the server: memory, CPU time, state (proc(5), Linux).

Elsewhere, and where the kernel refuses, figures are None.
"""

from __future__ import annotations

import os
import re

from starman.process.proc_stat import FIRST_FIELD, read_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_AMOUNT = re.compile(rb"^(Pss|Private_Clean|Private_Dirty|Rss): +(\d+) kB$", re.MULTILINE)
# proc(5): the numbers of the fields.
_STATE, _UTIME, _STIME, _STARTTIME, _RSS = 3, 14, 15, 22, 24
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a device",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "dead, not reaped yet",
    "X": "dead",
    "I": "idle",
}


def read_figures(pid: int | None) -> dict[str, Any]:
    """The figures of one process: `memory` (bytes: rss, pss, private; without the right to read them, rss alone),
    `cpu_seconds`, `kernel_state`."""
    figures: dict[str, Any] = {"memory": {"rss": None, "pss": None, "private": None}, "cpu_seconds": None, "kernel_state": None}
    if pid is None:
        return figures
    try:
        fields = read_fields(pid)
        figures["kernel_state"] = STATES.get(fields[_STATE - FIRST_FIELD].decode(), "unknown")
        ticks = int(fields[_UTIME - FIRST_FIELD]) + int(fields[_STIME - FIRST_FIELD])
        figures["cpu_seconds"] = round(ticks / _TICKS, 2)
        figures["memory"]["rss"] = int(fields[_RSS - FIRST_FIELD]) * _PAGE
        figures["memory"] |= _read_memory(pid)
    except (OSError, ValueError, IndexError):
        pass  # it has ended meanwhile, or the kernel refuses
    return figures


def _read_memory(pid: int) -> dict[str, int]:
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        amounts = {name: int(kilobytes) * 1024 for name, kilobytes in _AMOUNT.findall(file.read())}
    private = amounts[b"Private_Clean"] + amounts[b"Private_Dirty"]
    return {"rss": amounts[b"Rss"], "pss": amounts[b"Pss"], "private": private}


def started_at(pid: int) -> float | None:
    """The instant at which the process was started, in seconds since the boot of the machine (CLOCK_BOOTTIME)."""
    try:
        return int(read_fields(pid)[_STARTTIME - FIRST_FIELD]) / _TICKS
    except (OSError, ValueError, IndexError):
        return None


def read_threads(pid: int) -> list[dict[str, Any]]:
    """What the kernel reports of each thread of a process: its id, name, state, and where in the kernel it waits."""
    threads = []
    try:
        numbers = sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    except (OSError, ValueError):
        return []
    for number in numbers:
        path = f"/proc/{pid}/task/{number}"
        try:
            state = read_fields(f"{pid}/task/{number}")[0].decode()
        except (OSError, IndexError):
            continue
        place = _read_line(f"{path}/wchan")
        threads.append(
            {
                "tid": number,
                "name": _read_line(f"{path}/comm"),
                "kernel_state": STATES.get(state, "unknown"),
                "kernel_function": place if place not in ("", "0") else None,
            }
        )
    return threads


def _read_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
