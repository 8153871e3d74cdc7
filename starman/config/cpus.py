"""How many CPUs this process may use: its affinity, and the CPU quota of the container around it. Reads files only.

Imported by the master; imports nothing of starman.
"""

from __future__ import annotations

import os


def available_cpus(root: str = "/") -> int:
    """The CPUs that this process may use, at least 1: its affinity, or the cgroup's quota (v2 or v1) rounded up if less.

    A container that may use 1.5 CPUs gets 2. `root` is where /proc and /sys are (tests have their own).
    """
    getaffinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cpus = len(getaffinity(0)) if getaffinity else os.cpu_count() or 1
    for group in _cgroup_directories(root):
        quota = _quota(group)
        if quota is not None:
            cpus = min(cpus, quota)
    return max(1, cpus)


def _cgroup_directories(root: str) -> list[str]:
    """The directories of our cgroups and of every cgroup above them: a quota anywhere up the tree holds for us."""
    directories = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            mount = os.path.join(root, "sys/fs/cgroup")
        elif "cpu" in controllers.split(","):
            mount = os.path.join(root, "sys/fs/cgroup", controllers)
        else:
            continue
        # Inside a container the path may be the host's, and not there: the mount itself is then the container's group.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        directories += [os.path.join(mount, *parts[:depth]) for depth in range(len(parts), -1, -1)]
    return directories


def _quota(directory: str) -> int | None:
    """The quota of one cgroup in CPUs, rounded up. None: it has none, or is no cgroup with a CPU controller."""
    quota, _, period = _read(os.path.join(directory, "cpu.max")).strip().partition(" ")
    if not quota:
        quota = _read(os.path.join(directory, "cpu.cfs_quota_us")).strip()
        period = _read(os.path.join(directory, "cpu.cfs_period_us")).strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None  # "max" in v2, -1 in v1: no quota
    return -(-int(quota) // int(period)) or None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""
