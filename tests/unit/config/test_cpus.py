"""How many CPUs there are for us, with /proc and /sys of our own making."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starman.config.cpus import available_cpus


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_the_affinity_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert available_cpus(str(tmp_path)) == 16
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    assert available_cpus(str(tmp_path)) == 2


def test_without_affinity_all_cpus_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus(str(tmp_path)) == 1


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [("max 100000", 16), ("100000 100000", 1), ("150000 100000", 2), ("9900000 100000", 16), ("50000 100000", 1)],
)
def test_quota_of_cgroup_v2_is_rounded_up(tmp_path: Path, limit: str, cpus: int) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/")
    write(tmp_path, "sys/fs/cgroup/cpu.max", limit)
    assert available_cpus(str(tmp_path)) == cpus


def test_a_quota_above_our_cgroup_holds_too(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/pods/one")
    write(tmp_path, "sys/fs/cgroup/pods/cpu.max", "300000 100000")
    write(tmp_path, "sys/fs/cgroup/pods/one/cpu.max", "max 100000")
    assert available_cpus(str(tmp_path)) == 3


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 16), ("250000", 3)])
def test_quota_of_cgroup_v1(tmp_path: Path, quota: str, cpus: int) -> None:
    write(tmp_path, "proc/self/cgroup", "4:memory:/x\n3:cpu,cpuacct:/docker/abc\n0::/")
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota)  # the host's path is not there: the mount counts
    write(tmp_path, "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert available_cpus(str(tmp_path)) == cpus


@pytest.mark.parametrize("limit", ["", "nonsense", "100000 0", "100000", "x y"])
def test_an_unreadable_quota_is_none(tmp_path: Path, limit: str) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/\nnonsense")
    write(tmp_path, "sys/fs/cgroup/cpu.max", limit)
    assert available_cpus(str(tmp_path)) == 16


def test_this_machine() -> None:
    assert available_cpus() >= 1
