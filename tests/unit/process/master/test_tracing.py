"""starman.process.master.tracing: which processes trace, from when to when, and what both ends of a socket get."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from starman.process.master import tracing as module
from starman.process.master.tracing import Tracing
from starman.process.messages import FROM_HOOKS, FROM_OBSERVER, FROM_WORKER
from starman.process.observer_messages import Trace, TraceSource

OBSERVER, MOLD, FIRST, SECOND, HOOKS = -3, 1, 2, 3, 4


class FakeLink:
    """A link to a child."""

    def __init__(self, number: int, kinds: Any, slot: int) -> None:
        self.number, self.kinds, self.slot = number, kinds, slot
        self.title = f"worker {slot}"


class FakeLinks:
    """Links to an observer, a mold, a hook process and a worker. `sent`: number, message, and a socket or None."""

    def __init__(self) -> None:
        self.links = {
            number: FakeLink(number, kinds, slot)
            for number, kinds, slot in (
                (OBSERVER, FROM_OBSERVER, 0),
                (MOLD, FROM_WORKER, 0),
                (FIRST, FROM_WORKER, 1),
                (HOOKS, FROM_HOOKS, 0),
            )
        }
        self.sent: list[tuple[int, Any, socket.socket | None]] = []

    def __iter__(self) -> Iterator[FakeLink]:
        return iter(list(self.links.values()))

    def find_link(self, number: int) -> FakeLink | None:
        return self.links.get(number)

    def send(self, link: FakeLink, message: Any, fds: Any = ()) -> bool:
        self.sent.append((link.number, message, socket.socket(fileno=os.dup(fds[0])) if fds else None))
        return True

    def take(self) -> list[tuple[int, Any, socket.socket | None]]:
        sent, self.sent = self.sent, []
        return sent

    def take_messages(self) -> list[tuple[int, Any]]:
        """As `take`, and close the sockets."""
        taken = self.take()
        for _, _, end in taken:
            if end is not None:
                end.close()
        return [(number, message) for number, message, _ in taken]


def test_a_worker_and_the_observer_get_the_ends_of_one_socket() -> None:
    links: Any = FakeLinks()
    Tracing(links, OBSERVER).follow("[1]")
    (observer, source, theirs), (worker, order, ours) = links.take()
    assert (observer, source, worker, order) == (OBSERVER, TraceSource(), FIRST, Trace("[1]"))
    assert theirs is not None
    assert ours is not None
    with theirs, ours:
        ours.send(b"a request")
        assert theirs.recv(100) == b"a request"
        ours.close()
        assert theirs.recv(100) == b""


def test_later_workers_join_until_the_end() -> None:
    links: Any = FakeLinks()
    tracing = Tracing(links, OBSERVER)
    late = links.links[SECOND] = FakeLink(SECOND, FROM_WORKER, 2)
    tracing.on_ready(late)
    tracing.follow("")
    assert links.take_messages() == []
    tracing.follow("[1]")
    links.take_messages()
    tracing.on_ready(links.links[MOLD])
    assert links.take_messages() == []
    tracing.on_ready(late)
    assert links.take_messages() == [(OBSERVER, TraceSource()), (SECOND, Trace("[1]"))]
    del links.links[OBSERVER]  # it has died
    tracing.follow("")
    assert links.take_messages() == [(FIRST, Trace("")), (SECOND, Trace(""))]
    tracing.on_ready(late)
    assert links.take_messages() == []


def test_without_descriptors_it_says_which_worker_is_not_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(24, "Too many open files")

    lines: list[str] = []
    monkeypatch.setattr(module.socket, "socketpair", fail)
    monkeypatch.setattr(module.log, "warning", lines.append)
    links: Any = FakeLinks()
    Tracing(links, OBSERVER).follow("[1]")
    assert lines == ["the requests of worker 1 are not traced: Too many open files"]
    assert links.take_messages() == []
