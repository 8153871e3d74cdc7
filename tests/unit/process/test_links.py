"""starman.process.links: messages to a member that does not read, and what becomes of them."""

from __future__ import annotations

import os
import selectors
from collections.abc import Iterator

import pytest

from starman.process import actions
from starman.process.births import Births
from starman.process.blueprint import Blueprint, Program
from starman.process.channel import Channel
from starman.process.door import SignalDoor
from starman.process.links import Link, Links
from starman.process.messages import Ready, Reopen, Spawn
from starman.process.scoreboard import Scoreboard
from starman.process.vigil import Vigil
from starman.revision import MOST_CHARACTERS
from starman.settings import Settings
from tests.unit.process.forked import run_forked

MOLD = 1
WORKERS = 60


class Held:
    """Links with one to a mold, whose end is `theirs`, and the births that order workers from it."""

    def __init__(self) -> None:
        self.before = descriptors()
        self.died: list[tuple[int, str]] = []
        self.door = SignalDoor()
        self.links = Links(self.door)
        self.theirs = self.links.open(MOLD)
        self.board = Scoreboard.create()
        vigil = Vigil(self.board, self.links)
        blueprint = Blueprint(Settings.of(), [], Program(lambda _: lambda *_: []))
        self.births = Births(blueprint, self.links, vigil, lambda: None, lambda *_: None, lambda *death: self.died.append(death))

    def link(self, number: int) -> Link:
        link = self.links.find(number)
        assert link is not None
        return link

    def ask_for_workers(self) -> range:
        """Order so many as no socket's buffer takes; their numbers."""
        numbers = range(MOLD + 1, MOLD + 1 + WORKERS)
        for number in numbers:
            self.births.spawn(actions.Spawn(number, number - MOLD, 2, MOLD, "x" * MOST_CHARACTERS))
        assert self.link(MOLD).unsent
        return numbers

    def heard_by_the_mold(self) -> list[tuple[object, list[int]]]:
        """All that the mold reads, while the master's loop goes on."""
        found: list[tuple[object, list[int]]] = []
        while True:
            try:
                received = self.theirs.poll()
            except BlockingIOError:
                if not self.link(MOLD).unsent:
                    return found
                self.links.wait(10)
                continue
            assert received is not None
            found.append(received)

    def close(self) -> None:
        self.theirs.close()
        self.links.close()
        self.door.close()
        self.board.close()
        assert descriptors() == self.before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.close()


def test_what_a_mold_has_no_room_for_is_sent_when_it_reads_on(held: Held) -> None:
    numbers = held.ask_for_workers()
    assert held.died == []
    found = held.heard_by_the_mold()
    assert [message.slot for message, _ in found if isinstance(message, Spawn)] == [number - MOLD for number in numbers]
    # Each with the channel of its own worker, which the master holds no longer.
    for number, (_, (fd,)) in zip(numbers, found, strict=True):
        channel = Channel.of_descriptor(fd)
        channel.send(Ready())
        channel.close()
        assert list(held.links.hear(held.link(number))) == [Ready()]
        assert held.link(number).ended_at is not None


def test_what_comes_later_is_sent_later(held: Held) -> None:
    held.ask_for_workers()
    assert held.links.send(held.link(MOLD), Reopen(), [2])
    *earlier, (last, fds) = held.heard_by_the_mold()
    assert last == Reopen()
    for _, found in [*earlier, (last, fds)]:
        os.close(found[0])
    # And room is waited for no longer: the loop would spin.
    assert held.links._poll.get_key(held.link(MOLD).channel).events == selectors.EVENT_READ


def test_hazard_07_a_fork_closes_what_waits(held: Held) -> None:
    held.ask_for_workers()

    def in_child() -> str:
        held.links.abandon()
        held.theirs.abandon()
        held.board.abandon()
        return str(descriptors() - held.before)

    # Both ends of its own pipe to the test, and the descriptor that mmap has made of the board's.
    assert run_forked(in_child) == "3"
    held.links.remove(held.link(MOLD))


def test_with_a_mold_that_never_reads_again_its_orders_end(held: Held) -> None:
    numbers = held.ask_for_workers()
    held.theirs.close()
    held.links.remove(held.link(MOLD))
    for number in numbers:
        assert list(held.links.hear(held.link(number))) == []
        assert held.link(number).ended_at is not None


def test_nothing_is_sent_to_who_is_gone(held: Held) -> None:
    held.theirs.close()
    assert not held.links.send(held.link(MOLD), Reopen())
    held.links.hang_up(held.link(MOLD))
    assert not held.links.send(held.link(MOLD), Reopen())


def test_without_a_descriptor_for_its_copy_nothing_is_kept(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held.ask_for_workers()
    kept = len(held.link(MOLD).unsent)

    def refuse(fd: int) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(os, "dup", refuse)
    assert not held.links.send(held.link(MOLD), Reopen(), [2])
    assert len(held.link(MOLD).unsent) == kept
