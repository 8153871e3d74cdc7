"""starman.hooks: registration, order, and what happens to what a hook raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from starman import hooks
from starman.errors import HookError

POINTS = (*hooks.WORKER_POINTS, *hooks.SERVER_POINTS)
# The points whose hooks make the start fail.
FAILING = {"before_fork": lambda: hooks.run_before_fork(1), "after_fork": hooks.run_after_fork, "starting": hooks.run_starting}
LAST_FIRST = ("before_fork", "request_finished", "worker_stopping", "worker_exit", "stopping", "stopped")


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_hooks", {point: [] for point in POINTS})
    monkeypatch.setattr(hooks, "_of_module", {})
    monkeypatch.setattr(hooks, "_number", [])
    monkeypatch.setattr(hooks, "_place", [])


def register(point: str, function: Callable[..., object]) -> None:
    getattr(hooks, point)(function)


def run(point: str, *arguments: object) -> None:
    if point in FAILING:
        FAILING[point]()
    else:
        hooks.run_logged(point, *arguments)


def test_every_point_is_public() -> None:
    assert {*POINTS, "EndedWorker", "worker_number", "worker_place"} == set(hooks.__all__)


@pytest.mark.parametrize("point", POINTS)
def test_each_point_runs_its_own_in_order(point: str) -> None:
    told: list[str] = []
    for name in POINTS:
        for number in (1, 2, 3):
            register(name, lambda name=name, number=number: told.append(f"{name} {number}"))
    run(point)
    order = (3, 2, 1) if point in LAST_FIRST else (1, 2, 3)
    assert told == [f"{point} {number}" for number in order]


@pytest.mark.parametrize(("point", "arguments"), [("workers_changed", (2, 3)), ("worker_lost", ("worker",))])
def test_hooks_receive_the_arguments_of_their_point(point: str, arguments: tuple[object, ...]) -> None:
    told: list[object] = []
    register(point, lambda *values: told.append(values))
    run(point, *arguments)
    assert told == [arguments]


def test_a_decorator_leaves_the_function_as_it_is() -> None:
    def function() -> int:
        return 1

    assert hooks.after_fork(function) is function
    with pytest.raises(TypeError, match="after_fork hook must be a function"):
        hooks.after_fork(3)  # type: ignore[type-var]


def fails(told: list[str]) -> Callable[[], None]:
    def close_pool() -> None:
        told.append("ran")
        raise SystemExit("no pool")

    return close_pool


@pytest.mark.parametrize("moment", FAILING)
def test_what_fails_before_the_service_is_an_error_with_its_traceback(moment: str) -> None:
    told: list[str] = []
    register(moment, fails(told))
    with pytest.raises(HookError) as caught:
        run(moment)
    assert str(caught.value).startswith(
        f"the {moment} hook tests.unit.test_hooks.fails.<locals>.close_pool failed: SystemExit: no pool"
    )
    assert "raise SystemExit" in caught.value.details
    assert "starman/hooks.py" not in caught.value.details


@pytest.mark.parametrize("moment", [point for point in POINTS if point not in FAILING])
def test_what_fails_later_is_logged_and_the_others_run(moment: str, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    for _ in range(2):
        register(moment, fails(told))
    run(moment)
    assert told == ["ran", "ran"]
    log = capfd.readouterr().err
    assert log.count(f"the {moment} hook") == 2
    assert "raise SystemExit" in log


def test_the_number_is_that_of_the_worker() -> None:
    assert hooks.worker_number() is None
    assert hooks.worker_place() is None
    hooks.set_worker(3, 5)
    assert (hooks.worker_number(), hooks.worker_place()) == (3, 5)
    hooks.set_worker(3, 0)
    assert hooks.worker_place() is None


@pytest.mark.parametrize(
    ("wait_status", "name", "status"),
    [
        (9, "SIGKILL", None),
        (3 << 8, None, 3),
        (0, None, 0),
        (None, None, None),
        (11 | 128, "SIGSEGV", None),
        (50, "signal 50", None),
    ],
)
def test_an_ended_worker_says_how(wait_status: int | None, name: str | None, status: int | None) -> None:
    worker = hooks.EndedWorker(2, 4711, wait_status, expected=False)
    assert (worker.number, worker.pid, worker.signal, worker.status, worker.expected) == (2, 4711, name, status, False)
    assert repr(worker) == f"EndedWorker(number=2, pid=4711, signal={name!r}, status={status!r}, expected=False)"


def test_only_hooks_outside_the_module_of_the_setting_are_misplaced() -> None:
    register("ready", print)
    assert hooks.misplaced_points() == ["ready"]
    hooks.note_module()
    assert hooks.misplaced_points() == []
    register("after_fork", print)
    assert hooks.misplaced_points() == []
    register("worker_lost", print)
    assert hooks.misplaced_points() == ["worker_lost"]
