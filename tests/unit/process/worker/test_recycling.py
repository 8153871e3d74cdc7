"""starman.process.worker.recycling: the limits of a worker, and the memory that it uses alone."""

from __future__ import annotations

import builtins
import mmap
import resource
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.process.worker.recycling import LIFETIME_SPREAD, Recycling, used_bytes
from tests.unit.process.forked import run_forked

MIB = 1 << 20


def recycling(chance: float = 0.0, **settings: object) -> Recycling:
    return Recycling(Settings.of(**settings), 1000.0, lambda: chance)


def peak() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_without_bounds_nothing_is_recycled() -> None:
    assert recycling().reason(10**9, 10.0**9, 10**15) is None


@pytest.mark.parametrize(("jitter", "chance", "bound"), [(0, 1.0, 100), (50, 0.0, 100), (50, 0.5, 125), (50, 1.0, 150)])
def test_requests(jitter: int, chance: float, bound: int) -> None:
    limits = recycling(chance, max_requests=100, max_requests_jitter=jitter)
    assert limits.reason(bound - 1, 1000.0) is None
    assert limits.reason(bound, 1000.0) == f"it has served {bound} requests (max_requests)"


def test_a_jitter_alone_is_no_bound() -> None:
    assert recycling(1.0, max_requests_jitter=50).reason(10**9, 1000.0) is None


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_age(chance: float) -> None:
    limits = recycling(chance, max_worker_lifetime=3600)
    until = 1000.0 + 3600 * (1 - LIFETIME_SPREAD * chance)
    assert limits.reason(0, until - 0.01) is None
    assert limits.reason(0, until) == "it is near the age of 3600 s (max_worker_lifetime)"


def test_memory() -> None:
    limits = recycling(max_worker_memory="64M")
    assert limits.reason(0, 1000.0, 64 * MIB - 1) is None
    assert limits.reason(0, 1000.0, 65 * MIB) == "it holds 65.0 MiB (max_worker_memory)"


def test_used_bytes_are_what_no_other_process_shares() -> None:
    size = 64 * MIB
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def touch(end: int) -> None:
        # A byte of each page, not `block.write(bytes(end))`: the allocator may keep those bytes once they are freed.
        for at in range(0, end, mmap.PAGESIZE):
            block[at] = 1

    def in_child() -> str:
        before = used_bytes()
        touch(size)
        own = used_bytes() - before

        def in_fork() -> str:
            shared = used_bytes()
            touch(size // 2)
            return f"{shared / size:.2f} {(used_bytes() - shared) / size:.2f}"

        return f"{own / size:.2f} {run_forked(in_fork)}"

    own, shared, copied = map(float, run_forked(in_child).split())
    assert 0.9 < own < 1.1
    assert shared < 0.2
    assert 0.45 < copied < 0.6


def test_used_bytes_where_the_kernel_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.open

    def refuse(path: Any, *arguments: Any) -> Any:
        if path == "/proc/self/smaps_rollup":
            raise FileNotFoundError(2, "No such file or directory", path)
        return real(path, *arguments)

    monkeypatch.setattr(builtins, "open", refuse)
    least, used, most = peak(), used_bytes(), peak()
    assert least <= used <= most
