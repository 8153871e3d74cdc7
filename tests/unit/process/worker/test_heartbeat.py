"""starman.process.worker.heartbeat: what a worker writes to the scoreboard, and what it does in a quiet moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.scoreboard import Scoreboard, WorkerPage
from starman.process.worker import heartbeat as module
from starman.process.worker.heartbeat import WorkerHeartbeat
from starman.process.worker.recycle_request import RecycleRequest


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    """The master's end, and the worker's."""
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def heartbeat_of(channel: Channel, slot: int, page: WorkerPage | None) -> WorkerHeartbeat:
    return WorkerHeartbeat(slot, page, RecycleRequest(channel, Settings.of()))


def test_it_writes_its_pid_and_its_load(pair: tuple[Channel, Channel]) -> None:
    board = Scoreboard.create()
    heartbeat = heartbeat_of(pair[1], 3, board.map_page(1))
    heartbeat.tick(1, 2, 3)
    assert board.read_page(1) is None, "it is still to become ready"
    heartbeat.start()
    first = board.read_page(1)
    assert first is not None
    assert (first.pid, first.slot, first.finished, first.draining) == (os.getpid(), 3, 0, False)
    assert first.beat == first.started > 0
    heartbeat.draining = True
    heartbeat.tick(10, 20, 2)
    entry = board.read_page(1)
    assert entry is not None
    assert (entry.finished, entry.connections, entry.busy, entry.draining) == (10, 20, 2, True)
    assert entry.beat > first.beat
    assert entry.started == first.started


def test_it_writes_how_many_requests_are_in_flight(pair: tuple[Channel, Channel]) -> None:
    board = Scoreboard.create()
    heartbeat = heartbeat_of(pair[1], 3, board.map_page(1))
    heartbeat.start()
    found = []
    for count in (None, 3, 0):
        if count is not None:
            heartbeat.write_in_flight(count)
        entry = board.read_page(1)
        assert entry is not None
        found.append(entry.in_flight)
    assert found == [None, 3, 0]
    heartbeat_of(pair[1], 3, None).write_in_flight(1)


def test_a_worker_without_work_gives_memory_back_once(pair: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(module, "give_back_free_pages", lambda: given.append(1))
    heartbeat = heartbeat_of(pair[1], 1, None)
    for _ in range(100):
        heartbeat.tick(0, 1, 1)  # one request runs
    assert not given
    for _ in range(100):
        heartbeat.tick(1, 1, 0)
    assert len(given) == 1
    for finished in range(100):
        heartbeat.tick(finished + 2, 1, 0)
    assert len(given) == 1
    for _ in range(100):
        heartbeat.tick(101, 0, 0)
    assert len(given) == 2


def test_signals_that_the_worker_needs_do_not_stay_blocked(
    pair: tuple[Channel, Channel], capfd: pytest.CaptureFixture[str]
) -> None:
    heartbeat = heartbeat_of(pair[1], 1, None)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1})
    try:
        heartbeat.tick(0, 0, 0)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        assert not blocked & {signal.SIGTERM, signal.SIGQUIT}
        assert signal.SIGUSR1 in blocked, "a thread of the application may wait for it"
        heartbeat.tick(0, 0, 0)
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert capfd.readouterr().err.count("has blocked signals that this worker needs, which are unblocked: SIGQUIT, SIGTERM") == 1
