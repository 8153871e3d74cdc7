"""starman.serving.pool: threads that survive whatever an exchange does, and are fair."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import Any

import pytest

from starman.serving.pool import Pool

SECONDS = 10.0


class FakeExchange:
    """Runs `action`, tells its name to `done`, and gives the next of its connection."""

    def __init__(self, done: SimpleQueue[Any], name: Any, action: Any = None, following: FakeExchange | None = None) -> None:
        self.done = done
        self.name = name
        self.action = action
        self.following = following

    def run(self) -> FakeExchange | None:
        if self.action is not None:
            self.action()
        self.done.put(self.name)
        return self.following

    def abandon(self) -> None:
        self.done.put(("abandoned", self.name))


def chain(done: SimpleQueue[Any], name: str, count: int, action: Any = None) -> FakeExchange | None:
    """`count` exchanges that wait behind each other, as those of one client do."""
    following: FakeExchange | None = None
    for number in reversed(range(count)):
        following = FakeExchange(done, (name, number), action, following)
    return following


@pytest.fixture
def done() -> SimpleQueue[Any]:
    return SimpleQueue()


def started(size: int) -> Pool:
    pool = Pool(size)
    pool.start()
    return pool


def raiser(error: BaseException) -> Any:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize("error", [RuntimeError("defect"), SystemExit(1), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_a_defect_costs_no_thread_and_is_logged(
    error: BaseException, done: SimpleQueue[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    pool = started(1)
    pool.put(FakeExchange(done, "bad", raiser(error)))  # type: ignore[arg-type]
    assert done.get(timeout=SECONDS) == ("abandoned", "bad")
    pool.put(FakeExchange(done, "good"))  # type: ignore[arg-type]
    assert done.get(timeout=SECONDS) == "good"
    assert "an exchange failed inside starman" in capfd.readouterr().err
    pool.stop()


def test_a_defect_in_a_later_exchange_of_a_client(done: SimpleQueue[Any]) -> None:
    pool = started(1)
    bad = FakeExchange(done, "bad", raiser(RuntimeError("defect")))
    pool.put(FakeExchange(done, "first", None, bad))  # type: ignore[arg-type]
    assert [done.get(timeout=SECONDS) for _ in range(2)] == ["first", ("abandoned", "bad")]
    pool.stop()


def test_after_16_in_a_row_others_have_their_turn(done: SimpleQueue[Any]) -> None:
    pool = Pool(1)
    pool.put(chain(done, "long", 40))
    pool.put(chain(done, "short", 1))
    pool.start()
    order = [done.get(timeout=SECONDS) for _ in range(41)]
    assert order[16] == ("short", 0)
    assert [number for name, number in order if name == "long"] == list(range(40))
    pool.stop()


def test_exactly_16_in_a_row_put_nothing_back(done: SimpleQueue[Any]) -> None:
    pool = Pool(1)
    pool.put(chain(done, "long", 16))
    pool.start()
    assert [done.get(timeout=SECONDS)[1] for _ in range(16)] == list(range(16))
    pool.put(FakeExchange(done, "next"))  # type: ignore[arg-type]
    assert done.get(timeout=SECONDS) == "next"
    pool.stop()


def test_the_threads_are_daemons_with_names() -> None:
    before = set(threading.enumerate())
    pool = started(3)
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {"starman-1", "starman-2", "starman-3"}
    assert all(thread.daemon for thread in threads)
    pool.stop()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_all_threads_work_at_once(done: SimpleQueue[Any]) -> None:
    barrier = threading.Barrier(4, timeout=SECONDS)
    pool = started(4)
    for number in range(4):
        pool.put(FakeExchange(done, number, barrier.wait))  # type: ignore[arg-type]
    assert sorted(done.get(timeout=SECONDS) for _ in range(4)) == [0, 1, 2, 3]
    pool.stop()


def test_stop_lets_what_is_queued_finish(done: SimpleQueue[Any]) -> None:
    pool = Pool(2)
    for number in range(20):
        pool.put(FakeExchange(done, number))  # type: ignore[arg-type]
    pool.start()
    pool.stop()
    assert sorted(done.get(timeout=SECONDS) for _ in range(20)) == list(range(20))


def test_busy_while_an_exchange_waits_or_runs(done: SimpleQueue[Any]) -> None:
    pool = Pool(1)
    assert not pool.busy
    gate, running = threading.Event(), threading.Event()

    def action() -> None:
        running.set()
        assert gate.wait(SECONDS)

    pool.put(FakeExchange(done, "x", action))  # type: ignore[arg-type]
    assert pool.busy
    before = set(threading.enumerate())
    pool.start()
    (thread,) = set(threading.enumerate()) - before
    assert running.wait(SECONDS)
    assert pool.busy
    gate.set()
    pool.stop()
    thread.join(SECONDS)
    assert not pool.busy
