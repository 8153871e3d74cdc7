"""starman.serving.rehearsal: what remains after a failure. The sizes of real workers show what it saves."""

from __future__ import annotations

import sys
import threading
from typing import Any

import pytest

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
        rehearsal.rehearse(Service, 1)
    assert not thread.is_alive()
