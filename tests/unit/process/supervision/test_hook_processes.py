"""starman.process.supervision.hook_processes, through the supervisor, on a fake clock."""

from __future__ import annotations

from starman.process.handover import HandedWorker
from starman.process.messages import ServerEvent, WorkerEnded, WorkersChanged
from starman.process.status import Phase
from starman.process.supervision.actions import (
    DumpStacks,
    Exit,
    FailStart,
    Kill,
    RetireHooks,
    SendEvent,
    SpawnHooks,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.hook_processes import LAST_SECONDS, MOST_EVENTS, SLOW
from starman.process.supervision.supervisor import Supervisor
from tests.unit.process.supervision.desk import Desk, terms


def hooked(workers: int = 1, *, preload: bool = False) -> Desk:
    desk = Desk(workers)
    wanted = terms(workers, preload=preload)
    wanted.hooks = True
    desk.supervisor = Supervisor(wanted)
    return desk


def started(workers: int = 1) -> tuple[Desk, int]:
    """A server that runs, with an idle hook process; and the number of that process."""
    desk = hooked(workers)
    desk.start()
    desk.plan()
    (process,) = [action.child for action in desk.all(SpawnHooks)]
    handle(desk, process)
    desk.history.clear()
    return desk, process


def handle(desk: Desk, process: int) -> None:
    """Report the event of the process as handled, and plan."""
    desk.supervisor.hooks.on_handled(process, desk.now)
    desk.plan()


def events(desk: Desk) -> list[object]:
    return [action.event for action in desk.all(SendEvent)]


def run_all(desk: Desk, process: int) -> list[object]:
    """Report each event as handled, until no more come. Returns all events so far."""
    desk.plan()
    for _ in range(2 * MOST_EVENTS):
        before = len(desk.all(SendEvent))
        handle(desk, process)
        if len(desk.all(SendEvent)) == before:
            return events(desk)
    raise AssertionError("events come for ever")


# The start.


def test_without_the_setting_there_is_no_hook_process() -> None:
    desk = Desk(2)
    desk.start()
    desk.supervisor.restart()
    desk.grow()
    desk.plan()
    assert desk.all(SpawnHooks) == []
    assert desk.all(SendEvent) == []


def test_the_application_is_loaded_after_the_starting_hooks() -> None:
    desk = hooked(preload=True)
    desk.ready(desk.plan()[0].child)  # type: ignore[attr-defined]
    desk.plan()
    (spawn,) = desk.all(SpawnHooks)
    assert spawn.starting
    assert desk.all(SpawnMold) == []
    assert desk.all(SpawnWorker) == []
    desk.ready(spawn.child)
    desk.plan()
    assert len(desk.all(SpawnMold)) == 1


def test_failing_starting_hooks_end_the_start() -> None:
    desk = hooked()
    desk.ready(desk.plan()[0].child)  # type: ignore[attr-defined]
    desk.plan()
    (spawn,) = desk.all(SpawnHooks)
    desk.born(spawn.child)
    desk.fail(spawn.child, "the starting hook x failed")
    desk.plan()
    (failure,) = desk.all(FailStart)
    assert failure.reason == "the starting hook x failed"


def test_its_death_after_the_starting_hooks_does_not_end_the_start() -> None:
    desk = hooked()
    desk.ready(desk.plan()[0].child)  # type: ignore[attr-defined]
    desk.plan()
    (spawn,) = desk.all(SpawnHooks)
    desk.ready(spawn.child)
    desk.gone(spawn.child)
    desk.plan()
    assert desk.supervisor.phase is Phase.STARTING
    assert "ERROR the hook process (102) was killed by SIGKILL; next attempt in 0.5 s" in desk.said()
    desk.plan(after=0.5)
    again = desk.all(SpawnHooks)[-1]
    assert not again.starting
    desk.born(again.child)
    desk.fail(again.child, "the module is broken")
    desk.plan()
    assert desk.all(FailStart) == []


def test_ready_comes_when_all_workers_are() -> None:
    desk = hooked(2)
    desk.start()
    desk.plan()
    assert events(desk) == [ServerEvent("ready")]


# Events.


def test_events_come_one_by_one_and_in_order() -> None:
    desk, process = started(2)
    desk.grow()
    desk.supervisor.restart()
    desk.plan()
    assert events(desk) == [WorkersChanged(2, 3)]
    desk.plan(after=1)
    assert events(desk) == [WorkersChanged(2, 3)]
    handle(desk, process)
    assert events(desk) == [WorkersChanged(2, 3), ServerEvent("reloading")]


def test_the_end_of_each_worker_is_an_event() -> None:
    desk, process = started()
    worker = next(iter(desk.supervisor.children.workers()))
    desk.supervisor.on_exit(worker.number, "was killed by SIGKILL", desk.now, 9)
    assert run_all(desk, process) == [WorkerEnded(1, worker.pid or 0, 9, expected=False)]


def test_a_worker_is_expected_to_end_after_an_order_and_with_status_0() -> None:
    for status, expected in ((0, True), (None, True), (9, False), (1 << 8, False)):
        desk, process = started()
        worker = next(iter(desk.supervisor.children.workers()))
        desk.supervisor.on_draining(worker.number, desk.now)
        desk.supervisor.on_exit(worker.number, "ended", desk.now, status)
        assert run_all(desk, process) == [WorkerEnded(1, worker.pid or 0, status, expected=expected)]


def test_a_worker_that_exits_without_an_order_is_lost_whatever_its_status() -> None:
    desk, process = started()
    worker = next(iter(desk.supervisor.children.workers()))
    desk.supervisor.on_exit(worker.number, "exited with status 0", desk.now, 0)
    assert run_all(desk, process) == [WorkerEnded(1, worker.pid or 0, 0, expected=False)]


def test_slow_hooks_are_logged_once_with_their_stacks() -> None:
    desk, process = started()
    for _ in range(3):
        desk.supervisor.restart()
    desk.plan()
    assert desk.supervisor.next_instant(desk.now) is not None
    desk.plan(after=SLOW)
    desk.plan(after=SLOW)
    (dump,) = [action for action in desk.all(DumpStacks) if action.child == process]
    assert dump.line == "the hook process (102) has run the reloading hooks for 30 s; 2 later events are waiting"


def test_too_many_waiting_events_are_dropped_and_counted() -> None:
    desk, process = started()
    for _ in range(MOST_EVENTS + 3):
        desk.supervisor.restart()
    assert len(run_all(desk, process)) == MOST_EVENTS
    assert "ERROR hooks fall behind: 1000 events wait for the hook process, and further ones are dropped" in desk.said()
    assert "WARNING 3 events for hooks were dropped" in desk.said()


# Its death, and its successor.


def test_after_its_death_later_events_are_not_lost() -> None:
    desk, process = started(2)
    desk.grow()
    desk.plan()
    desk.shrink()
    desk.now += 5
    desk.gone(process)
    desk.plan()
    assert (
        "WARNING the hook process (102) was killed by SIGKILL while it ran the workers_changed hooks; it is replaced"
        in desk.said()
    )
    successor = desk.all(SpawnHooks)[-1].child
    desk.ready(successor)
    told = run_all(desk, successor)
    assert told[:3] == [WorkersChanged(2, 3), ServerEvent("ready"), WorkersChanged(3, 2)]


def test_a_restart_replaces_the_hook_process_at_its_end() -> None:
    desk, process = started()
    desk.supervisor.restart()
    desk.plan()
    handle(desk, process)
    (spawn,) = desk.all(SpawnWorker)
    assert desk.all(SpawnHooks) == []
    desk.ready(spawn.child)
    desk.plan()
    (successor,) = [action.child for action in desk.all(SpawnHooks)]
    assert desk.all(RetireHooks) == [], "the old one runs until the new one is loaded"
    desk.ready(successor)
    desk.plan()
    assert [action.child for action in desk.all(RetireHooks)] == [process]
    desk.grow()
    desk.plan()
    assert events(desk) == [ServerEvent("reloading")], "events wait until the old one has ended"
    desk.gone(process, "exited with status 0")
    assert run_all(desk, successor) == [ServerEvent("reloading"), ServerEvent("ready"), WorkersChanged(1, 2)]
    assert "hook process" not in desk.said()


def test_a_successor_that_fails_leaves_the_old_one_in_place() -> None:
    desk, process = started()
    desk.supervisor.restart()
    desk.plan()
    handle(desk, process)
    desk.ready(desk.all(SpawnWorker)[0].child)
    desk.plan()
    successor = desk.all(SpawnHooks)[-1].child
    desk.born(successor)
    desk.fail(successor, "the module is broken")
    desk.plan()
    assert desk.all(RetireHooks) == []
    desk.grow()
    assert WorkersChanged(1, 2) in run_all(desk, process)
    assert "could not start: the module is broken; next attempt in 0.5 s" in desk.said()


def test_a_restart_without_the_setting_ends_the_hook_process() -> None:
    desk, process = started()
    desk.supervisor.restart(terms(1))
    desk.plan()
    desk.ready(desk.all(SpawnWorker)[0].child)
    desk.plan()
    assert [action.child for action in desk.all(RetireHooks)] == [process]
    desk.gone(process)
    desk.grow()
    desk.plan()
    assert desk.all(SpawnHooks) == []


def test_a_restart_can_add_the_setting() -> None:
    desk = Desk(1)
    desk.start()
    wanted = terms(1)
    wanted.hooks = True
    desk.supervisor.restart(wanted)
    desk.plan()
    desk.ready(desk.all(SpawnWorker)[-1].child)
    desk.plan()
    (spawn,) = desk.all(SpawnHooks)
    assert not spawn.starting
    desk.ready(spawn.child)
    desk.plan()
    assert events(desk) == [ServerEvent("ready")]


# The end.


def test_the_stop_waits_for_the_stopped_hooks() -> None:
    desk, process = started()
    worker = next(iter(desk.supervisor.children.workers()))
    desk.supervisor.stop(desk.now)
    desk.plan()
    assert events(desk) == [ServerEvent("stopping")]
    for child in list(desk.supervisor.children):
        if child.number != process:
            desk.supervisor.on_exit(child.number, "exited with status 0", desk.now, 0)
    told = run_all(desk, process)
    ended = WorkerEnded(1, worker.pid or 0, 0, expected=True)
    assert told == [ServerEvent("stopping"), ended, ServerEvent("stopped")]
    assert [action.child for action in desk.all(RetireHooks)] == [process]
    assert desk.all(Exit) == []
    desk.gone(process, "exited with status 0")
    desk.plan()
    assert [action.status for action in desk.all(Exit)] == [0]


def test_hooks_that_hang_at_the_end_are_killed() -> None:
    desk, process = started()
    desk.supervisor.stop(desk.now)
    desk.plan()
    for child in list(desk.supervisor.children):
        if child.number != process:
            desk.supervisor.on_exit(child.number, "exited with status 0", desk.now, 0)
    desk.plan()
    desk.plan(after=LAST_SECONDS)
    assert [action.child for action in desk.all(Kill)] == [process]
    assert "WARNING the hook process (102) has not finished the stopping hooks in time: it is killed" in desk.said()
    desk.gone(process)
    desk.plan()
    assert [action.status for action in desk.all(Exit)] == [0]
    assert "2 events for hooks were dropped at the end" in desk.said()


def test_a_hook_process_that_is_starting_is_killed_at_the_end() -> None:
    desk, process = started()
    desk.now += 5
    desk.gone(process)
    desk.plan()
    successor = desk.all(SpawnHooks)[-1].child
    desk.born(successor)
    desk.supervisor.stop(desk.now)
    desk.plan()
    for child in list(desk.supervisor.children):
        if child.number != successor:
            desk.supervisor.on_exit(child.number, "exited with status 0", desk.now, 0)
    desk.plan()
    assert [action.child for action in desk.all(Kill)] == [successor]


# An upgrade.


def test_an_upgrade_waits_for_a_hook_process_that_is_starting() -> None:
    desk, process = started()
    assert desk.supervisor.nothing_starting
    desk.now += 5
    desk.gone(process)
    desk.plan()
    assert not desk.supervisor.nothing_starting


def test_waiting_events_go_to_the_process_before_an_exec() -> None:
    desk, process = started()
    desk.grow()
    desk.plan()
    desk.supervisor.restart()
    assert desk.supervisor.hooks.flush() == [(process, ServerEvent("reloading"))]
    assert desk.supervisor.hooks.flush() == []
    handle(desk, process)
    handle(desk, process)
    desk.grow()
    assert WorkersChanged(2, 3) in run_all(desk, process), "if the exec fails, the process goes on"


def test_a_new_hook_process_starts_after_an_upgrade() -> None:
    desk = hooked()
    desk.supervisor.take_over(1, 1)
    desk.supervisor.adopt_worker(HandedWorker(4711, 9, 1, 1, desk.now, 0.0))
    desk.ready(desk.plan()[0].child)  # type: ignore[attr-defined]
    desk.plan()
    (spawn,) = desk.all(SpawnHooks)
    assert not spawn.starting
    desk.ready(spawn.child)
    desk.plan()
    assert events(desk) == [ServerEvent("ready")]
