"""starman.process.supervision.failed_starts, with a supervisor on a fake clock: children that die before they are
ready."""

from __future__ import annotations

import pytest

from starman.process.supervision.actions import (
    CloseListeners,
    Drain,
    DumpStacks,
    Exit,
    FailStart,
    Kill,
    Level,
    LogLine,
    RetireMold,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.watchdog import STACKS_SLACK
from tests.unit.process.supervision.desk import Desk, has, only


def test_start_fails_once_with_the_reason_of_the_first_failure() -> None:
    desk = Desk(workers=2)
    desk.plan()
    desk.ready(1)
    first, second = (action.child for action in desk.plan() if isinstance(action, SpawnWorker))
    for number in (first, second):
        desk.born(number)
        desk.supervisor.on_failed(number, "cannot import 'app'", "Traceback...", desk.now)
    actions = desk.plan()
    assert only(actions, FailStart) == FailStart("cannot import 'app'", "Traceback...")
    assert {Drain(first), Drain(second)} <= set(actions)
    assert has(actions, RetireMold)
    assert has(actions, CloseListeners)
    for number in (first, second, 1):
        desk.gone(number, "exited with status 1")
    assert desk.plan() == [Exit(1)]
    assert len(desk.all(FailStart)) == 1


@pytest.mark.parametrize("preload", [False, True])
def test_start_fails_when_a_mold_dies(preload: bool) -> None:
    desk = Desk(preload=preload)
    desk.plan()
    if preload:
        desk.ready(1)
        desk.plan()
    desk.gone(desk.history[-1].child)  # type: ignore[attr-defined]
    assert "was killed by SIGKILL before it was ready" in only(desk.plan(), FailStart).reason


def test_start_fails_when_a_worker_that_was_ready_dies_before_the_others_are() -> None:
    desk = Desk(workers=2)
    desk.plan()
    desk.ready(1)
    desk.plan()
    desk.ready(2)
    desk.gone(2)
    assert only(desk.plan(), FailStart).reason == "worker 1 (102) was killed by SIGKILL"


def test_start_fails_when_a_worker_is_not_ready_in_time() -> None:
    desk = Desk(workers=1)
    desk.plan()
    desk.ready(1)
    worker = only(desk.plan(), SpawnWorker).child
    desk.born(worker)
    assert desk.supervisor.next_instant(desk.now) == desk.now + 60
    assert desk.plan(after=60) == [DumpStacks(worker, "worker 1 (102) is killed: it was not ready within 60 s (boot_timeout)")]
    actions = desk.plan(after=STACKS_SLACK)
    assert only(actions, FailStart).reason == "worker 1 (102) could not start: it was not ready within 60 s (boot_timeout)"
    assert Kill(worker) in actions


def test_deaths_at_boot_back_off_exponentially_to_a_minute() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.now += 100
    desk.gone(worker)
    worker = only(desk.plan(), SpawnWorker).child
    waits = []
    for _ in range(10):
        desk.now += 0.01
        desk.born(worker)
        desk.fail(worker, "broken")
        assert not has(desk.plan(), SpawnWorker)
        instant = desk.supervisor.next_instant(desk.now)
        assert instant is not None
        assert not has(desk.plan(after=instant - desk.now - 0.001), SpawnWorker)
        waits.append(round(instant - desk.now + 0.001, 3))
        desk.now = instant
        worker = only(desk.plan(), SpawnWorker).child
    waits = [round(later, 1) for later in waits]
    assert [say.text.splitlines()[0].rpartition(" in ")[2] for say in desk.all(LogLine) if say.level is Level.ERROR] == [
        "0.5 s", "1.0 s", "2.0 s", "4.0 s", "8.0 s", "16.0 s", "32.0 s", "60.0 s", "60.0 s", "60.0 s",
    ]  # fmt: skip


def test_while_workers_fail_only_one_tries_at_a_time_and_details_come_once() -> None:
    desk = Desk(workers=8)
    workers = desk.start()
    desk.now += 100
    for worker in workers:
        desk.gone(worker)
    workers = [action.child for action in desk.plan() if isinstance(action, SpawnWorker)]
    assert len(workers) == 8
    for worker in workers:
        desk.born(worker)
        desk.fail(worker, "broken")
    assert not has(desk.plan(), SpawnWorker)
    probe = only(desk.plan(after=0.5), SpawnWorker).child
    assert desk.said().count("Traceback...") == 1
    assert not has(desk.plan(after=10), SpawnWorker)
    desk.ready(probe)
    assert len([action for action in desk.plan() if isinstance(action, SpawnWorker)]) == 7


def test_the_backoff_ends_when_a_worker_of_the_code_has_survived() -> None:
    desk = Desk(workers=2)
    first, second = desk.start()
    for _ in range(3):
        # It dies less than a second after it was ready: counted as a failed boot.
        desk.gone(second)
        desk.plan()
        desk.now = desk.supervisor.next_instant(desk.now) or pytest.fail("no instant")
        second = only(desk.plan(), SpawnWorker).child
        desk.ready(second)
    assert "next attempt in 2.0 s" in desk.said()
    desk.now += 10
    desk.gone(first)
    first = only(desk.plan(), SpawnWorker).child
    desk.born(first)
    desk.gone(first, "exited with status 1")
    desk.plan()
    assert desk.all(LogLine)[-1].text.endswith("exited with status 1 before it was ready; next attempt in 0.5 s")


def test_a_worker_not_ready_in_time_is_killed_and_counts_as_a_failed_boot() -> None:
    desk = Desk(workers=1)
    worker = desk.start()[0]
    desk.now += 100
    desk.gone(worker)
    worker = only(desk.plan(), SpawnWorker).child
    desk.born(worker)
    assert only(desk.plan(after=60), DumpStacks).child == worker
    assert desk.plan(after=STACKS_SLACK) == [Kill(worker)]
    desk.gone(worker)
    assert (
        "could not start: it was not ready within 60 s (boot_timeout); next attempt in 0.5 s" in only(desk.plan(), LogLine).text
    )


def test_a_mold_that_cannot_load_any_more_backs_off_and_workers_stay() -> None:
    desk = Desk(preload=True)
    desk.start()
    desk.now += 100
    desk.gone(2)
    for wait in (0.5, 1.0, 2.0):
        mold = only(desk.plan(), SpawnMold).child
        desk.born(mold)
        desk.fail(mold, "broken")
        assert f"could not start: broken; next attempt in {wait} s" in only(desk.plan(), LogLine).text
        assert not has(desk.plan(after=wait - 0.01), SpawnMold)
        desk.now += 0.01
    assert not desk.all(Drain)
