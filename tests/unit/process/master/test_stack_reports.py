"""starman.process.master.stack_reports: each dump is one entry of the error log."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from starman.process.channel import Channel
from starman.process.forking import FORCED_STACKS, STACKS
from starman.process.master.link import Link
from starman.process.master.stack_pipe import FORCE_SECONDS, open_pipe
from starman.process.master.stack_reports import COLLECT_SECONDS, StackReports


def dump(thread: int, path: str) -> bytes:
    """The stack of one thread, as `faulthandler` writes it."""
    return f'Thread 0x{thread:016x} (most recent call first):\n  File "{path}", line 7 in function\n'.encode()


def test_a_dump_is_logged_as_one_entry_when_nothing_more_comes(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = Channel.pair()
    link = Link(1, ours)
    link.slot, link.pid = 3, 4712
    link.stacks, writing = open_pipe()
    reports = StackReports([link], lambda link, now: f" while serving GET /{link.number}", lambda number, signum: None)
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


class Requested:
    """A link with a pipe, and the signals that were sent to its child."""

    def __init__(self) -> None:
        self._ours, self._theirs = Channel.pair()
        self.link = Link(7, self._ours)
        self.link.stacks, self.writing = open_pipe()
        self.sent: list[tuple[int, int]] = []
        self.reports = StackReports([self.link], lambda link, now: "", lambda number, signum: self.sent.append((number, signum)))
        self.now = time.monotonic()

    def write(self) -> None:
        os.write(self.writing, dump(1, "/srv/app.py"))
        assert self.link.stacks is not None
        self.link.stacks.read()

    def close(self) -> None:
        assert self.link.stacks is not None
        self.link.stacks.close()
        os.close(self.writing)
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def requested() -> Iterator[Requested]:
    made = Requested()
    yield made
    made.close()


def test_a_child_that_writes_nothing_is_forced_once(requested: Requested) -> None:
    requested.reports.request(requested.link, requested.now)
    assert requested.sent == [(7, STACKS)]
    assert requested.reports.next_instants() == [requested.now + FORCE_SECONDS]
    requested.reports.log_finished(requested.now + FORCE_SECONDS - 0.01)
    assert requested.sent == [(7, STACKS)]
    for _ in range(2):
        requested.reports.log_finished(requested.now + FORCE_SECONDS)
    assert requested.sent == [(7, STACKS), (7, FORCED_STACKS)]
    assert requested.reports.next_instants() == []


def test_a_child_that_writes_is_not_forced(requested: Requested, capfd: pytest.CaptureFixture[str]) -> None:
    requested.reports.request(requested.link, requested.now)
    requested.write()
    # Late: the master was busy meanwhile.
    requested.reports.log_finished(requested.now + 60)
    assert "app.py" in capfd.readouterr().err
    requested.reports.log_finished(requested.now + 120)
    assert requested.sent == [(7, STACKS)]
    assert requested.reports.next_instants() == []


def test_a_child_that_has_ended_is_not_forced(requested: Requested) -> None:
    requested.reports.request(requested.link, requested.now)
    requested.reports.log_last(requested.link, requested.now)
    requested.reports.log_finished(requested.now + 60)
    assert requested.sent == [(7, STACKS)]
    assert requested.reports.next_instants() == []


def test_a_child_without_a_pipe_is_not_forced(requested: Requested) -> None:
    assert requested.link.stacks is not None
    requested.link.stacks.close()
    requested.reports.request(requested.link, requested.now)
    requested.reports.log_finished(requested.now + 60)
    assert requested.sent == [(7, STACKS)]
    assert requested.reports.next_instants() == []


def test_a_collection_gives_the_stacks_and_logs_nothing(requested: Requested, capfd: pytest.CaptureFixture[str]) -> None:
    requested.link.pid, requested.link.slot = 4711, 2
    requested.reports.collect(requested.now, force=False)
    requested.reports.collect(requested.now, force=False)
    assert requested.sent == [(7, STACKS)]
    assert requested.reports.take_collected(requested.now) is None
    requested.write()
    assert requested.link.stacks is not None
    requested.reports.log_finished(requested.link.stacks.due or 0)
    ((title, slot, pid, text),) = requested.reports.take_collected(requested.now) or []
    assert (title, slot, pid) == ("worker 2 (4711)", 2, 4711)
    assert text == dump(1, "/srv/app.py").decode()
    assert requested.reports.take_collected(requested.now) is None
    assert capfd.readouterr().err == ""


def test_a_collection_does_not_wait_for_a_silent_child(requested: Requested, capfd: pytest.CaptureFixture[str]) -> None:
    requested.link.pid = 4711
    requested.reports.collect(requested.now, force=False)
    (until,) = requested.reports.next_instants()
    assert until == requested.now + COLLECT_SECONDS
    requested.reports.log_finished(until)
    collected = requested.reports.take_collected(until)
    assert collected is not None
    assert [text for *_, text in collected] == [None]
    assert requested.sent == [(7, STACKS)], "not forced"
    # What comes too late is dropped, but a crash is logged.
    requested.write()
    requested.reports.log_finished(requested.now + 60)
    assert capfd.readouterr().err == ""
    os.write(requested.writing, b"Fatal Python error: Aborted\n")
    requested.reports.log_last(requested.link, requested.now)
    assert "Fatal Python error: Aborted" in capfd.readouterr().err


def test_a_collection_forces_only_if_it_is_told_to(requested: Requested) -> None:
    requested.link.pid = 4711
    requested.reports.collect(requested.now, force=True)
    requested.reports.log_finished(requested.now + FORCE_SECONDS)
    assert requested.sent == [(7, STACKS), (7, FORCED_STACKS)]
