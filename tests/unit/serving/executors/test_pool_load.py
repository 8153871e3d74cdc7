"""starman.serving.executors.pool on a uvloop of its own, with real threads: nothing is lost, and the loop keeps its
time.

Bounded by a second or so each.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from starman.serving.executors.pool import Pool
from tests.unit.serving.fakes import SECONDS, FakeHead

THREADS = 4
RUNS_FOR = 0.8

# How late (seconds) a timer of the loop may be: a park, a request, and the 5 ms after which a thread gives the
# interpreter up.
LATE = 0.05

# In a plain pool the loop stands behind all threads that compute, 5 ms each, whenever it has waited for anything.
LATE_IN_A_PLAIN_POOL = 0.25

# How late a thread wakes up beside another that computes: after the 5 ms in which that one has to give the interpreter
# up.
LATE_ON_AN_IDLE_MACHINE = 0.01


class Exchange:
    """Does its work, then counts itself; one in eight has a successor on its connection."""

    head = FakeHead()
    queued_at = 0.0
    status_code = 200
    is_counted = True
    time_limit = 0.0
    ends = False
    is_interrupted = False

    def __init__(self, load: Load, work: Callable[[], object], depth: int = 0) -> None:
        self.load = load
        self.work = work
        self.depth = depth
        self.name = load.name()

    def run(self) -> Exchange | None:
        self.work()
        self.load.ran[self.name] += 1
        return Exchange(self.load, self.work, self.depth - 1) if self.depth else None

    def abandon(self, error: BaseException) -> None:
        self.load.ran["abandoned"] += 1


class Load:
    """A pool under a loop that is really parked, and what its exchanges do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, takes_turns: bool) -> None:
        self.loop = loop
        self.pool = Pool(THREADS, loop, takes_turns=takes_turns)
        self.ran: Counter[object] = Counter()
        self.names = 0
        self.lock = threading.Lock()
        self.late: list[float] = []

    def name(self) -> int:
        with self.lock:
            self.names += 1
            return self.names

    def nothing(self) -> None:
        """Returns at once."""

    def compute(self) -> None:
        """Holds the interpreter for a while."""
        until = time.perf_counter() + 0.0003
        while time.perf_counter() < until:
            pass

    def block(self) -> None:
        """Waits for something else."""
        time.sleep(random.choice((0.0005, 0.002, 0.01)))

    def stream(self) -> None:
        """Waits for the loop."""
        called = threading.Event()
        self.pool.post(called.set)
        assert called.wait(SECONDS), "what was posted is not called"

    def put(self, work: Callable[[], object], depth: int = 0) -> None:
        self.pool.put(Exchange(self, work, depth))  # type: ignore[arg-type]

    async def metronome(self) -> None:
        while True:
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            self.late.append(time.monotonic() - due)

    async def finish(self) -> None:
        """Every exchange was run, once; every thread goes to sleep."""
        until = time.monotonic() + SECONDS
        while self.pool.busy:
            assert time.monotonic() < until, f"{len(self.pool._queue)} exchanges are left in the queue"
            await asyncio.sleep(0.005)
        assert self.ran == dict.fromkeys(range(1, self.names + 1), 1)


def under_load(takes_turns: bool, body: Callable[[Load], Coroutine[Any, Any, None]]) -> Load:
    async def main() -> Load:
        load = Load(asyncio.get_running_loop(), takes_turns)
        load.pool.start()
        metronome = asyncio.create_task(load.metronome())
        try:
            await asyncio.wait_for(body(load), 3 * SECONDS)
            await load.finish()
        finally:
            metronome.cancel()
            load.pool.stop()
        return load

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


class LateError(AssertionError):
    """The loop did not keep its time, or the machine was busy with something else. `times`: how often the limit fits
    into it."""

    def __init__(self, message: str, times: float) -> None:
        super().__init__(message)
        self.times = times


def most_of(late: list[float]) -> float:
    """How late nearly all of them are at most."""
    return sorted(late)[len(late) * 95 // 100]


def assert_punctual(late: list[float], limit: float = LATE) -> None:
    if most_of(late) >= limit:
        raise LateError(f"of {len(late)}, the latest by {sorted(late)[-10:]}", most_of(late) / limit)


def slowness() -> float:
    """How many times slower than an idle machine this one is now, by how late a thread wakes up beside one that
    computes."""
    over = threading.Event()

    def compute() -> None:
        while not over.is_set():
            pass

    computing = threading.Thread(target=compute)
    computing.start()
    late: list[float] = []
    until = time.monotonic() + RUNS_FOR / 2
    while time.monotonic() < until:
        due = time.monotonic() + 0.005
        time.sleep(0.005)
        late.append(time.monotonic() - due)
    over.set()
    computing.join()
    return max(1.0, most_of(late) / LATE_ON_AN_IDLE_MACHINE)


def patiently(test: Callable[..., None]) -> Callable[..., None]:
    """The machine may be busy elsewhere; a loop that parks too long is late again and again, and later than that
    explains. Other failures count at once."""

    @functools.wraps(test)
    def again(*arguments: Any, **named: Any) -> None:
        for attempts_left in range(3, -1, -1):
            try:
                return test(*arguments, **named)
            except LateError as error:
                if error.times < slowness():
                    return None
                if not attempts_left:
                    raise
        return None

    return again


@pytest.mark.parametrize("takes_turns", [True, False], ids=["turns", "no turns"])
@pytest.mark.parametrize("works", ["nothing", "compute", "block", "stream", "nothing compute block stream"])
@patiently
def test_every_exchange_is_run_once_and_the_loop_keeps_its_time(works: str, takes_turns: bool) -> None:
    async def body(load: Load) -> None:
        randomly = random.Random(works)
        chosen = [getattr(load, name) for name in works.split()]
        until = time.monotonic() + RUNS_FOR
        while time.monotonic() < until:
            for _ in range(randomly.choice((1, 1, 2, 5, 32))):
                load.put(randomly.choice(chosen), randomly.choice((0, 0, 0, 0, 0, 0, 1, 20)))
            # The next burst comes at once, while the threads are at it, or when all is done.
            await asyncio.sleep(randomly.choice((0.0, 0.0005, 0.002, 0.03)))
            while len(load.pool._queue) > 100:
                await asyncio.sleep(0.001)

    load = under_load(takes_turns, body)
    assert load.names > 100
    assert_punctual(load.late, LATE if takes_turns else LATE_IN_A_PLAIN_POOL)


@pytest.mark.parametrize("works", ["nothing", "compute", "block"])
@patiently
def test_one_client_after_the_other_is_served_without_a_wait(works: str) -> None:
    """Each exchange is put when the one before it was run: a lost wake-up would not be repaired by the next."""

    async def body(load: Load) -> None:
        work = getattr(load, works)
        until = time.monotonic() + RUNS_FOR
        while time.monotonic() < until:
            answered = asyncio.Event()

            def answer(answered: asyncio.Event = answered) -> None:
                work()
                load.pool.post(answered.set)

            load.put(answer)
            await asyncio.wait_for(answered.wait(), SECONDS)

    assert_punctual(under_load(True, body).late)


@patiently
def test_hazard_10_posts_reach_the_parked_loop() -> None:
    """Threads of others post, too, while the pool computes without a pause."""
    delays: list[float] = []

    async def body(load: Load) -> None:
        over = time.monotonic() + RUNS_FOR

        def called(posted: float) -> None:
            delays.append(time.monotonic() - posted)

        def post() -> None:
            while time.monotonic() < over:
                load.pool.post(called, time.monotonic())
                time.sleep(0.003)

        posting = threading.Thread(target=post)
        posting.start()
        while time.monotonic() < over:
            for _ in range(50 - len(load.pool._queue)):
                load.put(load.compute)
            await asyncio.sleep(0.001)
        posting.join()

    assert_punctual(under_load(True, body).late)
    assert len(delays) > 20
    assert_punctual(delays)


@patiently
def test_hazard_10_signals_reach_the_parked_loop() -> None:
    delays: list[float] = []

    async def body(load: Load) -> None:
        over = time.monotonic() + RUNS_FOR
        sent = 0.0
        heard = threading.Event()

        def hear() -> None:
            delays.append(time.monotonic() - sent)
            heard.set()

        def send() -> None:
            nonlocal sent
            while time.monotonic() < over:
                heard.clear()
                sent = time.monotonic()
                os.kill(os.getpid(), signal.SIGUSR2)
                assert heard.wait(SECONDS)
                time.sleep(0.007)

        load.loop.add_signal_handler(signal.SIGUSR2, hear)
        sending = threading.Thread(target=send)
        sending.start()
        while sending.is_alive():
            for _ in range(50 - len(load.pool._queue)):
                load.put(load.compute)
            await asyncio.sleep(0.001)
        load.loop.remove_signal_handler(signal.SIGUSR2)

    under_load(True, body)
    assert len(delays) > 10
    assert_punctual(delays)
