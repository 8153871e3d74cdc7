"""starman.debugging: which forks a debugger follows."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator

import pytest

from starman.debugging import quiet_fork

entered: list[str] = []


@contextlib.contextmanager
def skip() -> Iterator[None]:
    entered.append("skip")
    yield


def entered_with(monkeypatch: pytest.MonkeyPatch, **attributes: object) -> list[str]:
    """What `quiet_fork` enters when a debugger with these attributes is loaded."""
    module = types.ModuleType("pydevd")
    for name, value in attributes.items():
        setattr(module, name, value)
    monkeypatch.setitem(sys.modules, "pydevd", module)
    entered.clear()
    with quiet_fork():
        return list(entered)


def test_a_fork_is_not_followed_without_a_client(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entered_with(monkeypatch, _is_attached=lambda: False, skip_subprocess_arg_patch=skip) == ["skip"]


def test_a_fork_is_followed_while_a_client_is_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entered_with(monkeypatch, _is_attached=lambda: True, skip_subprocess_arg_patch=skip) == []


def test_a_debugger_that_cannot_be_asked_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert entered_with(monkeypatch) == []
    assert entered_with(monkeypatch, _is_attached=lambda: False) == []


def test_nothing_is_changed_without_a_debugger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydevd", raising=False)
    with quiet_fork() as found:
        assert found is None
