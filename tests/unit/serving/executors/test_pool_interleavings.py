"""serving.executors.pool and corking, as a model: every order in which the steps of the loop and of two threads can
follow.

A step is what is atomic without the GIL, too (docs/threads.md), and what others can see: one load or store of an
attribute, one operation on a list or deque, one acquisition or release of a lock. Each step of the model names the
line of the code that it stands for; a change of the order of lines there needs the same change here. Time is left
out: a slice of a park may end at any moment, POOL may be over at any moment, and a request may arrive at any moment.

What is checked, in every state that can be reached:

- Where nothing can happen any more, every exchange has ended, once, every thread sleeps (or has ended, after a stop),
and no
  response is held back.
- The loop does not turn in circles, taking turns without waiting, while no thread does anything.
- No slice of a park passes while a call waits that was posted: its poster would have unparked the loop.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any, NamedTuple

import pytest

# MOST_POLLS of the model, and how many there are at most when a connection is accepted, which may happen before each.
# What a poll brings is free anyway, so one stands for all.
MOST_POLLS = 1
MOST_FOR_ARRIVALS = 2

# What an exchange does, by its letter.
RETURNS = "r"
# Until all others are finished and answered: so one thread has to be left for them, and something has to empty the
# corking.
BLOCKS = "b"
POSTS = "p"  # and waits until the loop has called what it posted, as a thread that streams does
CHAINS = "c"  # gives the next exchange of its connection, which is an "r"
GATHERS = "g"  # holds a block back, then blocks until it is written
DROPS = "d"  # as "r"; but the loop may end it while it waits, because its client has gone or it has waited too long
CLOSES = "e"  # the response may be held back, and its close() blocks until it is written
# The application hangs, and its deadline passes at any time: the loop answers, and starts a spare. It comes back, or
# never.
HANGS = "h"
HANGS_FOR_EVER = "n"
LATE = {HANGS: "H", HANGS_FOR_EVER: "N"}  # after the deadline

WITHIN_A_PARK = ("attend", "wake for the park", "release", "parked", "gate")


class Mistake(Enum):
    """A way to get the code wrong. The model has to find each, or it is the model that is wrong."""

    LOOKS_BEFORE_IT_LIES_DOWN = auto()
    WAKES_BEFORE_IT_QUEUES = auto()
    LOOKS_BEFORE_IT_STOPS_ASKING = auto()
    TAKES_TURNS_WHILE_ALL_ARE_AWAKE = auto()
    FORGETS_THE_QUEUE_AFTER_A_PARK = auto()
    STOPS_AFTER_IT_WAKES = auto()
    FORGETS_WHAT_WAS_POSTED = auto()
    ENDS_WITHOUT_ANOTHER_LOOK = auto()
    FORGETS_THE_CORKING_AFTER_A_PARK = auto()
    FORGETS_THE_CORKING_WITHOUT_A_PARK = auto()
    GATHERS_WITHOUT_ANOTHER_LOOK = auto()
    LOOKS_BEFORE_IT_STOPS_THE_TIMER = auto()
    LOSES_A_THREAD_WITHOUT_A_SPARE = auto()
    RETIRES_WITHOUT_A_SURPLUS = auto()
    DROPS_WITHOUT_TAKING = auto()
    DROPS_FROM_THE_LEFT = auto()


class Thread(NamedTuple):
    """One thread: `at` is the step it takes next."""

    at: str = "wake lock"
    then: str = "ask"  # where it goes on after _sleep (or after a post)
    exchange: str = ""
    rung: bool = False  # whether its wake lock is released


class State(NamedTuple):
    """Everything that can differ. The names are the Pool's, `ready` is what the loop calls next."""

    threads: tuple[Thread, ...]
    at: str = "loop"
    idle: tuple[int, ...] = ()
    queue: str = ""
    ready: tuple[str, ...] = ()
    coming: str = ""
    unfinished: int = 0
    parked: bool = False
    attended: bool = False
    gate: bool = False  # whether it is open
    asked: bool = False
    posted: bool = False
    stopped: bool = False
    turn_due: bool = False
    polls: int = 0
    seen: int = 0
    pool_mode: bool = False
    progress: bool = False  # whether an exchange was finished since the last slice
    to_wake: int = 0
    popped: int = -1  # the thread that the loop has popped from the stack, and is about to wake
    woken: str = ""  # where the loop goes on then
    blocked: bool = False
    held: bool = False  # whether responses or blocks are held back
    timer_runs: bool = False  # whether the loop flushes by a timer
    dropping: str = ""  # what the loop has taken from the left of the queue, by mistake
    surplus: int = 0  # how many threads may end
    called: int = 0  # posted calls that were made, which their posters have not noticed


class Model:
    """The steps. Each yields the states that may follow: none where the step has to wait."""

    def __init__(self, coming: str, *, takes_turns: bool = True, stops: bool = False, mistake: Mistake | None = None) -> None:
        self.takes_turns = takes_turns
        self.stops = stops
        self.mistake = mistake
        total = len(coming) + coming.count(CHAINS)
        self.first = State((Thread(), Thread()), idle=(1, 0), coming=coming, unfinished=total)
        self.hangs = HANGS in coming or HANGS_FOR_EVER in coming
        if self.hangs:  # one thread, and its spare
            self.first = State((Thread(), Thread("not started")), idle=(0,), coming=coming, unfinished=total)

    # The threads' side

    def thread_steps(self, state: State, number: int) -> Iterator[State]:  # noqa: C901 - a case for each step
        """What thread `number` may do next."""
        thread = state.threads[number]

        def goes(
            at: str, then: str = thread.then, exchange: str = thread.exchange, rung: bool = thread.rung, **changes: object
        ) -> State:
            threads = list(state.threads)
            threads[number] = Thread(at, then, exchange, rung)
            return state._replace(threads=tuple(threads), **changes)  # type: ignore[arg-type]

        early = self.mistake is Mistake.LOOKS_BEFORE_IT_LIES_DOWN
        match thread.at:
            # _work
            case "ask":  # if self._asked: self._sleep(pool_thread)
                yield goes("look" if early else "lie down", "take") if state.asked else goes("take", "")
            case "take":  # exchange = queue.popleft()
                if state.queue:
                    yield goes("run", exchange=state.queue[0], queue=state.queue[1:])
                else:
                    yield goes("empty")
            case "empty":  # if self._stopped …
                if state.stopped:
                    yield goes("ended" if self.mistake is Mistake.ENDS_WITHOUT_ANOTHER_LOOK else "look again", "")
                elif state.surplus or (self.hangs and self.mistake is Mistake.RETIRES_WITHOUT_A_SURPLUS):
                    # if self.lost_threads.surplus and self.lost_threads.retires(pool_thread): self._unpark(); return
                    yield goes("unpark", "ended", surplus=max(0, state.surplus - 1))
                else:  # self._sleep(pool_thread); continue
                    yield goes("look" if early else "lie down", "ask")
            case "look again":  # … and not queue: return
                yield goes("lie down", "ask") if state.queue else goes("ended")
            # _sleep
            case "lie down":  # self._idle.append(pool_thread)
                yield goes("look at stopped" if early else "look", idle=(*state.idle, number))
            case "look":  # if (self._queue …
                if early:
                    yield goes(thread.then, "") if state.queue and not state.asked else goes("lie down")
                else:
                    yield goes("look at asked" if state.queue else "look at stopped")
            case "look at asked":  # … and not self._asked) …
                yield goes("look at stopped" if state.asked else "get up")
            case "look at stopped":  # … or self._stopped
                yield goes("get up" if state.stopped else "unpark")
            case "get up":  # self._idle.remove(pool_thread), or ValueError
                if number in state.idle:
                    yield goes(thread.then, "", idle=tuple(other for other in state.idle if other != number))
                else:
                    yield goes("wake lock")
            case "wake lock":  # pool_thread.wake_lock.acquire()
                if thread.rung:
                    yield goes(thread.then, "", rung=False)
            # _unpark; a poster waits afterwards, all others lie down
            case "unpark":  # if self._parked
                yield goes("take back parked" if state.parked else after_unpark(thread))
            case "take back parked":  # self._parked = False
                yield goes("no longer attend", parked=False)
            case "no longer attend":  # self.corking.attended = False
                yield goes("open the gate", attended=False)
            case "open the gate":  # self._gate.release(), or RuntimeError: it is open
                yield goes(after_unpark(thread), gate=True)
            # _run
            case "run":  # exchange.run()
                if thread.exchange == POSTS:  # post: self._loop.call_soon_threadsafe
                    yield goes("note the post", ready=(*state.ready, "call"))
                elif thread.exchange == HANGS:  # it may also return in time
                    yield goes("finished", unfinished=state.unfinished - 1)
                elif thread.exchange == LATE[HANGS]:  # self.lost_threads.come_back(…)
                    yield goes("finished", surplus=state.surplus + 1)
                elif thread.exchange in (HANGS_FOR_EVER, LATE[HANGS_FOR_EVER]):
                    return
                elif thread.exchange == BLOCKS:
                    if state.unfinished == 1 and not state.held:
                        yield goes("finished", unfinished=0)
                elif thread.exchange == GATHERS:
                    yield goes("look after")
                else:
                    yield goes("look at attended")
            # Corking.hold_block
            case "look after":  # if not self._holds_blocks … if not self.attended …
                if not self.takes_turns:
                    yield goes("finished", unfinished=state.unfinished - 1)
                else:
                    yield goes("gather" if state.attended else "start the timer")
            case "start the timer":  # … and not self._start_timer(): if not self._timer_runs
                yield goes("gather") if state.timer_runs else goes("note the timer")
            case "note the timer":  # self._timer_runs = True; the other thread may have done so meanwhile
                yield goes("post the timer", timer_runs=True)
            case "post the timer":  # self._loop.call_soon_threadsafe(self._schedule_flush)
                yield goes("gather", ready=(*state.ready, "schedule the flush"))
            case "gather":  # Writer.hold: corked.append(self)
                done = self.mistake is Mistake.GATHERS_WITHOUT_ANOTHER_LOOK
                yield goes("wait for the loop" if done else "look behind", held=True)
            case "look behind":  # _checked: if not (self.attended …
                yield goes("wait for the loop" if state.attended else "look at the timer")
            case "look at the timer":  # … or self._timer_runs)
                yield goes("wait for the loop" if state.timer_runs else "write it")
            case "write it":  # self.flush()
                yield goes("wait for the loop", held=False)
            case "wait for the loop":  # the next block, or the close() of a response, may take as long as it likes
                if not state.held or thread.exchange not in (GATHERS, CLOSES):
                    yield goes("finished", unfinished=state.unfinished - 1)
            # Corking.hold_response
            case "look at attended":  # if not self.attended …
                yield goes("look for more") if state.attended else goes("finished", unfinished=state.unfinished - 1)
            case "look for more":  # … or not (self._queue or writer.pending)
                more = state.queue or thread.exchange == CHAINS
                yield goes("gather") if more else goes("finished", unfinished=state.unfinished - 1)
            case "note the post":  # post: self._posted = True
                yield goes("unpark", posted=True) if self.mistake is not Mistake.FORGETS_WHAT_WAS_POSTED else goes("unpark")
            case "wait for the call":
                if state.called:
                    yield goes("finished", called=state.called - 1, unfinished=state.unfinished - 1)
            case "finished":  # counter.finished += 1; self._ended_at = now; if self.corking.writers
                yield goes("settle" if state.held else "go on", progress=True)
            case "settle":  # follows = (following is not None or bool(self._queue)) and not self._asked
                follows = (state.queue or thread.exchange == CHAINS) and not state.asked
                yield goes("settle if attended" if follows else "flush the corking")
            # Corking.after_request
            case "settle if attended":  # if not (follows and self.attended) …
                yield goes("flush the corking")  # … or now >= self._until
                if state.attended:
                    yield goes("go on")
            case "flush the corking":  # self.flush()
                yield goes("go on", held=False)
            case "go on":
                if thread.exchange == CHAINS:
                    yield goes("run", exchange=RETURNS)
                    yield goes("put back")  # 16 in a row, or self._asked
                else:
                    yield goes("ask", exchange="")
            case "put back":  # self._queue.append(exchange)
                yield goes("ask", exchange="", queue=state.queue + RETURNS)

    # The loop's side

    def loop_steps(self, state: State) -> Iterator[State]:  # noqa: C901 - a case for each step
        """What the loop may do next. In "loop" it is between two callbacks."""
        to, mistake = state._replace, self.mistake
        match state.at:
            case "loop":
                if state.coming and not state.stopped:  # put: a request may arrive at any time
                    yield to(at="wake before put") if mistake is Mistake.WAKES_BEFORE_IT_QUEUES else to(at="put")
                if state.ready:
                    callback, ready = state.ready[0], state.ready[1:]
                    early = mistake is Mistake.LOOKS_BEFORE_IT_STOPS_THE_TIMER
                    match callback:
                        case "call":
                            yield to(ready=ready, called=state.called + 1)
                        case "schedule the flush":
                            yield to(ready=ready, at="schedule the flush")
                        case "flush by timer":
                            yield to(ready=ready, at="look for blocks" if early else "stop the timer")
                        case _:
                            yield to(ready=ready, at="turn")
                if DROPS in state.queue:  # for request in self._queue.copy(): if request.is_gone(now) …
                    yield to(at="take from the left" if mistake is Mistake.DROPS_FROM_THE_LEFT else "withdraw")
                for number, thread in enumerate(state.threads):
                    if thread.at == "run" and thread.exchange in LATE and "not started" in {other.at for other in state.threads}:
                        yield self.expire(state, number)
                if self.stops and not state.coming and not state.stopped:
                    yield to(at="wake all") if mistake is Mistake.STOPS_AFTER_IT_WAKES else to(at="wake all", stopped=True)
            case "withdraw":  # … self._queue.remove(request), or ValueError: a thread has taken it
                if DROPS in state.queue:
                    yield to(at="loop", queue=state.queue.replace(DROPS, "", 1), unfinished=state.unfinished - 1)
                else:
                    ends = mistake is Mistake.DROPS_WITHOUT_TAKING
                    yield to(at="loop", unfinished=state.unfinished - 1 if ends else state.unfinished)
            case "take from the left":
                yield to(at="look at what is taken", dropping=state.queue[:1], queue=state.queue[1:])
            case "look at what is taken":
                drops = state.dropping == DROPS
                queue = state.queue if drops else state.dropping + state.queue
                yield to(at="loop", dropping="", queue=queue, unfinished=state.unfinished - 1 if drops else state.unfinished)
            # Corking._flush_by_timer
            case "stop the timer":  # self._timer_runs = False
                early = mistake is Mistake.LOOKS_BEFORE_IT_STOPS_THE_TIMER
                yield to(at="loop" if early else "look for blocks", timer_runs=False)
            case "look for blocks":  # if self.writers: self.flush()
                if state.held:
                    yield to(at="start it again", held=False)
                else:
                    early = mistake is Mistake.LOOKS_BEFORE_IT_STOPS_THE_TIMER
                    yield to(at="stop the timer" if early else "loop")
            case "start it again":  # self._timer_runs = True
                yield to(at="schedule the flush", timer_runs=True)
            case "schedule the flush":  # _schedule_flush: self._loop.call_later(LONGEST, self._flush_by_timer)
                yield to(at="loop", ready=(*state.ready, "flush by timer"))
            case "put":  # self._queue.append(exchange)
                put = {"queue": state.queue + state.coming[0], "coming": state.coming[1:]}
                if mistake is Mistake.WAKES_BEFORE_IT_QUEUES:
                    yield to(at="loop", **put)  # type: ignore[arg-type]
                elif not self.takes_turns:
                    yield to(at="wake", to_wake=1, **put)  # type: ignore[arg-type]
                else:
                    yield to(at="loop" if state.turn_due else "expect", polls=state.polls if state.turn_due else 0, **put)  # type: ignore[arg-type]
            case "wake before put":
                yield to(at="put", idle=state.idle[:-1], threads=rung(state, state.idle[-1])) if state.idle else to(at="put")
            # _schedule_turn
            case "expect":  # self._posted = False; self._turn_due = True
                yield to(at="call soon", turn_due=True, posted=False)
            case "call soon":  # self._loop.call_soon(self._take_turn)
                yield to(at="loop", ready=(*state.ready, "turn"))
            # _take_turn
            case "turn":  # if self._waits_for_arrivals(); queued = len(self._queue)
                if state.polls < MOST_FOR_ARRIVALS:
                    yield to(at="expect", polls=state.polls + 1)
                queued = len(state.queue)
                if queued > state.seen and state.polls < MOST_POLLS:
                    yield to(at="expect", seen=queued, polls=state.polls + 1)
                    return
                turn = to(turn_due=False, seen=0)
                if not queued:
                    yield turn._replace(at="loop")
                    return
                # self._schedule.mode(now)
                yield turn._replace(at="park", pool_mode=False)
                if state.pool_mode:
                    yield turn._replace(at="count")
            case "count":  # for _ in range(len(self._queue))
                count = len(state.queue)
                yield to(at="wake", to_wake=count)
            case "wake" | "wake all":  # _wake: self._idle.pop(); none is left: IndexError
                if state.idle and (state.at == "wake all" or state.to_wake):
                    yield to(at="release", woken=state.at, **popped(state), to_wake=max(state.to_wake - 1, 0))
                elif state.at == "wake all" and not state.stopped:
                    yield to(at="stop late")
                else:
                    yield to(at="loop", to_wake=0)
            case "release":  # pool_thread.wake_lock.release()
                yield to(at=state.woken, woken="", popped=-1, threads=rung(state, state.popped))
            case "stop late":
                yield to(at="loop", stopped=True)
            # _park
            case "park":  # self._schedule.parks(self._ended_at, now); self._parked = True
                yield to(at="attend", parked=True, progress=False, blocked=False)
            case "attend":  # self.corking.attend(now)
                yield to(at="wake for the park", attended=True)
            case "wake for the park":  # if not self._wake()
                if state.idle:
                    yield to(at="release", woken="parked", **popped(state))
                elif mistake is Mistake.TAKES_TURNS_WHILE_ALL_ARE_AWAKE:
                    yield to(at="park ends")
                else:
                    yield to(at="no park", parked=False)
            case "no park":  # self.corking.leave(): self.attended = False …
                yield to(at="flush without a park", attended=False)
            case "flush without a park":  # … self.flush()
                yield to(at="loop", held=state.held and mistake is Mistake.FORGETS_THE_CORKING_WITHOUT_A_PARK)
            case "parked":  # while not (blocked or self._posted …
                if state.posted:
                    yield to(at="park ends")
                else:
                    yield to(at="gate")
            case "gate":  # … or self._gate.acquire(timeout=SLICE))
                if state.gate:
                    yield to(at="park ends", gate=False)
                elif state.progress:  # after_slice: WAIT or ASK; self.corking.flush()
                    yield to(at="parked", progress=False, held=False)
                    yield to(at="parked", progress=False, held=False, asked=True)
                else:  # after_slice: OPEN
                    yield to(at="park ends", blocked=True, pool_mode=True)
            case "park ends":  # self._parked = False
                yield to(at="leave", parked=False)
            case "leave":  # self.corking.leave(): self.attended = False …
                yield to(at="park over", attended=False)
            case "park over":  # … self.flush()
                early = mistake is Mistake.LOOKS_BEFORE_IT_STOPS_ASKING
                forgets = mistake is Mistake.FORGETS_THE_CORKING_AFTER_A_PARK
                yield to(at="look at the queue" if early else "stop asking", held=state.held and forgets)
            case "stop asking":  # self._asked = False
                if mistake is Mistake.LOOKS_BEFORE_IT_STOPS_ASKING:
                    yield to(at="expect" if state.polls else "loop", asked=False)
                else:
                    yield to(at="look at the queue", asked=False)
            case "look at the queue":  # if self._queue and not blocked: self._schedule_turn(MOST_POLLS)
                expects = bool(state.queue) and not state.blocked and mistake is not Mistake.FORGETS_THE_QUEUE_AFTER_A_PARK
                polls = MOST_POLLS if expects else 0
                if mistake is Mistake.LOOKS_BEFORE_IT_STOPS_ASKING:
                    yield to(at="stop asking", polls=polls)
                elif state.blocked:
                    yield to(at="count", polls=polls, blocked=False)
                else:
                    yield to(at="expect" if expects else "loop", polls=polls)

    def expire(self, state: State, number: int) -> State:
        """Deadlines._expire: request.expire(now), self._executor.lose(ident, request), which starts a spare."""
        late = state.threads[number]._replace(exchange=LATE[state.threads[number].exchange])
        spare = Thread("ask")
        if self.mistake is Mistake.LOSES_A_THREAD_WITHOUT_A_SPARE:
            spare = Thread("ended")
        threads = (late, spare) if number == 0 else (spare, late)
        return state._replace(threads=threads, unfinished=state.unfinished - 1)

    # What must hold

    def check(self) -> int:
        """Explore. Returns the number of states; raises AssertionError with the first one that must not be."""
        first = canonical(self.first)
        seen, waiting = {first}, [first]
        turning: dict[State, State] = {}
        while waiting:
            state = waiting.pop()
            following = self.private_step(state)
            if not following:
                by_loop = list(self.loop_steps(state))
                following = [*by_loop, *(after for number in (0, 1) for after in self.thread_steps(state, number))]
                self.check_state(state, at_rest=not following)
                for after in by_loop:
                    if state.at != "gate" and after.coming == state.coming:  # neither a slice nor an arrival
                        turning[state] = canonical(after)
            for after in map(canonical, following):
                if after not in seen:
                    seen.add(after)
                    waiting.append(after)
        assert_no_circle(turning)
        return len(seen)

    def private_step(self, state: State) -> list[State]:
        """A step that no other can see or prevent, if there is one: it need not be tried before and after all
        others."""
        for number, thread in enumerate(state.threads):
            private = (
                (thread.at == "wake lock" and thread.rung)
                or (thread.at == "run" and thread.exchange in (RETURNS, CHAINS))
                or (thread.at in ("empty", "look at stopped") and not self.stops and not self.hangs)
            )
            if private:
                return list(self.thread_steps(state, number))
        return []

    def check_state(self, state: State, *, at_rest: bool) -> None:
        assert state.unfinished >= 0, f"an exchange ends twice: {state}"
        if at_rest:
            assert not state.unfinished, f"an exchange is lost: {state}"
            threads = [thread for thread in state.threads if thread.exchange != LATE[HANGS_FOR_EVER]]
            if self.hangs:  # one is left; a thread that was asked to stop sleeps, and ends when it is woken again
                threads = [thread for thread in threads if thread.at not in ("not started", "ended")] or [Thread("ended")]
                assert len(threads) == 1 + state.surplus, f"there are too many threads: {state}"
            asleep = {"ended"} if self.stops else {"wake lock"}
            assert {thread.at for thread in threads} == asleep, f"a thread hangs: {state}"
            assert not state.held, f"a response is lost: {state}"
        if state.at == "gate" and not state.gate and not state.posted and "call" in state.ready:
            posted = any(thread.at == "wait for the call" for thread in state.threads)
            assert not posted, f"a slice passes beside what was posted: {state}"


def after_unpark(thread: Thread) -> str:
    """Where a thread goes on after _unpark."""
    if thread.exchange == POSTS:
        return "wait for the call"
    return "ended" if thread.then == "ended" else "wake lock"


def popped(state: State) -> dict[str, Any]:
    """The changes when the loop pops the thread on top of the stack."""
    return {"idle": state.idle[:-1], "popped": state.idle[-1]}


def rung(state: State, number: int) -> tuple[Thread, ...]:
    """The threads, after the wake lock of thread `number` was released."""
    assert not state.threads[number].rung, f"released twice: {state}"
    return tuple(thread._replace(rung=True) if at == number else thread for at, thread in enumerate(state.threads))


def canonical(state: State) -> State:
    """One of the states that cannot be told apart: what will not be looked at again is blank, and threads have no
    numbers."""
    if state.progress and state.at not in WITHIN_A_PARK:
        state = state._replace(progress=False)
    if state.polls and not state.turn_due and state.at in ("loop", "park", *WITHIN_A_PARK):
        state = state._replace(polls=0)
    one, other = state.threads
    if other < one:
        numbers = tuple(1 - number for number in state.idle)
        state = state._replace(threads=(other, one), idle=numbers, popped=1 - state.popped if state.popped >= 0 else -1)
    return state


def assert_no_circle(steps: dict[State, State]) -> None:
    """The loop's own steps lead somewhere."""
    done: set[State] = set()
    for start in steps:
        path: set[State] = set()
        state: State | None = start
        while state is not None and state not in done:
            assert state not in path, f"the loop turns in circles: {state}"
            path.add(state)
            state = steps.get(state)
        done |= path


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """States make no cycles, and the collector would look through all of them again and again: a fifth of the time."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize(
    "coming",
    ["rrr", "rbr", "brr", "pbr", "bp", "cb", "bc", "gr", "rg", "gg", "gc", "er", "re", "ee", "ec", "dr", "rd", "dd", "db", "cd"],
)
def test_taking_turns(coming: str) -> None:
    assert Model(coming).check() > 1000


@pytest.mark.parametrize("coming", ["rrr", "rbr", "pbr", "cb", "bc", "gr", "er", "drd", "db", "cd"])
def test_without_taking_turns(coming: str) -> None:
    assert Model(coming, takes_turns=False).check() > 100


@pytest.mark.parametrize("takes_turns", [True, False])
@pytest.mark.parametrize("coming", ["h", "n", "hr", "rh", "nr", "rn", "hrr", "nrr", "rhr", "hp", "np", "hc", "ch", "hg", "ne"])
def test_deadlines(coming: str, takes_turns: bool) -> None:
    assert Model(coming, takes_turns=takes_turns).check() > 10


@pytest.mark.parametrize("takes_turns", [True, False])
@pytest.mark.parametrize("coming", ["r", "rr", "c", "rb", "d", "rd"])
def test_stop(coming: str, takes_turns: bool) -> None:
    assert Model(coming, takes_turns=takes_turns, stops=True).check() > 100


@pytest.mark.parametrize(
    ("mistake", "coming", "finding"),
    [
        (Mistake.LOOKS_BEFORE_IT_LIES_DOWN, "rrr", "lost"),
        (Mistake.WAKES_BEFORE_IT_QUEUES, "r", "lost"),
        (Mistake.LOOKS_BEFORE_IT_STOPS_ASKING, "cr", "lost"),
        (Mistake.TAKES_TURNS_WHILE_ALL_ARE_AWAKE, "rrr", "circles"),
        (Mistake.FORGETS_THE_QUEUE_AFTER_A_PARK, "rr", "lost"),
        (Mistake.STOPS_AFTER_IT_WAKES, "r", "hangs"),
        (Mistake.FORGETS_WHAT_WAS_POSTED, "rp", "slice"),
        (Mistake.ENDS_WITHOUT_ANOTHER_LOOK, "rr", "lost"),
        (Mistake.FORGETS_THE_CORKING_AFTER_A_PARK, "rb", "lost"),
        (Mistake.FORGETS_THE_CORKING_WITHOUT_A_PARK, "cb", "lost"),
        (Mistake.GATHERS_WITHOUT_ANOTHER_LOOK, "g", "lost"),
        (Mistake.LOOKS_BEFORE_IT_STOPS_THE_TIMER, "g", "lost"),
        (Mistake.FORGETS_THE_CORKING_AFTER_A_PARK, "g", "lost"),
        (Mistake.GATHERS_WITHOUT_ANOTHER_LOOK, "ee", "lost"),
        (Mistake.LOSES_A_THREAD_WITHOUT_A_SPARE, "nr", "lost"),
        (Mistake.RETIRES_WITHOUT_A_SURPLUS, "hr", "lost"),
        (Mistake.FORGETS_THE_CORKING_AFTER_A_PARK, "ee", "lost"),
        (Mistake.DROPS_WITHOUT_TAKING, "d", "twice"),
        (Mistake.DROPS_FROM_THE_LEFT, "rd", "lost"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_model_finds_each_mistake(mistake: Mistake, coming: str, finding: str) -> None:
    takes_turns = mistake not in (Mistake.WAKES_BEFORE_IT_QUEUES, Mistake.LOOKS_BEFORE_IT_LIES_DOWN)
    stops = mistake in (Mistake.STOPS_AFTER_IT_WAKES, Mistake.ENDS_WITHOUT_ANOTHER_LOOK)
    with pytest.raises(AssertionError, match=finding):
        Model(coming, takes_turns=takes_turns, stops=stops, mistake=mistake).check()
