"""starman.commands.top_view: what each key does, what is highlighted, and that any keys on any screen draw."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.commands.top_view import SORT_KEYS, Screen, TopView, Wish


def worker(number: int, **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "pid": 1000 + number,
        "state": "ready",
        "generation": 1,
        "is_replaced": False,
        "age_seconds": 100.0 - number,
        "threads_busy": 0,
        "connections": 0,
        "requests_finished": 10 * number,
        "memory": {"private": 1_000_000 * number, "rss": 5_000_000},
        "cpu_seconds": 1.0,
        "loop_silent_seconds": 0.1,
        "kernel_state": "sleeping",
        "requests": [],
        **more,
    }


def status(*workers: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "1.0",
        "python": "3.11",
        "pid": 999,
        "age_seconds": 100.0,
        "name": "app:app",
        "listeners": ["http://127.0.0.1:8000"],
        "phase": "running",
        "restarting": False,
        "workers_ready": len(workers),
        "workers_wanted": len(workers),
        "threads": 4,
        "workers": list(workers),
    }


def view(*workers: dict[str, Any]) -> TopView:
    found = TopView("number")
    found.set_status(status(*(workers or (worker(1), worker(2), worker(3)))))
    return found


def press(found: TopView, *keys: str) -> Wish | None:
    wish = None
    for key in keys:
        wish = found.on_key(key)
    return wish


def texts(found: TopView, height: int = 24) -> list[str]:
    return [text.rstrip() for text, _ in found.lines(height, 100)]


def highlighted(found: TopView, height: int = 24) -> list[str]:
    """The lines that are highlighted, without the one that names the keys."""
    return [text for text, shown in found.lines(height, 100)[:-1] if shown]


def test_the_list_and_the_chosen_worker() -> None:
    found = view()
    assert texts(found)[0] == "starman 1.0 on Python 3.11, master 999, up 1 min 40 s"
    assert found.selected == 1001
    press(found, "down", "j")
    assert found.selected == 1003
    (line,) = highlighted(found)
    assert line.startswith("3       1003  ready")
    press(found, "down", "up")
    assert found.selected == 1002
    press(found, "end")
    assert found.selected == 1003
    press(found, "home")
    assert found.selected == 1001
    assert len(texts(found, 10)) == 10
    assert texts(found)[-1].startswith("q quit")


@pytest.mark.parametrize("key", SORT_KEYS)
def test_each_sort_has_its_key(key: str) -> None:
    found = view(worker(1, threads_busy=1, connections=1, cpu_seconds=3.0), worker(2))
    press(found, key)
    assert found.sort == SORT_KEYS[key]
    assert f"sorted by {SORT_KEYS[key]}" in texts(found)
    rows = [text.split()[0] for text in texts(found) if " ready " in text and "100" in text]
    assert rows == (["2", "1"] if key in "mr" else ["1", "2"])


def test_the_choice_stays_at_its_worker_and_moves_on_when_that_has_gone() -> None:
    found = view()
    press(found, "down")
    found.set_status(status(worker(4), worker(1), worker(2)))
    assert found.selected == 1002
    found.set_status(status(worker(1), worker(3), worker(4)))
    assert found.selected == 1003
    found.set_status(status())
    assert found.selected is None
    assert press(found, "s", "enter", "down") is None
    assert texts(found)


def test_a_worker_is_opened_with_its_threads() -> None:
    running = [{"thread": 2, "request": "GET /\x1b[2J", "seconds": 75.0}]
    found = view(worker(1, requests=running, threads_busy=1), worker(2))
    assert any("running requests" in text for text in texts(found))
    press(found, "enter")
    assert found.screen is Screen.WORKER
    shown = texts(found)
    assert shown[0] == "worker 1, process 1001: ready, generation 1"
    assert "thread 2  1 min 15 s  GET /\\x1b[2J" in shown
    assert "3 threads without a request" in shown
    found.set_status(status(worker(2)))
    assert texts(found)[0].startswith("worker 2, process 1002")
    press(found, "backspace")
    assert found.screen is Screen.WORKERS


def test_stacks_of_the_chosen_worker_are_read_and_scrolled() -> None:
    found = view()
    assert press(found, "down", "s") is Wish.STACKS
    frames = [{"file": "/srv/app.py", "line": line, "function": "work"} for line in range(50)]
    thread = {"name": "thread 1", "request": {"request": "GET /x", "seconds": 2.0}, "frames": frames}
    process = {
        "pid": 1002,
        "title": "worker 2 (1002)",
        "answered": True,
        "loop_silent_seconds": 0.1,
        "threads": [thread],
        "requests": [],
        "waiting": [],
    }
    found.set_stacks([{**process, "pid": 1001}, process])
    assert found.screen is Screen.STACKS
    assert texts(found, 5)[:3] == ["worker 2 (1002)", "  thread 1: GET /x (for 2.0 s)", "    /srv/app.py:0 in work"]
    press(found, "down", "down")
    assert texts(found, 5)[0] == "    /srv/app.py:0 in work"
    press(found, "page down")
    assert texts(found, 5)[0] == "    /srv/app.py:3 in work"
    press(found, "end")
    assert texts(found, 5)[3] == "    /srv/app.py:49 in work"
    assert press(found, "s") is Wish.STACKS
    found.set_stacks([])
    assert texts(found, 5)[0] == "the worker has ended"
    press(found, "escape")
    assert found.screen is Screen.WORKERS


def test_help_status_and_quit() -> None:
    found = view()
    press(found, "?")
    assert any("Ctrl-C" in text for text in texts(found))
    press(found, "escape")
    assert press(found, "space") is Wish.STATUS
    assert press(found, "q") is Wish.QUIT


def test_long_lines_of_a_stack_are_folded() -> None:
    found = view()
    found.set_stacks([])
    assert [text for text, _ in found.lines(4, 8)][:3] == ["the work", "er has e", "nded"]


KEYS = st.sampled_from(
    [
        "up",
        "down",
        "page up",
        "page down",
        "home",
        "end",
        "enter",
        "escape",
        "backspace",
        "space",
        "s",
        "?",
        "j",
        "k",
        "x",
        *SORT_KEYS,
    ]
)


@given(st.lists(KEYS, max_size=30), st.integers(0, 40), st.lists(st.integers(1, 40), max_size=40, unique=True))
def test_any_keys_draw_as_many_lines_as_there_are(keys: list[str], height: int, numbers: list[int]) -> None:
    found = TopView("number")
    assert len(found.lines(height, 100)) == height
    found.set_status(status(*map(worker, numbers)))
    for key in keys:
        if found.on_key(key) is Wish.STACKS:
            found.set_stacks([])
        lines = found.lines(height, 100)
        assert len(lines) == height
        assert all(text.isprintable() for text, _ in lines)
    if numbers and height >= 8 and found.screen is Screen.WORKERS:
        assert len(highlighted(found, height)) == 1
