"""starman.application_environment: the environment variables that an application is to have."""

from __future__ import annotations

import os

import pytest

from starman import application_environment
from starman.application_environment import apply_variables, environment_at_start, replace_environment
from starman.config.settings import Settings


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application_environment, "_at_start", None)
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("COLOUR", "red")


def test_variables_are_removed_then_set() -> None:
    before = dict(os.environ)
    try:
        apply_variables(Settings.of(unset_env=["SECRET", "COLOUR", "NOTHING"], env=["COLOUR=blue", "EMPTY="]))
        assert "SECRET" not in os.environ
        assert (os.environ["COLOUR"], os.environ["EMPTY"]) == ("blue", "")
        apply_variables(Settings.of(env=["COLOUR=green"]))
        assert environment_at_start() == before
    finally:
        replace_environment(before)
    assert dict(os.environ) == before


def test_without_settings_nothing_is_kept() -> None:
    apply_variables(Settings.of())
    assert application_environment._at_start is None
    assert environment_at_start() == dict(os.environ)
