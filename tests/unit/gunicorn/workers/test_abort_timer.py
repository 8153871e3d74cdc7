"""starman.gunicorn.workers.abort_timer: a worker whose loop is silent gets SIGABRT."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from starman.gunicorn.workers import abort_timer
from starman.gunicorn.workers.abort_timer import AbortTimer


@pytest.mark.parametrize("silent", [False, True])
def test_only_a_silent_loop_is_aborted(monkeypatch: pytest.MonkeyPatch, silent: bool) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(abort_timer.os, "kill", lambda pid, signum: sent.append((pid, signum)))

    async def run() -> None:
        AbortTimer(0.2).start()
        if silent:
            deadline = time.monotonic() + 20
            while not sent and time.monotonic() < deadline:
                time.sleep(0.01)
        else:
            await asyncio.sleep(1)

    asyncio.run(run())
    time.sleep(0.6)  # exit functions: the loop is not silent but has ended
    assert sent == ([(os.getpid(), signal.SIGABRT)] if silent else [])
