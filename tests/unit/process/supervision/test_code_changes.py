"""process.supervision.code_changes, through the supervisor: all workers are replaced at once when files change."""

from __future__ import annotations

from starman.process.status import Phase
from starman.process.supervision.actions import (
    Drain,
    Exit,
    FailStart,
    ForkMold,
    Kill,
    LogReady,
    RetireMold,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.supervisor import Supervisor
from tests.unit.process.supervision.test_supervisor import Desk, has, only, terms


def reloading(workers: int = 2, *, preload: bool = False) -> Desk:
    """A desk whose server reloads."""
    desk = Desk(workers, preload=preload)
    own = terms(workers, preload=preload)
    own.reload = True
    desk.supervisor = Supervisor(own)
    return desk


def test_old_workers_drain_at_once_and_new_ones_follow_when_the_files_have_settled() -> None:
    desk = reloading()
    old = desk.start()
    desk.supervisor.code_changes.on_changing()
    assert desk.plan() == [Drain(number) for number in old]
    desk.gone(old[0], "exited with status 0")
    assert desk.plan(0.04) == [], "nothing starts while more files may change"
    desk.supervisor.code_changes.on_changed("app.py")
    spawned = [action for action in desk.plan() if isinstance(action, SpawnWorker)]
    assert [action.slot for action in spawned] == [1, 2]
    assert "INFO reloading: app.py" in desk.said()
    desk.ready(spawned[0].child)
    desk.ready(spawned[1].child)
    desk.gone(old[1], "exited with status 0")
    assert desk.plan(100.0) == []


def test_a_change_during_a_start_gives_the_start_up() -> None:
    desk = reloading(1)
    (old,) = desk.start()
    desk.supervisor.code_changes.on_changed("app.py")
    first = only(desk.plan(), SpawnWorker)
    desk.born(first.child)
    desk.supervisor.code_changes.on_changing()
    assert desk.plan() == [Kill(old), Kill(first.child)], "the old one has had its time, and would take the room of new ones"
    desk.supervisor.code_changes.on_changed("app.py")
    second = only(desk.plan(), SpawnWorker)
    desk.gone(first.child)
    desk.ready(second.child)
    assert not has(desk.plan(), SpawnWorker)
    assert "attempt" not in desk.said(), "a start that was given up is no failure"


def test_preloaded_code_is_loaded_by_a_new_mold() -> None:
    desk = reloading(preload=True)
    desk.start()
    old_mold = only(desk.history, SpawnMold)
    desk.supervisor.code_changes.on_changed("app.py")
    actions = desk.plan()
    assert only(actions, RetireMold).child == old_mold.child
    new_mold = only(actions, SpawnMold)
    assert not has(actions, SpawnWorker)
    desk.supervisor.code_changes.on_changing()
    desk.born(new_mold.child)
    desk.supervisor.code_changes.on_changed("app.py")
    actions = desk.plan()
    assert Kill(new_mold.child) in actions, "it is importing old code"
    newest = only(actions, SpawnMold)
    desk.ready(newest.child)
    assert [action.mold for action in desk.plan() if isinstance(action, SpawnWorker)] == [newest.child] * 2


def test_a_restart_under_way_becomes_part_of_the_reload() -> None:
    desk = reloading()
    desk.start()
    desk.supervisor.restart(terms(3, settings="new"))
    only(desk.plan(), SpawnWorker)
    desk.supervisor.code_changes.on_changed("app.py")
    spawned = [action for action in desk.plan() if isinstance(action, SpawnWorker)]
    assert [(action.slot, action.settings) for action in spawned] == [(1, "new"), (2, "new"), (3, "new")]
    assert not desk.supervisor.server_status().restarting


def test_a_process_that_dies_at_the_first_start_is_tried_again_and_at_once_after_a_change() -> None:
    desk = reloading(1)
    desk.ready(only(desk.plan(), ForkMold).child)
    worker = only(desk.plan(), SpawnWorker)
    desk.born(worker.child)
    desk.gone(worker.child, "exited with status 3")
    assert not has(desk.plan(), FailStart)
    assert "next attempt in 0.5 s" in desk.said()
    desk.supervisor.code_changes.on_changed("app.py")
    fixed = only(desk.plan(), SpawnWorker)
    desk.ready(fixed.child)
    assert only(desk.plan(), LogReady).workers == 1
    assert desk.supervisor.phase is Phase.RUNNING


def test_a_reported_failure_still_ends_the_first_start() -> None:
    desk = reloading(1)
    desk.plan()
    desk.fail(1, "no certificate")
    assert only(desk.plan(), FailStart).reason == "no certificate"


def test_nothing_is_started_while_the_server_stops() -> None:
    desk = reloading(1)
    (worker,) = desk.start()
    desk.supervisor.stop(desk.now)
    desk.supervisor.code_changes.on_changing()
    desk.supervisor.code_changes.on_changed("app.py")
    assert not has(desk.plan(), SpawnWorker)
    desk.gone(worker, "exited with status 0")
    desk.gone(1, "exited with status 0")
    assert only(desk.plan(), Exit).status == 0
