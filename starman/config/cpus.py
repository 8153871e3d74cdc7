"""Counts the CPUs that this process may use: its affinity, limited by the CPU quota of its container.

Reads files only. The master imports this module; it must not import anything of starman.
"""

from __future__ import annotations

import os


def available_cpus(root: str = "/") -> int:
    """The number of CPUs that this process may use, at least 1: its affinity, or the quota of its cgroups (v1, v2) if
    less.

    A quota is rounded up: 1.5 CPUs count as 2. `root`: the directory of /proc and /sys, for tests.
    """
    getaffinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    cpus = len(getaffinity(0)) if getaffinity else os.cpu_count() or 1
    for group in _cgroup_directories(root):
        quota = _quota(group)
        if quota is not None:
            cpus = min(cpus, quota)
    return max(1, cpus)


def _cgroup_directories(root: str) -> list[str]:
    """The directories of the cgroups of this process, and of their ancestors: quotas of all of them apply."""
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
        # In a container, the path may be that of the host and missing here. The mount point is then the cgroup of the
        # container.
        parts = [part for part in path.split("/") if part not in ("", "..")]
        directories += [os.path.join(mount, *parts[:depth]) for depth in range(len(parts), -1, -1)]
    return directories


def _quota(directory: str) -> int | None:
    """The quota of one cgroup in CPUs, rounded up. None: no quota, or no CPU controller."""
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
