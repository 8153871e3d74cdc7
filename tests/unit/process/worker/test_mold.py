"""starman.process.worker.mold: a process with threads is never forked. Functional tests run real molds."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.process.worker import mold as module


class Failing:
    """A service with a rehearsal that fails."""

    @classmethod
    def rehearse(cls, settings: Settings) -> None:
        raise ValueError("the machine is too busy")


class Fine:
    @classmethod
    def rehearse(cls, settings: Settings) -> None:
        pass


@pytest.mark.parametrize("service", [Failing, Fine])
def test_threads_that_a_rehearsal_leaves_end_the_mold(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    with pytest.raises(RuntimeError, match="have not ended"):
        module._rehearse(service, Settings.of())


def test_a_rehearsal_that_fails_costs_memory_only(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    module._rehearse(Failing, Settings.of())  # type: ignore[arg-type]
    assert "too busy" in capfd.readouterr().err
