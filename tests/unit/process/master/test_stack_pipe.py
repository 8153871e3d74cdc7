"""starman.process.master.stack_pipe: the pipe is bounded."""

from __future__ import annotations

import os

import pytest

from starman.process.master import stack_pipe as module
from starman.process.master.stack_pipe import open_pipe


def test_a_process_that_writes_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    reader, writing = open_pipe()
    now = begun = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(20):
        os.write(writing, b"x" * 1000)
        reader.read()
        now += 0.09
    assert reader.due == begun + module._LONGEST, "although there was no pause"
    assert len(reader.take_text()) == 10_000
    os.close(writing)
    reader.close()
