"""starman.process.master.signals: the signals that arrive at the master, in order, and given back at the end."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from starman.process.forking import HANDLED
from starman.process.master.signals import SignalQueue


@pytest.fixture
def signals() -> Iterator[SignalQueue]:
    opened = SignalQueue()
    yield opened
    opened.close()


def test_signals_are_queued_in_order_and_wake_the_poll(signals: SignalQueue) -> None:
    for signum in (signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP, signal.SIGCHLD):
        signal.raise_signal(signum)
    assert select.select([signals], [], [], 0)[0] == [signals]
    signals.clear_wakeups()
    assert select.select([signals], [], [], 0)[0] == []
    assert signals.take_signals() == [signal.SIGHUP, signal.SIGTTIN, signal.SIGHUP]
    assert signals.take_signals() == []


def test_a_flood_of_signals_neither_blocks_nor_warns(signals: SignalQueue) -> None:
    for _ in range(70_000):
        signal.raise_signal(signal.SIGHUP)
    signals.clear_wakeups()
    assert len(signals.take_signals()) == 70_000


def test_the_signals_of_the_calling_program_are_given_back() -> None:
    before = {signum: signal.getsignal(signum) for signum in HANDLED}
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    previous = signal.set_wakeup_fd(write_fd)
    signals = SignalQueue()
    assert {signum: signal.getsignal(signum) for signum in HANDLED} != before
    signals.close()
    assert {signum: signal.getsignal(signum) for signum in HANDLED} == before
    assert signal.set_wakeup_fd(previous) == write_fd
    os.close(read_fd)
    os.close(write_fd)
