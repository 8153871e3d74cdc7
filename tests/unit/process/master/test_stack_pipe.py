"""starman.process.master.stack_pipe: the pipe is bounded, and the master logs its own stacks."""

from __future__ import annotations

import errno
import os

import pytest

from starman.process.master import stack_pipe as module
from starman.process.master.stack_pipe import log_own_stacks, open_pipe


def test_a_process_that_writes_without_end_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BYTES", 10_000)
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


def test_own_stacks(capfd: pytest.CaptureFixture[str]) -> None:
    log_own_stacks("this test")
    text = capfd.readouterr().err
    assert "[INFO] stacks of this test\n" in text
    assert f'File "{__file__}"' in text


def test_own_stacks_without_a_descriptor(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """A signal handler of the master calls the function, so an exception would interrupt any place of the loop."""

    def none_is_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(module, "open_pipe", none_is_left)
    log_own_stacks("this test")
    assert "[ERROR] the stacks of this test cannot be shown: Too many open files\n" in capfd.readouterr().err
