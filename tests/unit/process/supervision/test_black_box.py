"""starman.process.supervision.black_box: what is kept of lost and replaced workers, through the supervisor."""

from __future__ import annotations

from starman.process.messages import Notice, SlowRequest
from starman.process.supervision.black_box import MOST_LOST, MOST_REPLACED, MOST_SLOW
from starman.process.supervision.report import make_report
from tests.unit.process.supervision.desk import Desk


def test_a_worker_that_is_killed_is_kept_with_what_it_was_serving() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.on_exit(first, "was killed by SIGKILL while serving GET /x (for 2.1 s)", desk.now, 9)
    (lost,) = make_report(desk.supervisor)["lost_workers"]
    assert (lost["number"], lost["at"]) == (1, desk.now)
    assert lost["how"] == "was killed by SIGKILL while serving GET /x (for 2.1 s)"
    assert make_report(desk.supervisor)["lost_count"] == 1


def test_a_worker_that_ends_in_order_is_not_lost() -> None:
    desk = Desk(workers=2)
    first, _ = desk.start()
    desk.supervisor.on_recycle(first, "it is old", desk.now)
    desk.supervisor.on_draining(first, desk.now)
    desk.supervisor.on_exit(first, "exited with status 0", desk.now, 0)
    report = make_report(desk.supervisor)
    assert report["lost_workers"] == []
    (replaced,) = report["replacements"]
    assert (replaced["number"], replaced["reason"]) == (1, "it is old")


def test_a_silent_worker_is_kept_as_replaced_and_then_as_lost() -> None:
    desk = Desk(workers=1)
    (worker,) = desk.start()
    desk.supervisor.watchdog.timeout = 5.0
    for _ in range(3):
        desk.supervisor.watchdog.check({worker: 1000.0}, desk.now)
        desk.plan(after=5.0)
    desk.supervisor.on_exit(worker, "was killed by SIGKILL", desk.now, 9)
    report = make_report(desk.supervisor)
    assert "has been silent for" in report["replacements"][0]["reason"]
    assert len(report["lost_workers"]) == 1


def test_the_lists_are_bounded_and_counts_go_on() -> None:
    desk = Desk(workers=1)
    (number,) = desk.start()
    worker = desk.supervisor.children.find_child(number)
    assert worker is not None
    box = desk.supervisor.children.black_box
    for second in range(50):
        box.on_replaced(worker, "x" * 100_000, float(second))  # type: ignore[arg-type]
        box.on_exit(worker, "y" * 100_000, float(second), 9)  # type: ignore[arg-type]
    assert (len(box.replaced), box.replaced_count) == (MOST_REPLACED, 50)
    assert (len(box.lost), box.lost_count) == (MOST_LOST, 50)
    assert box.lost[-1]["at"] == 49.0
    assert sum(len(entry["how"]) for entry in box.lost) < 30_000


def test_the_last_slow_requests_are_kept_with_their_stacks() -> None:
    desk = Desk(workers=2)
    _, second = desk.start()
    children = desk.supervisor.children
    for turn in range(MOST_SLOW + 5):
        children.keep_report(second, SlowRequest(f"GET /{turn}", 30.5, "one\ntwo", timed_out=turn % 2 == 1), float(turn))
    children.keep_report(second, Notice("something else"), 100.0)
    children.keep_report(4711, SlowRequest("GET /unknown", 1.0, ""), 100.0)
    slow = make_report(desk.supervisor)["slow_requests"]
    assert [entry["request"] for entry in slow] == [f"GET /{turn}" for turn in range(5, MOST_SLOW + 5)]
    assert slow[0]["number"] == 2
    assert (slow[0]["seconds"], slow[0]["stack"], slow[0]["timed_out"], slow[0]["at"]) == (30.5, "one\ntwo", True, 5.0)
    assert not slow[-1]["timed_out"]
