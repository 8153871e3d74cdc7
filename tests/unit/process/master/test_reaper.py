"""starman.process.master.reaper: exit statuses, and which processes belong to the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from starman.process.master.reaper import KEPT_SECONDS, Reaper, describe
from tests.unit.process.forked import run_forked


def child(status: int = 0) -> int:
    """Fork a child that ends at once. It is a zombie when this returns. Returns its process id."""
    pid = os.fork()
    if pid == 0:
        os._exit(status)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid


def orphan() -> int:
    """The process id of a grandchild that has ended, as has its parent."""
    read_fd, write_fd = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(5)
        os.write(write_fd, str(pid).encode())
        os._exit(0)
    os.waitpid(between, 0)
    pid = int(os.read(read_fd, 20))
    os.close(read_fd)
    os.close(write_fd)
    return pid


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3 << 8, "exited with status 3"),
        (9, "was killed by SIGKILL (out of memory?)"),
        (0x80 | 11, "was killed by SIGSEGV (a fault in native code?, core dumped)"),
        (15, "was killed by SIGTERM"),
    ],
)
def test_how_a_process_ended(status: int, words: str) -> None:
    assert describe(status) == words


def test_an_unnamed_signal_has_a_number() -> None:
    assert describe(int(signal.SIGRTMIN) + 3) == f"was killed by signal {signal.SIGRTMIN + 3}"


def test_hazard_17_many_ended_children_are_all_reaped_at_once() -> None:
    def in_child() -> str:
        reaper = Reaper(everything=True)
        pids = [child() for _ in range(20)]
        for pid in pids:
            reaper.track(pid)
        assert sorted(pid for pid, _ in reaper.reap(0.0)) == sorted(pids)
        return "fine"

    assert run_forked(in_child) == "fine"


def test_hazard_06_the_status_of_an_unknown_process_is_kept_briefly() -> None:
    def in_child() -> str:
        reaper = Reaper(everything=True)
        early, forgotten = child(3), child()
        assert list(reaper.reap(100.0)) == []
        reaper.track(early, since=99.5)
        assert list(reaper.reap(101.0)) == [(early, 3 << 8)]
        assert list(reaper.reap(100.0 + KEPT_SECONDS + 1)) == []
        reaper.track(forgotten)
        assert list(reaper.reap(100.0 + KEPT_SECONDS + 2)) == []
        return "fine"

    assert run_forked(in_child) == "fine"


def test_a_status_from_before_the_order_to_fork_is_that_of_an_earlier_process_with_the_same_id() -> None:
    def in_child() -> str:
        reaper = Reaper(everything=True)
        reused = child(3)
        assert list(reaper.reap(100.0)) == []
        reaper.track(reused, since=100.5)
        assert list(reaper.reap(101.0)) == []
        return "fine"

    assert run_forked(in_child) == "fine"


@pytest.mark.parametrize("everything", [True, False])
def test_orphans_come_to_the_reaper(everything: bool) -> None:
    def in_child() -> str:
        reaper = Reaper(everything=everything)
        assert reaper.adopts
        pid = orphan()
        reaper.track(pid)
        deadline = time.monotonic() + 10
        while not (found := list(reaper.reap(0.0))):
            assert time.monotonic() < deadline
        return f"{found == [(pid, 5 << 8)]}"

    assert run_forked(in_child) == "True"


def test_children_of_an_embedding_program_stay_its_own() -> None:
    def in_child() -> str:
        reaper = Reaper(everything=False)
        theirs = subprocess.Popen(["sh", "-c", "exit 4"])
        os.waitid(os.P_PID, theirs.pid, os.WEXITED | os.WNOWAIT)
        assert list(reaper.reap(0.0)) == []
        return str(theirs.wait())

    assert run_forked(in_child) == "4"


def test_the_process_is_put_back_as_it_was() -> None:
    def in_child() -> str:
        first = Reaper(everything=False)
        first.close()
        between = Reaper(everything=False)
        assert not between._was_subreaper
        inner = Reaper(everything=False)
        assert inner._was_subreaper
        return "fine"

    assert run_forked(in_child) == "fine"


def test_a_reaped_process_is_no_child() -> None:
    def in_child() -> str:
        pid = child()
        assert Reaper.has_child(pid)
        os.waitpid(pid, 0)
        return str(Reaper.has_child(pid))

    assert run_forked(in_child) == "False"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every process of the session counts")
def test_the_reaper_owns_children_and_grandchildren_only() -> None:
    """Whether they still run or have ended."""

    def in_child() -> str:
        reaper = Reaper(everything=True)
        read_fd, write_fd = os.pipe()
        alive = os.fork()
        if alive == 0:
            grandchild = os.fork()
            if grandchild:
                os.write(write_fd, str(grandchild).encode())
            signal.pause()
        grandchild = int(os.read(read_fd, 20))
        try:
            assert reaper.owns_process(alive)
            assert reaper.owns_process(grandchild)
            gone = child(3)
            assert reaper.owns_process(gone), "a zombie"
            assert list(reaper.reap(0.0)) == []
            assert reaper.owns_process(gone), "reaped, and not tracked yet"
            for pid in (-1, 0, 1, os.getpid(), os.getppid(), 1 << 22):
                assert not reaper.owns_process(pid), pid
        finally:
            os.kill(grandchild, signal.SIGKILL)
            os.kill(alive, signal.SIGKILL)
        return "fine"

    assert run_forked(in_child) == "fine"
