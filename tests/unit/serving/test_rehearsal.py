"""starman.serving.rehearsal: what remains after a failure. The sizes of real workers show what it saves."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.serving import rehearsal
from starman.serving.service import Service

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is none")


class Waited(threading.Thread):
    """A thread like those of the pool, which ends when it is joined."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        super().__init__(target=self.go_on.wait, daemon=True)

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self.go_on.set()
        super().join(10.0)


def test_one_that_fails_waits_for_its_threads_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = Waited()

    async def fail(*arguments: Any) -> None:
        thread.start()
        raise ValueError("the machine is too busy")

    monkeypatch.setattr(rehearsal, "_send_requests", fail)
    monkeypatch.setattr(threading, "enumerate", lambda: [threading.main_thread(), thread])
    with pytest.raises(ValueError, match="too busy"):
        rehearsal.rehearse(Service, Settings.of(threads=1))
    assert not thread.is_alive()


@pytest.mark.parametrize("logged", [True, False])
def test_the_access_log_is_rehearsed_without_its_file(logged: bool, tmp_path: Path) -> None:
    path, chosen = tmp_path / "access.log", []

    class Recorded(Service):
        def _prepare(self) -> Any:
            executor, context = super()._prepare()
            chosen.append((self._settings.access_log, self._settings.access_log_format, context.logs_details))
            return executor, context

    given = {"access_log": str(path), "access_log_format": "common", "access_log_errors": True} if logged else {}
    rehearsal.rehearse(Recorded, Settings.of(threads=1, **given))
    assert chosen == 2 * [(os.devnull, "common", True) if logged else ("off", "combined", False)]
    assert not path.exists()
    assert threading.active_count() == 1


def test_it_may_take_longer_than_a_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    answer, calls = rehearsal._application, []

    def slow(environ: Any, start_response: Any) -> Any:
        calls.append(environ)
        if len(calls) == 1:
            time.sleep(0.7)  # the service's tick takes 0.5 s
        return answer(environ, start_response)

    monkeypatch.setattr(rehearsal, "_application", slow)
    rehearsal.rehearse(Service, Settings.of(threads=1))
    assert threading.active_count() == 1
