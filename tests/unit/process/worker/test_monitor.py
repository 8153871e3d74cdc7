"""starman.process.worker.monitor: what a worker writes to the scoreboard and sends to the master."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.messages import Recycle
from starman.process.scoreboard import Scoreboard
from starman.process.worker import monitor as module
from starman.process.worker.monitor import WorkerMonitor


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """The master's end, and the worker's."""
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def said(master: Channel) -> list[object]:
    found: list[object] = []
    while True:
        try:
            received = master.receive_if_any()
        except BlockingIOError:
            return found
        assert received is not None
        found.append(received[0])


def test_it_writes_its_pid_and_its_load(pair: tuple[Channel, Channel]) -> None:
    board = Scoreboard.create()
    monitor = WorkerMonitor(pair[1], 3, board.map_page(1), Settings.of())
    monitor.tick(1, 2, 3)
    assert board.read_page(1) is None, "it is still to become ready"
    monitor.start()
    first = board.read_page(1)
    assert first is not None
    assert (first.pid, first.slot, first.finished, first.draining) == (os.getpid(), 3, 0, False)
    assert first.beat == first.started > 0
    monitor.draining = True
    monitor.tick(10, 20, 2)
    entry = board.read_page(1)
    assert entry is not None
    assert (entry.finished, entry.connections, entry.busy, entry.draining) == (10, 20, 2, True)
    assert entry.beat > first.beat
    assert entry.started == first.started


def test_it_writes_how_many_requests_are_in_flight(pair: tuple[Channel, Channel]) -> None:
    board = Scoreboard.create()
    monitor = WorkerMonitor(pair[1], 3, board.map_page(1), Settings.of())
    monitor.start()
    found = []
    for count in (None, 3, 0):
        if count is not None:
            monitor.in_flight(count)
        entry = board.read_page(1)
        assert entry is not None
        found.append(entry.in_flight)
    assert found == [None, 3, 0]
    WorkerMonitor(pair[1], 3, None, Settings.of()).in_flight(1)


def test_it_requests_its_replacement_once_and_not_while_it_drains(pair: tuple[Channel, Channel]) -> None:
    monitor = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    assert monitor.line(0) is None
    monitor.tick(5, 0, 0)
    monitor.start()
    monitor.tick(4, 0, 0)
    assert said(pair[0]) == []
    monitor.tick(5, 0, 0)
    monitor.tick(6, 0, 0)
    assert said(pair[0]) == [Recycle("it has served 5 requests (max_requests)")]
    late = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    late.start()
    late.draining = True
    late.tick(5, 0, 0)
    assert said(pair[0]) == []


def test_what_could_not_be_said_is_said_again(pair: tuple[Channel, Channel]) -> None:
    monitor = WorkerMonitor(pair[1], 1, None, Settings.of(max_requests=5))
    monitor.start()
    while pair[1].send(Recycle("x" * 4000)):
        pass
    monitor.tick(5, 0, 0)
    said(pair[0])
    monitor.tick(7, 0, 0)
    assert said(pair[0]) == [Recycle("it has served 7 requests (max_requests)")]


def test_memory_is_measured_only_when_it_is_bounded(pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "used_bytes", lambda: 3 << 20)

    async def weigh(monitor: WorkerMonitor) -> None:
        task = asyncio.ensure_future(monitor.measure_memory())
        while not (task.done() or monitor._memory_bytes):
            await asyncio.sleep(0.001)
        task.cancel()

    free = WorkerMonitor(pair[1], 1, None, Settings.of())
    asyncio.run(weigh(free))
    assert free._memory_bytes == 0
    bound = WorkerMonitor(pair[1], 1, None, Settings.of(max_worker_memory="2M"))
    bound.start()
    asyncio.run(weigh(bound))
    bound.tick(0, 0, 0)
    assert said(pair[0]) == [Recycle("it holds 3.0 MiB (max_worker_memory)")]


def test_a_worker_without_work_gives_memory_back_once(pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(module, "give_back_free_pages", lambda: given.append(1))
    monitor = WorkerMonitor(pair[1], 1, None, Settings({}))
    for _ in range(100):
        monitor.tick(0, 1, 1)  # one request runs
    assert not given
    for _ in range(100):
        monitor.tick(1, 1, 0)
    assert len(given) == 1
    for finished in range(100):
        monitor.tick(finished + 2, 1, 0)
    assert len(given) == 1
    for _ in range(100):
        monitor.tick(101, 0, 0)
    assert len(given) == 2


def test_signals_that_the_worker_needs_do_not_stay_blocked(
    pair: tuple[Channel, Channel], capfd: pytest.CaptureFixture[str]
) -> None:
    monitor = WorkerMonitor(pair[1], 1, None, Settings.of())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1})
    try:
        monitor.tick(0, 0, 0)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        assert not blocked & {signal.SIGTERM, signal.SIGQUIT}
        assert signal.SIGUSR1 in blocked, "a thread of the application may wait for it"
        monitor.tick(0, 0, 0)
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert capfd.readouterr().err.count("has blocked signals that this worker needs, which are unblocked: SIGQUIT, SIGTERM") == 1
