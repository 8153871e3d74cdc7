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


def test_time_in_which_the_whole_process_stood_still_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread wakes up late, and leaves the sign of life to the loop, which writes another one at any moment."""
    sent: list[int] = []
    now, sleeps = [100.0], iter([0.025, 10.0, 0.025, 0.5])

    def sleep(seconds: float) -> None:
        now[0] += next(sleeps)

    class Loop:
        running = 8

        def is_running(self) -> bool:
            self.running -= 1
            return self.running > 0

    monkeypatch.setattr(abort_timer.os, "kill", lambda pid, signum: sent.append(signum))
    monkeypatch.setattr(abort_timer.time, "monotonic", lambda: now[0])
    timer = AbortTimer(0.2)
    monkeypatch.setattr(abort_timer.time, "sleep", sleep)
    alive_at = timer._alive_at
    with pytest.raises(StopIteration):  # it goes on to look
        timer._watch(Loop())  # type: ignore[arg-type]
    assert not sent
    assert timer._alive_at == alive_at
