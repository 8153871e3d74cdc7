"""starman.process.supervision.observer: when an observer is started, replaced and killed."""

from __future__ import annotations

from starman.process.supervision.observer import MOLD_SECONDS, SILENT_SECONDS, START_SECONDS, ObserverLife, Step


def step(life: ObserverLife, now: float, *, mold: bool = True, stopping: bool = False) -> Step:
    return life.plan(now, mold=mold, stopping=stopping)


def started(life: ObserverLife, now: float) -> None:
    life.on_client(now)
    assert step(life, now) is Step.SPAWN
    life.on_message(now)
    life.on_loaded()


def test_none_runs_until_a_client_comes_and_it_ends_when_it_is_idle() -> None:
    life = ObserverLife(always=False)
    assert step(life, 1.0) is Step.NOTHING
    assert life.waits_for_clients
    assert life.next_instant(1.0) is None
    started(life, 2.0)
    assert not life.waits_for_clients
    assert step(life, 3.0) is Step.NOTHING
    life.on_leaving()
    assert life.on_gone("exited with status 0", 70.0) is None
    assert life.waits_for_clients
    started(life, 71.0)


def test_one_always_runs_if_it_has_other_work() -> None:
    life = ObserverLife(always=True)
    assert step(life, 1.0) is Step.SPAWN
    life.on_loaded()
    assert life.on_gone("was killed by SIGKILL", 30.0) == "the observer was killed by SIGKILL; it is started again now"
    assert step(life, 30.0) is Step.SPAWN
    assert life.on_gone("exited with status 1", 31.0) == "the observer exited with status 1; it is started again in 0.5 s"
    assert step(life, 31.4) is Step.NOTHING
    assert life.next_instant(31.4) == 31.5
    assert step(life, 31.5) is Step.SPAWN


def test_one_that_fails_is_not_started_again_at_once_for_a_client() -> None:
    life = ObserverLife(always=False)
    now, line = 100.0, "the observer has failed: MemoryError; it is started again when it is needed"
    life.on_client(now)
    assert step(life, now) is Step.SPAWN
    for wait in (0.5, 1.0, 2.0):
        life.on_failed("MemoryError")
        assert life.on_gone("exited with status 1", now) == line
        assert life.waits_for_clients
        life.on_client(now)
        assert step(life, now + wait - 0.01) is Step.NOTHING
        now += wait
        assert step(life, now) is Step.SPAWN
    life.on_loaded()
    life.on_leaving()
    assert life.on_gone("exited with status 0", now + 60) is None


def test_a_silent_one_is_killed_once() -> None:
    life = ObserverLife(always=False)
    started(life, 10.0)
    assert life.next_instant(10.0) == 10.0 + SILENT_SECONDS
    life.on_message(20.0)
    assert step(life, 20.0 + SILENT_SECONDS - 0.1) is Step.NOTHING
    assert step(life, 20.0 + SILENT_SECONDS) is Step.KILL
    assert life.next_instant(40.0) is None
    life.on_message(41.0)
    assert step(life, 60.0) is Step.NOTHING
    assert life.on_gone("was killed by SIGKILL", 61.0) is not None
    assert life.waits_for_clients


def test_one_that_does_not_start_is_killed() -> None:
    life = ObserverLife(always=False)
    life.on_client(10.0)
    assert step(life, 10.0) is Step.SPAWN
    assert step(life, 10.0 + START_SECONDS) is Step.KILL


def test_the_master_forks_it_if_no_mold_can() -> None:
    life = ObserverLife(always=False)
    life.on_client(10.0)
    assert step(life, 10.0, mold=False) is Step.NOTHING
    assert life.next_instant(10.0) == 10.0 + MOLD_SECONDS
    assert step(life, 10.0 + MOLD_SECONDS, mold=False) is Step.FORK


def test_in_a_stop_there_is_no_mold_and_no_time_to_wait() -> None:
    life = ObserverLife(always=False)
    life.on_client(10.0)
    assert step(life, 10.0, mold=False, stopping=True) is Step.FORK
    assert step(ObserverLife(always=True), 10.0, mold=False, stopping=True) is Step.NOTHING
