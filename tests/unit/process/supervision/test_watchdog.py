"""starman.process.supervision.watchdog, through the supervisor that it is part of: which loop is silent, and what
follows."""

from __future__ import annotations

import pytest

from starman.process.supervision.actions import Drain, DumpStacks, Kill, SpawnWorker
from starman.process.supervision.watchdog import LATE, STACKS_SLACK
from tests.unit.process.supervision.desk import Desk, has, only


def watched(timeout: float = 30.0) -> tuple[Desk, int]:
    """A desk with one worker that has been ready for 100 s; returns the number of the worker, too."""
    desk = Desk(workers=1)
    desk.supervisor.watchdog.timeout = timeout
    (worker,) = desk.start()
    desk.now += 100
    return desk, worker


def test_a_worker_with_a_heartbeat_in_time_stays() -> None:
    desk, worker = watched()
    for _ in range(10):
        desk.supervisor.watchdog.check({worker: desk.now - 29.9}, desk.now)
        assert desk.plan() == []
        assert desk.supervisor.next_instant(desk.now) == desk.now - 29.9 + 30
        desk.now += 7


def test_a_silent_worker_writes_its_stacks_then_is_killed_and_its_successor_starts_at_once() -> None:
    desk, worker = watched()
    desk.supervisor.watchdog.check({worker: desk.now - 30}, desk.now)
    ask, spawn = desk.plan()
    assert ask == DumpStacks(worker, "worker 1 (102) is replaced: its loop has been silent for 30.0 s (worker_timeout)")
    assert isinstance(spawn, SpawnWorker)
    desk.supervisor.watchdog.check({worker: desk.now - 30}, desk.now)
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) == desk.now + STACKS_SLACK
    desk.now += STACKS_SLACK
    desk.supervisor.watchdog.check({worker: desk.now - 32}, desk.now)
    assert only(desk.plan(), Kill) == Kill(worker)
    assert "worker 1 (102) is still silent: it is killed" in desk.said()
    desk.gone(worker)
    desk.ready(spawn.child)
    assert desk.plan() == []
    assert "ERROR" not in desk.said()


def test_a_worker_that_responds_again_is_not_killed_but_replaced() -> None:
    desk, worker = watched()
    desk.supervisor.watchdog.check({worker: desk.now - 30}, desk.now)
    successor = only(desk.plan(), SpawnWorker).child
    desk.now += 0.5
    desk.supervisor.watchdog.check({worker: desk.now}, desk.now)
    desk.supervisor.watchdog.check({worker: desk.now}, desk.now)
    assert not has(desk.plan(), Kill)
    assert desk.said().count("worker 1 (102) responds again") == 1
    assert not has(desk.plan(after=STACKS_SLACK), Kill)
    desk.ready(successor)
    assert desk.plan() == [Drain(worker)]
    assert len(desk.all(DumpStacks)) == 1


def test_a_silent_worker_has_no_time_to_drain_unless_it_responds_again() -> None:
    desk, worker = watched()
    desk.supervisor.watchdog.check({worker: desk.now - 30}, desk.now)
    desk.ready(only(desk.plan(), SpawnWorker).child)
    assert desk.plan() == [Drain(worker)]
    assert not has(desk.plan(after=STACKS_SLACK - 0.1), Kill)
    assert has(desk.plan(after=0.1), Kill)

    desk, worker = watched()
    desk.supervisor.watchdog.check({worker: desk.now - 30}, desk.now)
    desk.ready(only(desk.plan(), SpawnWorker).child)
    assert desk.plan() == [Drain(worker)]
    desk.supervisor.watchdog.check({worker: desk.now}, desk.now)
    assert not has(desk.plan(after=29), Kill)
    assert has(desk.plan(after=10), Kill)


def test_a_silence_of_master_and_worker_together_is_excused() -> None:
    desk, worker = watched()
    # The check was due 12 s ago: the master has just woken up.
    desk.supervisor.watchdog.check({worker: desk.now - 42}, desk.now)
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) == desk.now + 12
    desk.now += 0.5
    desk.supervisor.watchdog.check({worker: desk.now}, desk.now)
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) == desk.now + 30


@pytest.mark.parametrize("late", [LATE, 12.0, 1e6])
def test_a_master_that_comes_late_excuses_a_silence_once_and_for_no_longer_than_it_was_late(late: float) -> None:
    desk, worker = watched()
    beat = desk.now
    desk.now += 30 + late
    desk.supervisor.watchdog.check({worker: beat}, desk.now)
    assert desk.plan() == []
    given = min(late, 30.0)
    assert desk.supervisor.next_instant(desk.now) == desk.now + given
    # This check is late, too: on a busy machine every check is.
    desk.now += given + late
    desk.supervisor.watchdog.check({worker: beat}, desk.now)
    assert has(desk.plan(), DumpStacks)


def test_each_silence_is_excused_anew_and_a_look_in_time_excuses_nothing() -> None:
    desk, worker = watched()
    for _ in range(3):
        desk.now += 100
        desk.supervisor.watchdog.check({worker: desk.now - 42}, desk.now)
        assert desk.plan() == []
    desk.now += 100
    desk.supervisor.watchdog.check({worker: desk.now - 30 - LATE / 2}, desk.now)
    assert has(desk.plan(), DumpStacks)


def test_silence_counts_from_the_moment_a_worker_was_ready() -> None:
    desk, worker = watched()
    desk.now -= 100
    desk.supervisor.watchdog.check({worker: 0.0}, desk.now)
    assert desk.plan() == []
    desk.now += 29
    desk.supervisor.watchdog.check({worker: 0.0}, desk.now)
    assert desk.plan() == []


def test_no_check_without_page_while_draining_or_with_timeout_0() -> None:
    desk, worker = watched()
    desk.supervisor.watchdog.check({}, desk.now)
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) is None
    desk.supervisor.on_draining(worker, desk.now)
    desk.supervisor.watchdog.check({worker: 0.0}, desk.now)
    assert not has(desk.plan(), DumpStacks)

    desk, worker = watched(timeout=0.0)
    desk.supervisor.watchdog.check({worker: 0.0}, desk.now)
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) is None


def test_the_server_status_has_the_latest_heartbeat_with_and_without_watchdog() -> None:
    for timeout in (30.0, 0.0):
        desk = Desk(workers=2)
        desk.supervisor.watchdog.timeout = timeout
        assert desk.supervisor.server_status().alive_at is None, "no worker serves"
        first, second = desk.start()
        desk.now += 100
        desk.supervisor.watchdog.check({first: desk.now - 3}, desk.now)
        assert desk.supervisor.server_status().alive_at is None, "the second worker has no heartbeat"
        desk.supervisor.watchdog.check({first: desk.now - 3, second: desk.now - 5}, desk.now)
        assert desk.supervisor.server_status().alive_at == desk.now - 3
        desk.gone(first)
        assert desk.supervisor.server_status().alive_at == desk.now - 5
