"""Reads children, CPU time and memory of processes from /proc. Linux only; elsewhere nothing is known."""

from __future__ import annotations

import os
import re
from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    return [pid, *descendants(pid)]


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in _read(path).split()]
    return [each for child in children for each in (child, *descendants(child))]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, ended ones included; -1 where the system does not
    tell. Perl's Starman replaces a worker after a thousand requests."""
    ticks = 0
    known = False
    for each in family(pid):
        if fields := _read(Path(f"/proc/{each}/stat")).rpartition(")")[2].split():
            # utime, stime, and those of children that were waited for (proc(5))
            ticks += sum(map(int, fields[11:15]))
            known = True
    return ticks / os.sysconf("SC_CLK_TCK") if known else -1.0


def wants_cpu(pid: int) -> bool:
    """Whether a process or a descendant runs, or is ready to run."""
    return any(
        _read(thread).rpartition(")")[2].split()[:1] == ["R"]
        for each in family(pid)
        for thread in Path(f"/proc/{each}/task").glob("*/stat")
    )


def uss(pid: int) -> int:
    """The memory of this process alone (unique set size), in bytes: what its end would free."""
    fields = _rollup(pid)
    return fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)


def pss(pid: int) -> int:
    """The memory of a process in bytes, where a page that n processes share counts 1/n (proportional set size)."""
    return _rollup(pid).get("Pss", 0)


def memory_bytes(pids: list[int]) -> int:
    """The sum of the PSS of these processes; -1 where the system does not tell."""
    return sum(pss(pid) for pid in pids) or -1


def title(pid: int) -> str:
    """The command line, as `ps` shows it."""
    return _read(Path(f"/proc/{pid}/cmdline")).replace("\0", " ")


def _rollup(pid: int) -> dict[str, int]:
    text = _read(Path(f"/proc/{pid}/smaps_rollup"))
    return {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}


def _read(path: Path) -> str:
    """The text of a file; "" of a process that has gone."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
