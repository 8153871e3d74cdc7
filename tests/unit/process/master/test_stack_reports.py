"""starman.process.master.stack_reports: each dump is one entry of the error log."""

from __future__ import annotations

import os
import time

import pytest

from starman.process.channel import Channel
from starman.process.master.links import Link
from starman.process.master.stack_pipe import open_pipe
from starman.process.master.stack_reports import StackReports


def dump(thread: int, path: str) -> bytes:
    """The stack of one thread, as `faulthandler` writes it."""
    return f'Thread 0x{thread:016x} (most recent call first):\n  File "{path}", line 7 in function\n'.encode()


def test_a_dump_is_logged_as_one_entry_when_nothing_more_comes(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Channel.pair()
    link = Link(1, ours)
    link.slot, link.pid = 3, 4712
    link.stacks, writing = open_pipe()
    reports = StackReports([link], lambda link, now: f" while serving GET /{link.number}")
    now = time.monotonic()
    os.write(writing, dump(1, "/srv/first.py"))
    assert reports.next_instants() == []
    link.stacks.read()
    (due,) = reports.next_instants()
    reports.log_finished(now)
    os.write(writing, dump(2, "/srv/second.py"))
    link.stacks.read()
    assert link.stacks.due is not None
    assert link.stacks.due >= due
    reports.log_finished(link.stacks.due)
    assert reports.next_instants() == []
    reports.log_last(link, now)
    entry = capfd.readouterr().err
    assert entry.count("[INFO] stacks of worker 3 (4712) while serving GET /1\n  Thread 0x") == 1
    assert "first.py" in entry
    assert "second.py" in entry
    assert all(line.startswith(("[", "  ")) for line in entry.splitlines())
    os.write(writing, b"Fatal Python error: Aborted\n")
    os.close(writing)
    reports.log_last(link, now)
    assert "[ERROR] stacks of worker 3 (4712) while serving GET /1\n  Fatal Python error: Aborted\n" in capfd.readouterr().err
    link.stacks.close()
    ours.close()
    theirs.close()
