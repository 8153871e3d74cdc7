"""starman.process.master.links: messages to a child that does not read, and messages from a child that lies."""

from __future__ import annotations

import array
import os
import selectors
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.long_messages import PART_CHARACTERS, TextAssembly
from starman.process.master import links as module
from starman.process.master.executor import Executor
from starman.process.master.link import MAX_SENT, Link
from starman.process.master.links import Links
from starman.process.master.scoreboard_reader import ScoreboardReader
from starman.process.master.signals import SignalQueue
from starman.process.message_base import Message
from starman.process.messages import (
    Approved,
    Draining,
    Failed,
    Loaded,
    Part,
    Ready,
    Recycle,
    Reopen,
    Role,
    Spawn,
    Spawned,
    encode,
)
from starman.process.scoreboard import Scoreboard
from starman.process.supervision import actions
from starman.process.worker.shared_imports import import_service
from starman.process.worker_spec import Program, WorkerSpec
from tests.unit.process.forked import run_forked

MOLD = 1
WORKER = 2
WORKERS = 60


class Held:
    """Links with one to a mold, and an executor that orders workers from the mold. `theirs` is the mold's end."""

    def __init__(self) -> None:
        self.before = descriptors()
        self.died: list[tuple[int, str]] = []
        self.signals = SignalQueue()
        self.links = Links(self.signals)
        self.theirs = self.links.open_link(MOLD)
        self.board = Scoreboard.create()
        reader = ScoreboardReader(self.board, self.links)
        spec = WorkerSpec(Settings.of(), [], Program(lambda _: lambda *_: []), import_service)
        spec.scoreboard = self.board
        reaper: Any = None
        self.executor = Executor(spec, self.links, reader, reaper, lambda: None, self)

    def on_spawned(self, link: Link, pid: int) -> None:
        raise AssertionError("no child is forked here")

    def on_exit(self, number: int, how: str) -> None:
        self.died.append((number, how))

    def remove_child(self, link: Link, how: str) -> None:
        raise AssertionError("no child is removed here")

    def link(self, number: int) -> Link:
        link = self.links.find_link(number)
        assert link is not None
        return link

    def ask_for_workers(self, settings: str = "x" * PART_CHARACTERS) -> range:
        """Order more workers than the socket's buffer takes. Returns their numbers."""
        numbers = range(MOLD + 1, MOLD + 1 + WORKERS)
        for number in numbers:
            self.executor.perform(actions.SpawnWorker(number, number - MOLD, 2, MOLD, settings))
        assert self.link(MOLD).unsent
        return numbers

    def read_by_the_mold(self) -> list[tuple[object, list[int]]]:
        """Everything that the mold reads while the master sends its unsent messages."""
        found: list[tuple[object, list[int]]] = []
        while True:
            try:
                received = self.theirs.receive_if_any()
            except BlockingIOError:
                if not self.link(MOLD).unsent:
                    return found
                self.links.wait_for_messages(10)
                continue
            assert received is not None
            found.append(received)

    def close(self) -> None:
        self.theirs.close()
        self.links.close()
        self.signals.close()
        self.board.close()
        assert descriptors() == self.before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.close()


def test_orders_beyond_the_buffer_are_sent_when_the_mold_reads_on(held: Held) -> None:
    numbers = held.ask_for_workers()
    assert held.died == []
    found = held.read_by_the_mold()
    assert [message.slot for message, _ in found if isinstance(message, Spawn)] == [number - MOLD for number in numbers]
    # Each order came with the channel of its own worker. The master has closed its copy.
    for number, (_, fds) in zip(numbers, found, strict=True):
        channel, (board,) = Channel.of_descriptors(fds)
        assert channel.stacks >= 0
        os.close(board)
        channel.send(Ready())
        channel.close()
        assert list(held.links.read_messages(held.link(number))) == [Ready()]
        assert held.link(number).ended_at is not None


def test_settings_too_long_for_a_packet_come_in_parts_before_each_order(held: Held) -> None:
    settings = "".join(map(str, range(PART_CHARACTERS)))
    held.ask_for_workers(settings)
    found = held.read_by_the_mold()
    assembly = TextAssembly()
    orders = 0
    for message, fds in found:
        if isinstance(message, Part):
            assembly.add_part(message)
            assert not fds
        else:
            assert isinstance(message, Spawn)
            assert assembly.resolve_text(message.settings) == settings
            orders += 1
            assert len(fds) == 3
        for fd in fds:
            os.close(fd)
    assert orders == WORKERS
    assert held.died == []


def test_messages_are_sent_in_order(held: Held) -> None:
    held.ask_for_workers()
    assert held.links.send(held.link(MOLD), Reopen(), [2])
    *earlier, (last, fds) = held.read_by_the_mold()
    assert last == Reopen()
    for _, found in [*earlier, (last, fds)]:
        for fd in found:
            os.close(fd)
    # The poll no longer waits for room: the loop would spin.
    assert held.links._poll.get_key(held.link(MOLD).channel).events == selectors.EVENT_READ


def test_hazard_07_a_fork_closes_the_descriptors_that_wait(held: Held) -> None:
    held.ask_for_workers()

    def in_child() -> str:
        held.links.abandon()
        held.theirs.abandon()
        held.board.abandon()
        return str(descriptors() - held.before)

    # Only the two ends of the child's own pipe to the test are left.
    assert run_forked(in_child) == "2"
    held.links.remove_link(held.link(MOLD))


def test_the_orders_of_a_dead_mold_end_the_channels_of_their_workers(held: Held) -> None:
    numbers = held.ask_for_workers()
    held.theirs.close()
    held.links.remove_link(held.link(MOLD))
    for number in numbers:
        assert list(held.links.read_messages(held.link(number))) == []
        assert held.link(number).ended_at is not None


def test_nothing_is_sent_over_a_closed_channel(held: Held) -> None:
    held.theirs.close()
    assert not held.links.send(held.link(MOLD), Reopen())
    held.links.close_channel(held.link(MOLD))
    assert not held.links.send(held.link(MOLD), Reopen())


def test_a_message_is_not_kept_without_a_descriptor_for_its_copy(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held.ask_for_workers()
    kept = len(held.link(MOLD).unsent)

    def refuse(fd: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    assert not held.links.send(held.link(MOLD), Reopen(), [2])
    assert len(held.link(MOLD).unsent) == kept


class Talking:
    """A link to a worker. `theirs` is the worker's end, `reports` the error log."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reports: list[str] = []
        monkeypatch.setattr(module.log, "error", self.reports.append)
        self.signals = SignalQueue()
        self.links = Links(self.signals)
        self.theirs = self.links.open_link(WORKER)
        link = self.links.find_link(WORKER)
        assert link is not None
        self.link = link

    def heard(self) -> list[Message]:
        """The messages that the master reads in one round."""
        return list(self.links.read_messages(self.link))

    def close(self) -> None:
        self.theirs.close()
        self.links.close()
        self.signals.close()


@pytest.fixture
def talking(monkeypatch: pytest.MonkeyPatch) -> Iterator[Talking]:
    made = Talking(monkeypatch)
    yield made
    made.close()


def test_the_process_id_is_the_kernels(talking: Talking) -> None:
    def in_child() -> str:
        os.getpid = lambda: 1
        talking.theirs.send_spawned()
        return os.readlink("/proc/self")

    child = int(run_forked(in_child))
    assert talking.heard() == [Spawned(child)]


@pytest.mark.parametrize(
    "message", [Loaded(), Approved("settings"), Reopen(), Spawn(Role.WORKER, 1)], ids=lambda message: type(message).__name__
)
def test_what_a_worker_has_not_to_say_is_ignored(talking: Talking, message: Message) -> None:
    talking.theirs.send(message)
    talking.theirs.send(Ready())
    assert talking.heard() == [Ready()]
    assert talking.reports == [f"ignored a message from an unknown process: this process may not send {type(message).__name__}"]


def test_what_another_process_says_is_ignored(talking: Talking) -> None:
    """For example from a child of the application that holds the channel."""
    talking.link.pid = os.getpid()

    def in_child() -> str:
        talking.theirs.send(Draining())
        return str(os.getpid())

    child = run_forked(in_child)
    talking.theirs.send(Ready())
    assert talking.heard() == [Ready()]
    reason = f"Draining comes from process {child}, which holds the channel too"
    assert talking.reports == [f"ignored a message from process {os.getpid()}: {reason}"]


def test_the_mold_may_report_that_it_cannot_fork_a_worker(talking: Talking) -> None:
    """While the worker has no process."""
    failed = Failed("cannot create a process")

    def in_child() -> str:
        talking.theirs.send(failed)
        return ""

    run_forked(in_child)
    assert talking.heard() == [failed]


RUBBISH = [
    b"",
    b"what?",
    b"\xff\xfe",
    b"Spawned",
    b"Spawned\0one",
    b"Spawned\0" + b"9" * 10_000,
    b"Spawn\0nothing\0001\0001\0",
    b"Failed\0one\0two\0three",
    b"x" * 32_768,
    b"Recycle\0" + b"x" * 40_000,
]


def test_rubbish_leaves_no_descriptor_and_one_line(talking: Talking) -> None:
    before = descriptors()
    for packet in RUBBISH:
        for fds in ([], [0], [0] * 100):
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            talking.theirs._socket.sendmsg([packet], rights)
            assert talking.heard() == []
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
    talking.theirs._socket.sendmsg([encode(Ready())], rights)
    assert talking.heard() == [], "a worker has no descriptor to give"
    assert descriptors() == before
    assert len(talking.reports) == 1
    assert len(talking.reports[0]) < 200
    talking.theirs.send(Ready())
    assert talking.heard() == [Ready()]


def test_ignored_messages_are_counted_until_the_log_reports_them(talking: Talking, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    for _ in range(3):
        talking.theirs._socket.send(b"what?")
    assert talking.heard() == []
    now += 10
    talking.theirs._socket.send(b"what?")
    assert talking.heard() == []
    line = "ignored a message from an unknown process: no message is called 'what?'"
    assert talking.reports == [line, f"{line} (2 more ignored before)"]


def test_one_process_has_no_more_than_its_turn(talking: Talking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_READ", 5)
    for _ in range(7):
        talking.theirs.send(Ready())
    assert talking.heard() == [Ready()] * 5
    assert talking.links.wait_for_messages(0) == [talking.link]
    assert talking.heard() == [Ready()] * 2


def test_a_process_that_sends_without_end_loses_its_channel(talking: Talking) -> None:
    heard = 0
    for _ in range(2 * MAX_SENT // 100):
        for _ in range(100):
            talking.theirs.send(Recycle("x"))
        heard += len(talking.heard())
    assert heard == MAX_SENT
    assert talking.link.ended_at is not None
    assert talking.reports == ["an unknown process has sent over 1000 messages in 10 s: its channel is closed"]
    assert not talking.theirs.send(Ready())


def test_reasons_of_a_worker_are_one_short_line(talking: Talking) -> None:
    talking.theirs.send(Recycle("one\n[2026-01-01] forged\r\n" + "x" * 3000))
    (message,) = talking.heard()
    assert isinstance(message, Recycle)
    assert message.reason == ("one [2026-01-01] forged " + "x" * 3000)[:500]
