"""starman.background: closes in another thread, or at once if no thread can be started."""

from __future__ import annotations

import threading
from queue import SimpleQueue

import pytest

from starman.background import close_in_background


def test_closing_is_left_to_another_thread() -> None:
    closed: SimpleQueue[tuple[int, str]] = SimpleQueue()
    close_in_background(lambda number: closed.put((number, threading.current_thread().name)), 7)
    assert closed.get(timeout=10.0) == (7, "starman-close")


def test_where_there_can_be_no_other_thread_it_is_closed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    closed: list[int] = []
    close_in_background(closed.append, 7)
    assert closed == [7]
