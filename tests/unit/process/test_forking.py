"""starman.process.forking: signals, and signals around a fork."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator

import pytest

from starman.process.forking import FORCED_STACKS, GUARDED, HANDLED, STACKS, UNUSED, fork, install_handlers, signal_name
from starman.process.master.signals import SignalQueue
from tests.unit.process.forked import run_forked


@pytest.fixture
def signals() -> Iterator[SignalQueue]:
    opened = SignalQueue()
    yield opened
    opened.close()


def blocked() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def test_hazard_08_signals_around_fork(signals: SignalQueue) -> None:
    """A child starts with blocked signals and without the wakeup descriptor; the parent's mask stays."""
    before = blocked()

    def in_child() -> str:
        assert blocked() >= HANDLED
        # Sent before the child has its handlers: the signal is not lost, does not kill, and is not in the parent's
        # queue.
        for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(os.getpid(), signum)
        assert {signal.SIGTERM, signal.SIGHUP, signal.SIGINT} <= signal.sigpending()
        assert signal.set_wakeup_fd(-1) == -1
        install_handlers(stop_ends=False)
        assert not signal.sigpending()
        assert not blocked() & HANDLED
        return "fine"

    assert run_forked(in_child) == "fine"
    assert blocked() == before
    assert signals.take_signals() == []


def test_hazard_08_a_stop_that_came_before_the_handlers_ends_a_booting_worker() -> None:
    pid = fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        install_handlers(stop_ends=True)
        os._exit(7)
    assert os.waitpid(pid, 0)[1] == 0


def test_hazard_08_programs_that_a_child_starts_have_ordinary_signals() -> None:
    """Neither blocked nor ignored: unlike SIG_IGN, a handler is not inherited over exec."""

    def in_child() -> str:
        install_handlers(stop_ends=True)
        found: list[str] = []
        # In a thread, as in an application: it inherits the mask of the thread that starts it.
        thread = threading.Thread(target=lambda: found.append(subprocess.check_output(["cat", "/proc/self/status"], text=True)))
        thread.start()
        thread.join()
        return found[0]

    fields = dict(line.split(":\t", 1) for line in run_forked(in_child).splitlines() if ":\t" in line)
    for signum in HANDLED:
        for field in ("SigBlk", "SigIgn"):
            assert not int(fields[field], 16) >> (signum - 1) & 1, (field, signum)


@pytest.mark.filterwarnings("error")
def test_a_fork_beside_threads_is_not_fatal_where_warnings_are_errors() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert run_forked(lambda: "fine") == "fine"
    finally:
        stop.set()
        thread.join()


def test_the_signals_for_stacks_are_reserved_and_have_names() -> None:
    assert not UNUSED & {STACKS, FORCED_STACKS}
    assert {STACKS, FORCED_STACKS} <= GUARDED
    assert [signal_name(signum) for signum in (signal.SIGRTMIN, signal.SIGRTMIN + 1)] == ["SIGRTMIN", "SIGRTMIN+1"]
    assert signal_name(signal.SIGTERM) == "SIGTERM"
