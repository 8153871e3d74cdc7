"""starman.hooks: registration, order, and what happens to what a hook raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from starman import hooks
from starman.errors import HookError

REGISTER = {"before_fork": hooks.before_fork, "after_fork": hooks.after_fork}
REGISTER |= {"worker_ready": hooks.worker_ready, "worker_exit": hooks.worker_exit}
RUN = {"before_fork": hooks.run_before_fork, "after_fork": hooks.run_after_fork}
RUN |= {"worker_ready": hooks.run_worker_ready, "worker_exit": hooks.run_worker_exit}


@pytest.fixture(autouse=True)
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "_hooks", {name: [] for name in hooks.__all__})


@pytest.mark.parametrize("moment", hooks.__all__)
def test_each_moment_runs_its_own_in_order(moment: str) -> None:
    told: list[str] = []
    for name in hooks.__all__:
        for number in (1, 2, 3):
            REGISTER[name](lambda name=name, number=number: told.append(f"{name} {number}"))
    RUN[moment]()
    order = (3, 2, 1) if moment in ("before_fork", "worker_exit") else (1, 2, 3)
    assert told == [f"{moment} {number}" for number in order]


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


@pytest.mark.parametrize("moment", ["before_fork", "after_fork"])
def test_what_fails_around_the_fork_is_an_error_with_its_traceback(moment: str) -> None:
    told: list[str] = []
    REGISTER[moment](fails(told))
    with pytest.raises(HookError) as caught:
        RUN[moment]()
    assert str(caught.value).startswith(
        f"the {moment} hook tests.unit.test_hooks.fails.<locals>.close_pool failed: SystemExit: no pool"
    )
    assert "raise SystemExit" in caught.value.details
    assert "starman/hooks.py" not in caught.value.details


@pytest.mark.parametrize("moment", ["worker_ready", "worker_exit"])
def test_what_fails_later_is_logged_and_the_others_run(moment: str, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    for _ in range(2):
        REGISTER[moment](fails(told))
    RUN[moment]()
    assert told == ["ran", "ran"]
    log = capfd.readouterr().err
    assert log.count(f"the {moment} hook") == 2
    assert "raise SystemExit" in log
