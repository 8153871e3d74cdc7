"""starman.serving.executors.pool: threads that survive whatever an exchange does, are fair, and leave nothing in the
queue.

The loop is by hand here (`Loop.run_all`). All interleavings are in test_pool_interleavings, a real loop is in
test_pool_load.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from starman.serving.executors.interruption import raise_in_thread
from starman.serving.executors.pool import Pool
from starman.serving.executors.queued_request import EXPIRED
from starman.serving.executors.schedule import SLICE, Mode, Schedule, Verdict
from tests.unit.serving.fakes import SECONDS, FakeHead, FakeLoop


class FakeExchange:
    """Runs `action`, tells its name to `done`, and gives the next of its connection."""

    head = FakeHead()
    queued_at = 0.0
    status_code = 200
    is_counted = True
    time_limit = 0.0
    ends = False
    is_interrupted = False

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

    def abandon(self, error: BaseException) -> None:
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


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture(params=[True, False], ids=["turns", "no turns"])
def takes_turns(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


Make = Callable[..., Pool]


@pytest.fixture
def make(loop: FakeLoop, takes_turns: bool) -> Iterator[Make]:
    """Makes pools of that many threads, and stops them."""
    pools: list[Pool] = []

    def make(size: int, kind: type[Pool] = Pool) -> Pool:
        pools.append(kind(size, loop, takes_turns=takes_turns))  # type: ignore[arg-type]
        return pools[-1]

    yield make
    for pool in pools:
        pool.stop()


def put(pool: Pool, *exchanges: Any) -> None:
    """As after a poll of the loop that brought all of them; the loop then does what it does, and comes back."""
    for exchange in exchanges:
        pool.put(exchange)
    pool._loop.run_all()  # type: ignore[attr-defined]


def raiser(error: BaseException) -> Any:
    def action() -> None:
        raise error

    return action


def wait_until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.0005)


only_turns = pytest.mark.parametrize("takes_turns", [True], ids=["turns"], indirect=True)
no_turns = pytest.mark.parametrize("takes_turns", [False], ids=["no turns"], indirect=True)


@pytest.mark.parametrize("error", [RuntimeError("defect"), SystemExit(1), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_a_defect_costs_no_thread(error: BaseException, make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    put(pool, FakeExchange(done, "bad", raiser(error)))
    assert done.get(timeout=SECONDS) == ("abandoned", "bad")
    put(pool, FakeExchange(done, "good"))
    assert done.get(timeout=SECONDS) == "good"


def test_a_defect_in_a_later_exchange_of_a_client(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    bad = FakeExchange(done, "bad", raiser(RuntimeError("defect")))
    put(pool, FakeExchange(done, "first", None, bad))
    assert [done.get(timeout=SECONDS) for _ in range(2)] == ["first", ("abandoned", "bad")]


@no_turns
def test_after_16_in_a_row_others_have_their_turn(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    put(pool, chain(done, "long", 40), chain(done, "short", 1))
    pool.start()
    order = [done.get(timeout=SECONDS) for _ in range(41)]
    assert order[16] == ("short", 0)
    assert [number for name, number in order if name == "long"] == list(range(40))


def test_exactly_16_in_a_row_put_nothing_back(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    put(pool, chain(done, "long", 16))
    assert [done.get(timeout=SECONDS)[1] for _ in range(16)] == list(range(16))
    put(pool, FakeExchange(done, "next"))
    assert done.get(timeout=SECONDS) == "next"


def test_a_long_row_is_in_order_whichever_thread_runs_it(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(3)
    pool.start()
    put(pool, chain(done, "long", 200), *(chain(done, f"short {number}", 1) for number in range(20)))
    order = [done.get(timeout=SECONDS) for _ in range(220)]
    assert [number for name, number in order if name == "long"] == list(range(200))


@only_turns
def test_in_the_middle_of_a_row_the_loop_has_its_turn(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()

    def ask() -> None:  # as _park does
        pool._asked = True

    pool._queue.append(chain(done, "row", 3, ask))  # type: ignore[arg-type]
    for number in range(3):
        pool._wake()
        assert done.get(timeout=SECONDS) == ("row", number)
        wait_until(lambda: pool._idle)
        assert done.empty()


def test_the_threads_are_daemons_with_names(make: Make) -> None:
    before = set(threading.enumerate())
    pool = make(3)
    pool.start()
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {"starman-1", "starman-2", "starman-3"}
    assert all(thread.daemon for thread in threads)
    pool.stop()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def test_all_threads_work_at_once(make: Make, done: SimpleQueue[Any]) -> None:
    barrier = threading.Barrier(4, timeout=SECONDS)
    pool = make(4)
    pool.start()
    put(pool, *(FakeExchange(done, number, barrier.wait) for number in range(4)))
    assert sorted(done.get(timeout=SECONDS) for _ in range(4)) == [0, 1, 2, 3]


def test_threads_are_found_for_those_that_come_one_after_the_other(make: Make, done: SimpleQueue[Any]) -> None:
    barrier = threading.Barrier(4, timeout=SECONDS)
    pool = make(4)
    pool.start()
    for number in range(4):
        put(pool, FakeExchange(done, number, barrier.wait))
    assert sorted(done.get(timeout=SECONDS) for _ in range(4)) == [0, 1, 2, 3]


def test_stop_lets_what_is_queued_finish(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(2)
    for number in range(20):
        pool.put(FakeExchange(done, number))  # type: ignore[arg-type]
    pool.start()
    pool.stop()
    assert sorted(done.get(timeout=SECONDS) for _ in range(20)) == list(range(20))


def test_what_is_queued_just_before_a_stop_is_run(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)

    class Racing(deque[Any]):
        """The loop queues an exchange and stops, in the moment in which the thread has found nothing."""

        def popleft(self) -> Any:
            try:
                return super().popleft()
            except IndexError:
                if not pool._stopped:
                    pool.put(FakeExchange(done, "late"))  # type: ignore[arg-type]
                    pool.stop()
                raise

    pool._queue = Racing()
    pool.start()
    pool._wake()
    assert done.get(timeout=SECONDS) == "late"


def test_busy_while_an_exchange_waits_or_runs(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    assert not pool.busy
    gate, running = threading.Event(), threading.Event()

    def action() -> None:
        running.set()
        assert gate.wait(SECONDS)

    pool.put(FakeExchange(done, "x", action))  # type: ignore[arg-type]
    assert pool.busy
    pool.start()
    put(pool)
    assert running.wait(SECONDS)
    assert pool.busy
    gate.set()
    assert done.get(timeout=SECONDS) == "x"
    wait_until(lambda: not pool.busy)


def test_a_thread_notes_what_it_runs_as_long_as_it_runs(loop: FakeLoop, done: SimpleQueue[Any], takes_turns: bool) -> None:
    notes: list[tuple[float, bytes, bytes]] = []
    busy = memoryview(bytearray(b"\x01" + bytes(8)))
    seen: list[int] = []

    def line(thread: int) -> Any:
        return (lambda *note: notes.append(note), busy) if thread == 0 else None

    def look() -> None:
        seen.append(busy[0])

    pool = Pool(1, loop, takes_turns=takes_turns, recorder_of=line)  # type: ignore[arg-type]
    pool.start()
    put(pool, FakeExchange(done, "a", look, FakeExchange(done, "b")))
    assert [done.get(timeout=SECONDS) for _ in range(2)] == ["a", "b"]
    wait_until(lambda: not pool.busy)
    assert notes == [(0.0, b"GET", b"/")] * 2
    assert (seen, busy[0], pool.awake) == ([1], 0, 0)
    pool.stop()


# Turns


@only_turns
def test_the_loop_waits_until_the_queue_is_empty(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(2)
    pool.start()
    pool._schedule = Patient()
    put(pool, *(FakeExchange(done, number) for number in range(50)))
    assert [done.get_nowait() for _ in range(50)] == list(range(50)), "one thread, in order, and the loop waited"


@only_turns
def test_when_all_threads_are_blocked_the_loop_rests(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(2)
    pool.start()
    gate = threading.Event()
    put(pool, *(FakeExchange(done, number, gate.wait) for number in range(2)))
    wait_until(lambda: not pool._queue)
    pool._schedule = Schedule()  # the time of the pool is over
    pool.put(FakeExchange(done, 2))  # type: ignore[arg-type]
    turns = 0
    while pool._loop.run_one():  # type: ignore[attr-defined]
        turns += 1
        assert turns < 10
    gate.set()
    assert sorted(done.get(timeout=SECONDS) for _ in range(3)) == [0, 1, 2]


@only_turns
def test_a_thread_that_is_done_before_the_loop_waits_is_no_blocked_one(make: Make, done: SimpleQueue[Any]) -> None:
    class Quick(Pool):
        __slots__ = ()

        def _wake(self) -> bool:
            woken = super()._wake()
            if woken and not self._stopped:
                wait_until(lambda: self._idle)
            return woken

    pool = make(1, Quick)
    pool.start()
    put(pool, FakeExchange(done, "x"))
    assert done.get(timeout=SECONDS) == "x"
    assert pool._schedule.mode(time.monotonic()) is Mode.TURNS


@only_turns
def test_hazard_9_a_turn_waits_for_the_first_request_of_a_connection_that_was_accepted(
    make: Make, done: SimpleQueue[Any]
) -> None:
    pool = make(1)
    pool.start()
    pool._schedule = Patient()
    pool.put(FakeExchange(done, "kept"))  # type: ignore[arg-type]
    pool.welcome()
    for _ in range(2):  # it is made, and read from
        pool._loop.run_one()  # type: ignore[attr-defined]
        assert done.empty()
    put(pool, FakeExchange(done, "new"))
    assert [done.get_nowait() for _ in range(2)] == ["kept", "new"]


@only_turns
def test_hazard_9_arrivals_put_a_turn_off_three_times_at_most(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    pool._schedule = Patient()
    for number in range(2):
        pool.put(FakeExchange(done, number))  # type: ignore[arg-type]
        polls = 0
        while done.empty():
            pool.welcome()
            assert pool._loop.run_one()  # type: ignore[attr-defined]
            polls += 1
        assert (done.get_nowait(), polls) == (number, 4)


@only_turns
def test_hazard_10_what_was_posted_before_the_park_keeps_from_parking(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    pool._schedule = Patient()
    called = threading.Event()
    pool.put(FakeExchange(done, "streams", lambda: called.wait(SECONDS)))  # type: ignore[arg-type]
    pool._loop.run_one()  # type: ignore[attr-defined]  # the turn comes next
    pool.post(called.set)
    pool._loop.run_all()  # type: ignore[attr-defined]
    assert done.get(timeout=SECONDS) == "streams"


@only_turns
def test_hazard_10_a_post_ends_the_park(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    pool._schedule = Patient()
    called = threading.Event()

    def stream() -> None:
        pool.post(called.set)
        called.wait(SECONDS)

    put(pool, FakeExchange(done, "streams", stream))
    assert done.get(timeout=SECONDS) == "streams"


@only_turns
def test_an_error_of_a_signal_handler_ends_the_park_and_no_more(make: Make, done: SimpleQueue[Any]) -> None:
    """An application may have registered one that raises, and the loop's thread is the main one."""

    class Interrupted(Schedule):
        __slots__ = ()

        def after_slice(self, ended_at: float, computed: float, now: float) -> Verdict:
            pool._asked = True
            raise TimeoutError

    pool = make(2)
    pool.start()
    pool._schedule = Interrupted()
    gate = threading.Event()
    with pytest.raises(TimeoutError):
        put(pool, FakeExchange(done, 0, gate.wait), FakeExchange(done, 1))
    pool._schedule = Schedule()
    pool._loop.run_all()  # type: ignore[attr-defined]
    assert done.get(timeout=SECONDS) == 1
    gate.set()
    assert done.get(timeout=SECONDS) == 0


@only_turns
def test_the_loop_gets_its_turn_while_there_is_work(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(2)
    pool.start()
    seen: list[int] = []

    def look() -> None:
        seen.append(done.qsize())
        if done.qsize() < 100:
            pool._loop.call_soon(look)

    pool._loop.call_soon(look)
    put(pool, *(FakeExchange(done, number, lambda: time.sleep(SLICE / 4)) for number in range(100)))
    assert sorted(done.get_nowait() for _ in range(100)) == list(range(100))
    assert any(0 < count < 100 for count in seen)


class Patient(Schedule):
    """Never finds that a thread is blocked, so a thread that waits for the loop waits for ever."""

    __slots__ = ()

    def after_slice(self, ended_at: float, computed: float, now: float) -> Verdict:
        assert now < self._parked_at + SECONDS
        return Verdict.WAIT


class HangingExchange(FakeExchange):
    """Hangs until `go` has an item. The test sets its `time_limit` and `ends`, as the loop does at a deadline."""

    def __init__(self, done: SimpleQueue[Any], name: Any) -> None:
        self.began: SimpleQueue[None] = SimpleQueue()
        self.go: SimpleQueue[None] = SimpleQueue()
        super().__init__(done, name, self.hang)

    def hang(self) -> None:
        self.began.put(None)
        self.go.get(timeout=SECONDS)


def lose(pool: Pool, done: SimpleQueue[Any], name: str = "late") -> HangingExchange:
    """Put an exchange that hangs, and have it expire."""
    exchange = HangingExchange(done, name)
    put(pool, exchange)
    exchange.began.get(timeout=SECONDS)
    ((ident, running),) = [each for each in pool.running() if each[1] is exchange]  # type: ignore[comparison-overlap]
    exchange.time_limit = EXPIRED
    pool.lose(ident, running)
    return exchange


def test_a_spare_takes_the_place_of_a_lost_thread(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    late = lose(pool, done)
    assert len(pool.lost_threads.threads) == 1
    put(pool, FakeExchange(done, "next"))
    assert done.get(timeout=SECONDS) == "next"
    wait_until(lambda: not pool.busy)  # the lost thread does not count
    late.go.put(None)
    assert done.get(timeout=SECONDS) == "late"
    wait_until(lambda: len(pool.lost_threads.threads) == 0 and len(pool._threads) == 1)
    for number in range(3):
        put(pool, FakeExchange(done, number))
        assert done.get(timeout=SECONDS) == number
    assert pool.all_finished == 4  # the loop counts the request that has expired


def test_a_thread_does_not_count_a_request_that_the_loop_counts(make: Make, done: SimpleQueue[Any]) -> None:
    """The loop counts a request that has expired. It may not have done so yet when the thread comes back."""
    pool = make(1)
    pool.start()
    late = lose(pool, done)
    late.is_counted = False
    late.go.put(None)
    assert done.get(timeout=SECONDS) == "late"
    wait_until(lambda: len(pool.lost_threads.threads) == 0)
    assert not late.is_counted
    assert pool.all_finished == 0


def test_a_thread_that_comes_back_waits_for_the_loop(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    late = HangingExchange(done, "late")
    put(pool, late)
    late.began.get(timeout=SECONDS)
    late.ends, late.time_limit = True, EXPIRED
    late.go.put(None)
    assert done.get(timeout=SECONDS) == "late"
    time.sleep(0.02)
    ((ident, running),) = pool.running()
    pool.lose(ident, running)
    assert (len(pool.lost_threads.threads), len(pool._threads)) == (1, 2)
    late.ends = False
    wait_until(lambda: len(pool.lost_threads.threads) == 0 and len(pool._threads) == 1)
    put(pool, FakeExchange(done, "next"))
    assert done.get(timeout=SECONDS) == "next"


def test_spares_that_cannot_be_started_are_started_later(
    make: Make, done: SimpleQueue[Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pool = make(2)
    pool.start()

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        first, second = lose(pool, done, "first"), lose(pool, done, "second")
        assert (len(pool.lost_threads.threads), len(pool._threads)) == (2, 2)
        # One comes back: no spare is missing for it.
        first.go.put(None)
        assert done.get(timeout=SECONDS) == "first"
        wait_until(lambda: len(pool.lost_threads.threads) == 1)
        pool.start_missing()
    assert capfd.readouterr().err.count("cannot start a thread in place of one whose request has timed out") == 1
    pool.start_missing()
    wait_until(lambda: len(pool._threads) == 3)
    second.go.put(None)
    assert done.get(timeout=SECONDS) == "second"
    wait_until(lambda: len(pool._threads) == 2)
    assert sorted(thread.number for thread in pool._threads) in ([0, 1], [0, 2], [1, 2])


def test_a_pool_that_stops_starts_no_spare(make: Make, done: SimpleQueue[Any]) -> None:
    pool = make(1)
    pool.start()
    late = HangingExchange(done, "late")
    put(pool, late)
    late.began.get(timeout=SECONDS)
    pool.stop()
    late.time_limit = EXPIRED
    ((ident, running),) = pool.running()
    pool.lose(ident, running)
    assert len(pool._threads) == 1
    late.go.put(None)
    assert done.get(timeout=SECONDS) == "late"
    wait_until(lambda: len(pool.lost_threads.threads) == 0)


def test_an_interruption_in_the_code_of_the_pool_reaches_no_other_request(
    make: Make, done: SimpleQueue[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    pool = make(1)
    pool.start()
    late = HangingExchange(done, "late")
    put(pool, late)
    late.began.get(timeout=SECONDS)
    ((ident, running),) = pool.running()
    late.ends, late.is_interrupted, late.time_limit = True, True, EXPIRED
    pool.lose(ident, running)
    late.go.put(None)
    assert done.get(timeout=SECONDS) == "late"
    time.sleep(0.01)  # the thread waits for the loop
    raise_in_thread(ident)
    time.sleep(0.01)
    late.ends = False
    wait_until(lambda: len(pool.lost_threads.threads) == 0 and len(pool._threads) == 1)
    assert done.get(timeout=SECONDS) == ("abandoned", "late")
    for number in range(5):
        put(pool, FakeExchange(done, number))
        assert done.get(timeout=SECONDS) == number
    assert capfd.readouterr().err == ""
