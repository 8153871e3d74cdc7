"""starman.process.supervision.supervisor, on a fake clock: reported events, and the plans that follow."""

from __future__ import annotations

import pytest

from starman.process.handover import HandedWorker
from starman.process.supervision.actions import (
    Action,
    CloseListeners,
    Drain,
    DumpStacks,
    Exit,
    FailStart,
    Forget,
    ForkMold,
    Kill,
    Level,
    LogLine,
    LogReady,
    RetireMold,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.children import MOST_REQUESTED
from starman.process.supervision.watchdog import STACKS_SLACK
from tests.unit.process.supervision.desk import Desk, has, only, terms

# The first start.


def test_start_forks_a_mold_then_all_workers_from_it() -> None:
    desk = Desk(workers=3)
    assert desk.plan() == [ForkMold(1)]
    desk.born(1)
    assert desk.plan() == []
    desk.supervisor.on_ready(1, desk.now)
    assert desk.plan() == [SpawnWorker(2, 1, 1, 1), SpawnWorker(3, 2, 1, 1), SpawnWorker(4, 3, 1, 1)]
    for number in (2, 3):
        desk.ready(number)
    assert desk.plan() == []
    desk.ready(4)
    assert desk.plan() == [LogReady(3)]
    assert desk.plan() == []
    assert desk.supervisor.next_instant(desk.now) is None


def test_start_with_preload_has_the_application_loaded_by_a_mold_of_a_mold() -> None:
    desk = Desk(workers=1, preload=True)
    desk.plan()
    desk.ready(1)
    assert desk.plan() == [SpawnMold(2, 1, 1)]
    desk.ready(2)
    assert desk.plan() == [SpawnWorker(3, 1, 1, 2)]


def test_boot_deadline_stands_before_the_fork() -> None:
    desk = Desk(workers=1)
    desk.plan()
    desk.ready(1)
    worker = only(desk.plan(), SpawnWorker).child
    # It has sent no message, not even its process id.
    assert Kill(worker) in desk.plan(after=60)


def test_only_so_many_forks_are_asked_for_at_a_time() -> None:
    desk = Desk(workers=MOST_REQUESTED + 5)
    desk.plan()
    desk.ready(1)
    assert len([action for action in desk.plan() if isinstance(action, SpawnWorker)]) == MOST_REQUESTED
    assert desk.plan() == []
    desk.born(2)
    assert len([action for action in desk.plan() if isinstance(action, SpawnWorker)]) == 1


# Unexpected exits.


def test_a_worker_that_has_lived_is_replaced_at_once() -> None:
    desk = Desk()
    first, _ = desk.start()
    desk.now += 100
    desk.gone(first, "was killed by SIGSEGV (core dumped)")
    assert only(desk.plan(), SpawnWorker).slot == 1
    assert "WARNING worker 1 (102) was killed by SIGSEGV (core dumped); it is replaced" in desk.said()


def test_an_unknown_or_doubled_death_means_nothing() -> None:
    desk = Desk()
    first, _ = desk.start()
    desk.gone(77)
    desk.gone(first)
    desk.gone(first)
    assert len([action for action in desk.plan(after=60) if isinstance(action, SpawnWorker)]) == 1


def test_a_killed_process_that_is_never_seen_dead_is_forgotten() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.supervisor.stop(desk.now)
    desk.plan()
    desk.supervisor.stop(desk.now + 1)
    assert Kill(worker) in desk.plan(after=1)
    actions = desk.plan(after=5)
    assert Forget(worker) in actions
    assert Exit(1) in actions


def test_the_pristine_mold_is_forked_anew_when_it_dies() -> None:
    desk = Desk()
    first, _ = desk.start()
    desk.now += 100
    desk.gone(1)
    mold = only(desk.plan(), ForkMold).child
    desk.gone(first)
    assert not has(desk.plan(), SpawnWorker)
    desk.ready(mold)
    assert only(desk.plan(), SpawnWorker).mold == mold


def test_the_mold_of_the_application_is_made_anew_when_it_dies() -> None:
    desk = Desk(preload=True)
    desk.start()
    desk.now += 100
    desk.gone(2)
    actions = desk.plan()
    assert only(actions, SpawnMold).generation == 1
    assert not has(actions, SpawnWorker)


def test_a_worker_that_drains_by_itself_is_replaced_before_it_exits() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.now += 100
    desk.supervisor.on_draining(worker, desk.now)
    assert only(desk.plan(), SpawnWorker).slot == 1
    desk.gone(worker, "exited with status 0")
    assert desk.plan() == []


# Restart.


def roll(desk: Desk) -> list[int]:
    """Make every new worker of a roll-out ready, and let the old ones exit; returns the numbers of the new ones."""
    numbers: list[int] = []

    def step() -> list[Action]:
        actions = desk.plan()
        for drain in desk.all(Drain):
            desk.gone(drain.child, "exited with status 0")
        return actions + desk.plan()

    while has(actions := step(), SpawnWorker):
        numbers.append(only(actions, SpawnWorker).child)
        assert not has(desk.plan(), SpawnWorker), "one at a time"
        desk.ready(numbers[-1])
    return numbers


def test_restart_replaces_one_worker_at_a_time_and_the_new_one_is_ready_first() -> None:
    desk = Desk(workers=2)
    first, second = desk.start()
    desk.supervisor.restart()
    new_first = only(desk.plan(), SpawnWorker)
    assert (new_first.slot, new_first.generation) == (1, 2)
    desk.born(new_first.child)
    assert desk.plan() == []
    desk.supervisor.on_ready(new_first.child, desk.now)
    actions = desk.plan()
    assert Drain(first) in actions
    assert only(actions, SpawnWorker).slot == 2
    desk.ready(only(actions, SpawnWorker).child)
    actions = desk.plan()
    assert Drain(second) in actions
    assert only(actions, LogLine).text == "restarted: 2 workers are new"
    assert desk.plan() == []


def test_restart_with_preload_forks_from_a_new_mold_and_retires_the_old_one() -> None:
    desk = Desk(workers=2, preload=True)
    desk.start()
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnMold)
    assert new.generation == 2
    desk.ready(new.child)
    roll(desk)
    assert {spawn.mold for spawn in desk.all(SpawnWorker) if spawn.generation == 2} == {new.child}
    assert desk.all(RetireMold) == [RetireMold(2)]
    assert len(desk.all(Drain)) == 2


def test_restart_is_given_up_when_a_new_worker_fails_and_nothing_else_changes() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnWorker).child
    desk.born(new)
    desk.fail(new, "SyntaxError")
    assert only(desk.plan(), LogLine).text == (
        "restart given up, the old workers stay: worker 1 (104) could not start: SyntaxError\nTraceback..."
    )
    assert desk.plan(after=100) == []
    assert not desk.all(Drain)
    desk.gone(first)
    assert only(desk.plan(), SpawnWorker).generation == 1


def test_restart_is_given_up_when_the_new_mold_fails() -> None:
    desk = Desk(workers=2, preload=True)
    desk.start()
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnMold).child
    desk.born(new)
    desk.fail(new, "SyntaxError")
    assert "restart given up" in only(desk.plan(), LogLine).text
    assert desk.plan(after=100) == []


@pytest.mark.parametrize("preload", [False, True])
def test_restart_is_given_up_when_the_pristine_mold_cannot_start(preload: bool) -> None:
    desk = Desk(preload=preload)
    desk.start()
    desk.plan(60)
    desk.gone(1)
    mold = only(desk.plan(), ForkMold).child
    desk.supervisor.restart()
    assert desk.plan() == []
    desk.gone(mold, "could not be forked (Cannot allocate memory)")
    again = only(desk.plan(), ForkMold).child
    reason = "the mold, which forks workers, could not be forked (Cannot allocate memory) before it was ready"
    assert f"restart given up, the old workers stay: {reason}" in desk.said()
    assert not desk.supervisor.server_status().restarting
    # Further attempts follow with growing pauses: workers may die and need it.
    desk.gone(again)
    desk.plan()
    assert "next attempt in 0.5 s" in desk.said()


def test_restart_goes_on_when_a_ready_pristine_mold_dies() -> None:
    desk = Desk()
    desk.start()
    desk.supervisor.restart()
    desk.plan(60)
    desk.gone(1)
    assert has(desk.plan(), ForkMold)
    assert desk.supervisor.server_status().restarting


def test_restart_that_takes_too_long_is_given_up() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnWorker).child
    desk.born(new)
    assert only(desk.plan(after=60), DumpStacks).child == new
    assert desk.plan(after=STACKS_SLACK) == [Kill(new)]
    desk.gone(new)
    assert "restart given up" in only(desk.plan(), LogLine).text
    assert "not ready within 60 s" in desk.said()


def test_restart_half_way_given_up_keeps_the_molds_of_both_generations() -> None:
    desk = Desk(workers=2, preload=True)
    desk.start()
    desk.supervisor.restart()
    desk.ready(only(desk.plan(), SpawnMold).child)
    desk.ready(only(desk.plan(), SpawnWorker).child)
    failing = only(desk.plan(), SpawnWorker).child
    desk.gone(failing)
    desk.plan()
    assert not desk.all(RetireMold)


def test_second_restart_begins_anew_after_the_step_that_is_under_way() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.restart()
    step = only(desk.plan(), SpawnWorker)
    desk.supervisor.restart()
    assert desk.plan() == []
    desk.ready(step.child)
    actions = desk.plan()
    assert Drain(first) in actions
    assert (only(actions, SpawnWorker).slot, only(actions, SpawnWorker).generation) == (1, 3)
    desk.gone(first, "exited with status 0")
    desk.ready(only(actions, SpawnWorker).child)
    assert len(roll(desk)) == 1
    assert Drain(step.child) in desk.history
    assert len(desk.all(Drain)) == 3


def test_second_restart_does_not_wait_for_a_mold_with_stale_code() -> None:
    desk = Desk(workers=1, preload=True)
    desk.start()
    desk.supervisor.restart()
    stale = only(desk.plan(), SpawnMold).child
    desk.born(stale)
    desk.supervisor.restart()
    actions = desk.plan()
    assert Kill(stale) in actions
    assert only(actions, SpawnMold).generation == 3
    desk.gone(stale)
    assert desk.plan() == []


def test_restart_during_the_start_waits_for_its_end() -> None:
    desk = Desk(workers=1)
    desk.supervisor.restart()
    (worker,) = desk.start()[:1]
    # In the plan that ends the start: the next plan might be half a minute away.
    assert desk.history[-2:] == [LogReady(1), SpawnWorker(3, 1, 2, 1)]
    assert worker == 2
    assert desk.plan() == [Drain(worker), LogLine(Level.INFO, "restarted: 1 worker is new")]


def test_a_worker_that_dies_during_its_replacement_is_not_replaced_twice() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.now += 100
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnWorker).child
    desk.gone(worker)
    assert not has(desk.plan(), SpawnWorker)
    desk.ready(new)
    assert not has(desk.plan(), Drain)


def test_restart_waits_for_a_worker_that_is_starting_in_the_same_slot() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.now += 100
    desk.gone(worker)
    replacement = only(desk.plan(), SpawnWorker)
    desk.supervisor.restart()
    assert not has(desk.plan(), SpawnWorker)
    desk.ready(replacement.child)
    assert only(desk.plan(), SpawnWorker).generation == 2


def test_restart_ends_a_back_off() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.gone(worker)
    assert not has(desk.plan(), SpawnWorker)
    desk.supervisor.restart()
    desk.ready(only(desk.plan(), SpawnWorker).child)
    assert only(desk.plan(), LogLine).text == "restarted: 1 worker is new"


def spawned(actions: list[Action]) -> list[int]:
    """The numbers of the workers that are spawned."""
    return [action.child for action in actions if isinstance(action, SpawnWorker)]


def test_restart_replaces_a_batch_at_a_time() -> None:
    desk = Desk(workers=5, batch=2)
    desk.start()
    desk.supervisor.restart()
    first, second = spawned(desk.plan())
    desk.ready(first)
    (third,) = spawned(desk.plan())
    assert spawned(desk.plan()) == []
    desk.ready(second)
    desk.ready(third)
    fourth, fifth = spawned(desk.plan())
    desk.ready(fourth)
    desk.ready(fifth)
    desk.plan()
    assert len(desk.all(Drain)) == 5
    assert "restarted: 5 workers are new" in desk.said()


def test_a_restart_requests_a_limited_number_of_workers_whatever_its_batch() -> None:
    desk = Desk(workers=MOST_REQUESTED + 3, batch=100)
    old = desk.start()
    desk.supervisor.restart()
    first, *others = new = [spawn.child for spawn in desk.plan() if isinstance(spawn, SpawnWorker)]
    assert len(new) == MOST_REQUESTED
    desk.born(first)
    new.append(only(desk.plan(), SpawnWorker).child)
    for number in [*others, new[-1]]:
        desk.born(number)
    new += [spawn.child for spawn in desk.plan() if isinstance(spawn, SpawnWorker)]
    assert len(new) == len(old)


def test_restart_given_up_takes_back_the_others_of_its_batch() -> None:
    desk = Desk(workers=3, batch=3)
    desk.start()
    desk.supervisor.restart()
    first, second, third = spawned(desk.plan())
    for number in (first, second, third):
        desk.born(number)
    desk.fail(second, "SyntaxError", "")
    assert [action for action in desk.plan() if isinstance(action, Drain)] == [Drain(first), Drain(third)]
    # One of them was ready first, and still does not take charge.
    desk.supervisor.on_ready(first, desk.now)
    desk.gone(first, "exited with status 0")
    desk.gone(third, "exited with status 0")
    assert desk.plan(after=100) == []
    assert desk.said().count("ERROR") == 1


def test_the_settings_of_a_restart_are_those_of_its_workers_only() -> None:
    desk = Desk(workers=2)
    second = desk.start()[1]
    desk.now += 100
    desk.supervisor.restart(terms(settings="new"))
    (new,) = spawned(desk.plan())
    desk.ready(new)
    desk.plan()
    # Half-way, the second slot still has the old settings.
    desk.supervisor.restart(terms(settings="newer"))
    failing = desk.all(SpawnWorker)[-1]
    assert failing.settings == "new"
    desk.gone(failing.child)
    desk.gone(second)
    assert {(spawn.slot, spawn.settings) for spawn in desk.plan() if isinstance(spawn, SpawnWorker)} >= {(1, "newer")}


def test_settings_of_a_restart_that_is_given_up_are_forgotten() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.restart(terms(workers=9, settings="new", preload=True))
    mold = only(desk.plan(), SpawnMold)
    assert mold.settings == "new"
    desk.gone(mold.child)
    desk.plan()
    desk.gone(first)
    spawn = only(desk.plan(after=10), SpawnWorker)
    assert (spawn.settings, spawn.generation) == ("", 1)
    desk.ready(spawn.child)
    assert desk.plan() == []


@pytest.mark.parametrize(("before", "after", "grown"), [(2, 4, 0), (4, 2, 0), (2, 4, 3), (3, 3, 2)])
def test_a_changed_number_of_workers_comes_at_the_end_of_a_restart(before: int, after: int, grown: int) -> None:
    desk = Desk(workers=before)
    desk.start()
    for _ in range(grown):
        desk.grow()
        desk.ready(only(desk.plan(), SpawnWorker).child)
    desk.supervisor.restart(terms(workers=after, settings="new"))
    for _ in range(before + grown):
        (number,) = spawned(desk.plan())
        desk.ready(number)
    more = spawned(desk.plan())
    for number in more:
        desk.ready(number)
    desk.plan()
    # Workers that TTIN has added stay when the setting has not changed.
    left = after if after != before else before + grown
    assert before + grown + len(more) - (len(desk.all(Drain)) - before - grown) == left
    assert all(spawn.settings == "new" for spawn in desk.all(SpawnWorker)[-len(more) :] if more)


def test_a_restart_that_turns_preloading_off_retires_the_loaded_mold() -> None:
    desk = Desk(workers=1, preload=True)
    desk.start()
    desk.supervisor.restart(terms(workers=1))
    assert len(roll(desk)) == 1
    assert len(desk.all(RetireMold)) == 1
    assert len(desk.all(SpawnMold)) == 1


# Upgrades.


def test_a_held_supervisor_begins_nothing_and_reports_when_nothing_is_starting() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnWorker).child
    desk.supervisor.hold(on=True)
    assert not desk.supervisor.nothing_starting
    desk.ready(new)
    assert desk.plan() == [Drain(first)]
    assert desk.supervisor.nothing_starting
    desk.gone(new)
    assert not has(desk.plan(), SpawnWorker)
    desk.now += 10
    desk.plan()
    desk.supervisor.hold(on=False)
    assert desk.supervisor.next_instant(desk.now) == desk.now, "nothing else might wake the master"
    assert has(desk.plan(), SpawnWorker)
    assert desk.supervisor.next_instant(desk.now) != desk.now


@pytest.mark.parametrize("preload", [False, True])
def test_the_first_start_is_not_held(preload: bool) -> None:
    desk = Desk(workers=MOST_REQUESTED + 1, preload=preload)
    desk.supervisor.hold(on=True)
    desk.start()
    assert len(desk.all(LogReady)) == 1
    assert desk.supervisor.nothing_starting
    desk.supervisor.restart()
    assert not desk.plan()


def test_an_upgrade_waits_for_the_start_and_not_for_a_stop() -> None:
    desk = Desk(workers=1)
    assert not desk.supervisor.nothing_starting
    desk.start()
    desk.supervisor.stop(desk.now)
    assert not desk.supervisor.nothing_starting


def taken_over(ready: int, slots: int, workers: int = 2) -> tuple[Desk, list[int]]:
    """A supervisor after an upgrade, with `ready` workers and a draining one; returns the numbers of all."""
    desk = Desk(workers=2)
    desk.supervisor.take_over(slots, workers)
    found = [HandedWorker(500 + slot, 9, slot, 0, desk.now - 50, 0.0) for slot in range(1, ready + 1)]
    return desk, [
        desk.supervisor.adopt_worker(handed_worker) for handed_worker in [*found, HandedWorker(600, 9, 2, 0, 1.0, desk.now + 7)]
    ]


def test_an_upgrade_replaces_the_workers() -> None:
    desk, (first, second, ending) = taken_over(ready=2, slots=2)
    desk.ready(only(desk.plan(), ForkMold).child)
    assert len(roll(desk)) == 2
    assert desk.all(Drain) == [Drain(first), Drain(second)]
    assert "restarted: 2 workers are new" in desk.said()
    assert not has(desk.history, LogReady)
    assert desk.plan(after=7)[-1] == Kill(ending)
    assert "worker 2 (600) did not end in time: it is killed" in desk.said()


def test_after_an_upgrade_a_slot_without_worker_is_filled() -> None:
    desk, _ = taken_over(ready=1, slots=2)
    desk.ready(only(desk.plan(), ForkMold).child)
    for spawn in (spawns := [action for action in desk.plan() if isinstance(action, SpawnWorker)]):
        desk.ready(spawn.child)
    assert sorted(spawn.slot for spawn in spawns) == [1, 2]
    desk.plan()
    assert "restarted: 2 workers are new" in desk.said()


@pytest.mark.parametrize(("said", "left"), [(2, 3), (3, 2)])
def test_a_new_image_keeps_what_ttin_has_added_unless_the_setting_has_changed(said: int, left: int) -> None:
    desk, _ = taken_over(ready=3, slots=3, workers=said)
    desk.ready(only(desk.plan(), ForkMold).child)
    roll(desk)
    assert len(desk.supervisor.slots) == left


def test_after_an_upgrade_failing_new_workers_leave_the_old_ones_in_place() -> None:
    desk, (first, *_) = taken_over(ready=2, slots=2)
    desk.ready(only(desk.plan(), ForkMold).child)
    desk.gone(only(desk.plan(), SpawnWorker).child)
    assert "restart given up, the old workers stay" in only(desk.plan(), LogLine).text
    assert not has(desk.plan(after=100), SpawnWorker)
    desk.gone(first)
    spawn = only(desk.plan(after=100), SpawnWorker)
    assert (spawn.slot, spawn.generation) == (1, 1)
    desk.supervisor.restart()
    desk.ready(spawn.child)
    assert len(roll(desk)) == 2


def test_after_an_upgrade_a_worker_to_replace_is_replaced_even_if_the_restart_is_given_up() -> None:
    desk, _ = taken_over(ready=1, slots=2)
    handed_worker = HandedWorker(502, 9, 2, 0, desk.now - 50, 0.0)
    handed_worker.to_replace = True
    spent = desk.supervisor.adopt_worker(handed_worker)
    desk.ready(only(desk.plan(), ForkMold).child)
    # The roll-out comes first; it may fail without consequences.
    first = only(desk.plan(), SpawnWorker)
    assert first.slot == 1
    desk.gone(first.child)
    actions = desk.plan()
    assert "restart given up, the old workers stay" in desk.said()
    again = only(actions, SpawnWorker)
    assert (again.slot, again.generation) == (2, 1)
    desk.ready(again.child)
    assert Drain(spent) in desk.plan()


# More and fewer.


# Workers to replace.


def test_a_worker_to_replace_serves_until_another_is_ready() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.now += 100
    desk.supervisor.on_recycle(first, "it has served 3 requests (max_requests)", desk.now)
    desk.supervisor.on_recycle(first, "it is old", desk.now)
    desk.supervisor.on_recycle(77, "no such worker", desk.now)
    spawn = only(desk.plan(), SpawnWorker)
    assert (spawn.slot, spawn.generation) == (1, 1)
    assert desk.said() == "INFO worker 1 (102) is replaced: it has served 3 requests (max_requests)"
    assert not desk.all(Drain)
    desk.ready(spawn.child)
    assert desk.plan() == [Drain(first)]
    desk.supervisor.on_draining(first, desk.now)
    desk.gone(first, "exited with status 0")
    assert desk.plan(after=1000) == []


def test_a_worker_to_replace_stays_while_its_successors_fail() -> None:
    desk = Desk(workers=1)
    (worker,) = desk.start()
    desk.now += 100
    desk.supervisor.on_recycle(worker, "it is old", desk.now)
    successor = only(desk.plan(), SpawnWorker).child
    desk.born(successor)
    desk.fail(successor, "broken")
    desk.plan()
    assert "could not start: broken; next attempt in 0.5 s" in desk.said()
    assert "restart" not in desk.said()
    successor = only(desk.plan(after=0.5), SpawnWorker).child
    assert not desk.all(Drain)
    desk.ready(successor)
    assert desk.plan() == [Drain(worker)]


def test_a_worker_to_replace_that_dies_is_not_replaced_twice() -> None:
    desk = Desk(workers=1)
    (worker,) = desk.start()
    desk.now += 100
    desk.supervisor.on_recycle(worker, "it is old", desk.now)
    successor = only(desk.plan(), SpawnWorker).child
    desk.gone(worker)
    assert not has(desk.plan(), SpawnWorker)
    desk.ready(successor)
    assert not has(desk.plan(after=1), SpawnWorker)


def test_a_worker_that_requests_a_drain_is_replaced_at_once_and_not_counted_as_failure() -> None:
    desk = Desk(workers=1)
    (worker,) = desk.start()
    for _ in range(20):
        desk.supervisor.on_drain_request(worker, "its application has asked for it", desk.now)
        actions = desk.plan(after=0.01)
        assert only(actions, Drain).child == worker
        spawn = only(actions, SpawnWorker)
        desk.ready(spawn.child)
        desk.gone(worker, "exited with status 0")
        worker = spawn.child
    assert desk.said().count("is replaced: its application has asked for it") == 20
    assert "ERROR" not in desk.said()


def test_a_restart_goes_on_though_workers_must_be_replaced_all_the_time() -> None:
    desk = Desk(workers=3)
    workers = desk.start()
    desk.now += 100
    desk.supervisor.restart()
    for worker in workers:
        desk.supervisor.on_recycle(worker, "it is old", desk.now)
    starting: list[SpawnWorker] = []
    for _ in range(20):
        starting += [action for action in desk.plan(after=0.01) if isinstance(action, SpawnWorker)]
        # One after the other, so that a worker is starting at any time.
        spawn = starting.pop(0)
        desk.ready(spawn.child)
        desk.supervisor.on_recycle(spawn.child, "it is old", desk.now)
        for drain in desk.all(Drain):
            desk.gone(drain.child, "exited with status 0")
        if "restarted" in desk.said():
            break
    assert "restarted: 3 workers are new" in desk.said()


def test_a_worker_to_replace_is_replaced_after_a_restart_that_is_given_up() -> None:
    desk = Desk(workers=2)
    first, second = desk.start()
    desk.now += 100
    desk.supervisor.restart()
    new = only(desk.plan(), SpawnWorker)
    desk.supervisor.on_recycle(second, "it is old", desk.now)
    replacing = only(desk.plan(), SpawnWorker)
    assert (new.generation, replacing.generation, replacing.slot) == (2, 1, 2)
    desk.gone(new.child)
    desk.plan()
    assert "restart given up" in desk.said()
    desk.ready(replacing.child)
    assert desk.plan() == [Drain(second)]
    assert first not in {drain.child for drain in desk.all(Drain)}


def test_grow_and_shrink() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.grow()
    new = only(desk.plan(), SpawnWorker)
    assert new.slot == 2
    desk.ready(new.child)
    desk.shrink()
    assert Drain(new.child) in desk.plan()
    desk.gone(new.child, "exited with status 0")
    assert desk.plan() == []


def test_never_below_one_worker() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.shrink()
    assert desk.plan() == [LogLine(Level.WARNING, "cannot go below one worker")]


def test_shrink_takes_a_worker_that_is_still_starting_without_a_word_about_its_end() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.grow()
    new = only(desk.plan(), SpawnWorker).child
    desk.shrink()
    assert Drain(new) in desk.plan()
    # Its process id was not known at the first order, so the order is repeated.
    desk.born(new)
    assert desk.plan() == [Drain(new)]
    desk.gone(new, "exited with status 0")
    assert desk.plan() == []


def test_a_worker_that_was_ready_before_it_saw_the_order_to_drain_has_all_its_time() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.grow()
    new = only(desk.plan(), SpawnWorker).child
    desk.born(new)
    desk.shrink()
    desk.supervisor.on_ready(new, desk.now)
    desk.plan()
    assert not has(desk.plan(after=31.9), Kill)
    assert has(desk.plan(after=0.1), Kill)


# Stopping.


def test_stop_drains_all_workers_and_exits_with_0_after_the_last() -> None:
    desk = Desk(workers=2)
    workers = desk.start()
    desk.supervisor.stop(desk.now)
    actions = desk.plan()
    assert has(actions, CloseListeners)
    assert [action.child for action in actions if isinstance(action, Drain)] == workers
    assert RetireMold(1) in actions
    for number in (*workers, 1):
        assert desk.plan() == []
        desk.gone(number, "exited with status 0")
    assert desk.plan() == [Exit(0)]


def test_stop_with_preload_ends_both_molds() -> None:
    desk = Desk(preload=True)
    desk.start()
    desk.supervisor.stop(desk.now)
    desk.plan()
    assert {action.child for action in desk.all(RetireMold)} == {1, 2}


def test_hazard_08_a_second_stop_counts_only_after_a_second() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.supervisor.stop(desk.now)
    desk.plan()
    desk.supervisor.stop(desk.now + 0.9)
    assert desk.plan(after=0.9) == []
    desk.supervisor.stop(desk.now + 0.1)
    actions = desk.plan(after=0.1)
    assert Kill(worker) in actions
    desk.supervisor.stop(desk.now + 5)
    assert desk.plan() == []
    desk.gone(worker)
    desk.gone(1)
    assert desk.plan() == [Exit(1)]


def test_stop_kills_two_seconds_after_the_workers_own_deadline() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.supervisor.stop(desk.now)
    desk.plan()
    desk.gone(1)
    desk.now += 31.9
    assert desk.plan() == []
    assert Kill(worker) in desk.plan(after=0.1)
    desk.gone(worker)
    assert desk.plan() == [Exit(1)]


def test_a_retired_mold_that_does_not_exit_is_killed() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.supervisor.stop(desk.now)
    desk.plan()
    desk.gone(worker, "exited with status 0")
    assert desk.plan(after=5) == [Kill(1)]
    desk.gone(1)
    assert desk.plan() == [Exit(0)]


def test_nothing_is_started_while_stopping() -> None:
    desk = Desk(workers=2)
    first, second = desk.start()
    desk.supervisor.stop(desk.now)
    desk.supervisor.restart()
    desk.grow()
    desk.shrink()
    desk.gone(first)
    desk.gone(1)
    actions = desk.plan()
    assert not any(isinstance(action, SpawnWorker | SpawnMold | ForkMold) for action in actions)
    assert desk.all(Drain) == [Drain(first), Drain(second)]


def test_stop_during_the_start_ends_it_without_a_failure() -> None:
    desk = Desk(workers=1)
    desk.plan()
    desk.ready(1)
    worker = only(desk.plan(), SpawnWorker).child
    desk.born(worker)
    desk.supervisor.stop(desk.now)
    desk.plan()
    desk.gone(worker, "exited with status 0")
    desk.gone(1)
    assert desk.plan() == [Exit(0)]
    assert not desk.all(FailStart)


# A ready mold that fails.


def test_the_log_says_why_a_mold_that_was_ready_has_failed_and_the_next_attempt_waits() -> None:
    desk = Desk(workers=1)
    desk.start()
    desk.now += 3600
    desk.fail(1, "ValueError: odd", "Traceback of it")
    assert not has(desk.plan(), ForkMold)
    assert (
        "ERROR the mold (101), which forks workers, has failed: ValueError: odd; next attempt in 0.5 s\nTraceback of it"
        in desk.said()
    )
    assert has(desk.plan(0.5), ForkMold)


def test_a_mold_that_fails_while_it_is_retired_is_not_reported() -> None:
    desk = Desk(workers=1, preload=True)
    desk.start()
    desk.supervisor.restart()
    mold = only(desk.plan(), SpawnMold).child
    desk.supervisor.on_failed(2, "ValueError: odd", "", desk.now)
    desk.ready(mold)
    desk.ready(only(desk.plan(), SpawnWorker).child)
    while not desk.all(RetireMold):
        desk.plan()
    desk.gone(2, "exited with status 1")
    desk.plan()
    assert "odd" not in desk.said()


# The workers that are late.


def test_of_workers_that_hang_together_one_shows_where() -> None:
    desk = Desk(workers=3)
    desk.plan()
    desk.ready(1)
    workers = [spawn.child for spawn in desk.plan() if isinstance(spawn, SpawnWorker)]
    for worker in workers:
        desk.born(worker)
    assert only(desk.plan(after=60), DumpStacks).child == workers[0]
    actions = desk.plan(after=STACKS_SLACK)
    assert only(actions, FailStart).reason == "worker 1 (102) could not start: it was not ready within 60 s (boot_timeout)"


def test_a_late_worker_that_becomes_ready_before_it_is_killed_stays() -> None:
    desk = Desk(workers=1)
    desk.plan()
    desk.ready(1)
    worker = only(desk.plan(), SpawnWorker).child
    desk.born(worker)
    desk.plan(after=60)
    desk.supervisor.on_ready(worker, desk.now)
    assert only(desk.plan(after=STACKS_SLACK), LogReady).workers == 1
    assert not desk.all(Kill)


def test_a_worker_that_is_not_forked_in_time_costs_its_mold() -> None:
    desk = Desk(workers=1)
    (worker,) = desk.start()
    desk.now += 3600
    desk.gone(worker)
    asked = only(desk.plan(), SpawnWorker).child
    actions = desk.plan(after=60)
    assert only(actions, Kill).child == asked
    assert only(actions, DumpStacks) == DumpStacks(
        1, "the mold (101), which forks workers, is killed: it did not fork worker 1 within 60 s (boot_timeout)"
    )
    desk.gone(asked, "was cut before it existed")
    assert not has(desk.plan(after=1), SpawnWorker), "this mold gets no further orders"
    assert only(desk.plan(after=STACKS_SLACK - 1), Kill).child == 1
    desk.gone(1)
    desk.plan()
    failure = "it did not fork worker 1 within 60 s (boot_timeout)"
    said = f"the mold (101), which forks workers, has failed: {failure}; next attempt in 0.5 s"
    assert f"ERROR {said}" in desk.said()
    mold = only(desk.plan(after=0.5), ForkMold).child
    desk.ready(mold)
    assert only(desk.plan(), SpawnWorker).mold == mold


def test_a_mold_that_is_not_forked_in_time_costs_the_pristine_one() -> None:
    desk = Desk(workers=1, preload=True)
    desk.start()
    desk.supervisor.restart()
    asked = only(desk.plan(), SpawnMold).child
    actions = desk.plan(after=60)
    assert only(actions, Kill).child == asked
    assert only(actions, DumpStacks).child == 1
    desk.gone(asked, "was cut before it existed")
    desk.plan()
    assert (
        "restart given up, the old workers stay: the mold, which forks workers, could not start: it was not forked within 60 s"
        in desk.said()
    )
    assert only(desk.plan(after=STACKS_SLACK), Kill).child == 1


def test_a_start_with_a_hanging_mold_fails_with_the_reason() -> None:
    desk = Desk(workers=1)
    desk.plan()
    desk.ready(1)
    asked = only(desk.plan(), SpawnWorker).child
    actions = desk.plan(after=60)
    assert only(actions, FailStart).reason == "worker 1 could not start: it was not forked within 60 s (boot_timeout)"
    assert {action.child for action in actions if isinstance(action, Kill | DumpStacks | RetireMold)} == {asked, 1}
    assert only(desk.plan(after=STACKS_SLACK), Kill).child == 1


# The limit of draining workers.


def crowd(desk: Desk, reason: str = "its application has asked for it") -> list[int]:
    """Replace workers until there is no room; returns the draining ones."""
    for _ in range(20):
        serving = [worker.number for worker in desk.supervisor.children.workers() if worker.ready]
        for worker in serving:
            desk.supervisor.on_drain_request(worker, reason, desk.now)
        for action in desk.plan(after=0.01):
            if isinstance(action, SpawnWorker):
                desk.ready(action.child)
    return [worker.number for worker in desk.supervisor.children.workers() if worker.ending]


def test_as_many_workers_finish_as_there_are_slots_and_the_others_go_on_serving() -> None:
    desk = Desk(workers=3)
    desk.start()
    assert len(crowd(desk)) == 3
    assert len([worker for worker in desk.supervisor.children.workers() if worker.ready]) == 3
    assert len(desk.all(SpawnWorker)) == 6
    assert "replacing workers waits" not in desk.said(), "not yet: the wait may end at once"


def test_a_wait_that_lasts_is_said_once_a_minute_and_makes_the_next_one_longer() -> None:
    desk = Desk(workers=1)
    desk.start()
    (finishing,) = crowd(desk)
    for _ in range(300):
        instant = desk.supervisor.next_instant(desk.now)
        assert instant is not None, "it plans again"
        if instant > desk.now + 10:
            break
        desk.plan(after=instant - desk.now)
    said = "WARNING replacing workers waits: 1 replaced worker is still finishing requests, and no more may do so at once; let "
    assert desk.said().count(said) == 1
    desk.gone(finishing, "exited with status 0")
    assert not has(desk.plan(), SpawnWorker)
    assert not has(desk.plan(after=10), SpawnWorker)
    assert has(desk.plan(after=10), SpawnWorker)


def test_the_oldest_of_those_that_wait_is_replaced_first() -> None:
    desk = Desk(workers=3)
    desk.start()
    finishing = crowd(desk)
    oldest = min((worker for worker in desk.supervisor.children.workers() if worker.ready), key=lambda worker: worker.number)
    desk.gone(finishing[0], "exited with status 0")
    spawn = only(desk.plan(), SpawnWorker)
    assert spawn.slot == oldest.slot
    desk.ready(spawn.child)
    assert only(desk.plan(), Drain).child == oldest.number


def test_an_empty_slot_is_filled_before_a_worker_is_replaced() -> None:
    desk = Desk(workers=2)
    desk.start()
    crowd(desk)
    victim = max((worker for worker in desk.supervisor.children.workers() if worker.ready), key=lambda worker: worker.slot)
    number, slot = victim.number, victim.slot
    desk.now += 20
    desk.gone(number)
    # It takes the last room, and the others wait for it.
    assert only(desk.plan(), SpawnWorker).slot == slot


def steps(desk: Desk, *, drains_end: bool) -> None:
    """Run for a while: requested children become ready; draining workers exit at once, or never."""
    for _ in range(10):
        for action in desk.plan(after=0.01):
            if isinstance(action, SpawnWorker):
                desk.ready(action.child)
            elif isinstance(action, Drain) and drains_end:
                desk.gone(action.child, "exited with status 0")


def test_successive_restarts_wait_for_draining_workers() -> None:
    desk = Desk(workers=2)
    desk.start()
    for _ in range(5):
        desk.supervisor.restart()
        steps(desk, drains_end=False)
    workers = desk.supervisor.children.workers()
    assert (len(workers), sum(worker.ready for worker in workers)) == (4, 2)
    for worker in workers:
        if worker.ending:
            desk.gone(worker.number, "exited with status 0")
    steps(desk, drains_end=True)
    assert desk.said().splitlines()[-1] == "INFO restarted: 2 workers are new"


def test_workers_that_others_tell_to_end_do_not_pile_up_either() -> None:
    desk = Desk(workers=2)
    desk.start()
    for _ in range(10):
        desk.now += 2
        for worker in [worker.number for worker in desk.supervisor.children.workers() if worker.ready]:
            desk.supervisor.on_draining(worker, desk.now)
        for action in desk.plan():
            if isinstance(action, SpawnWorker):
                desk.ready(action.child)
    assert len(desk.supervisor.children.workers()) == 4
    desk.gone(desk.supervisor.children.workers()[0].number, "exited with status 0")
    assert len([action for action in desk.plan() if isinstance(action, SpawnWorker)]) == 1


def test_fewer_slots_leave_no_less_room_while_workers_of_before_finish() -> None:
    desk = Desk(workers=4)
    desk.start()
    for _ in range(3):
        desk.shrink()
    desk.plan()
    (left,) = (worker.number for worker in desk.supervisor.children.workers() if worker.ready)
    desk.now += 20
    desk.gone(left)
    assert has(desk.plan(), SpawnWorker)
