"""process.supervision.supervisor against any sequence of events: a world of processes that live, fail and die."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from starman.process.message_base import Message
from starman.process.messages import ServerEvent, WorkerEnded
from starman.process.status import Phase
from starman.process.supervision.actions import (
    Action,
    CloseListeners,
    Drain,
    DumpStacks,
    Exit,
    FailStart,
    Forget,
    ForkMold,
    Kill,
    LogReady,
    RetireHooks,
    RetireMold,
    SendEvent,
    SpawnHooks,
    SpawnMold,
    SpawnWorker,
)
from starman.process.supervision.rollout import Terms
from starman.process.supervision.supervisor import Supervisor


class Process:
    """The model of a child: its slot (0: a mold; -1: a hook process) and its state."""

    def __init__(self, slot: int, generation: int) -> None:
        self.slot = slot
        self.generation = generation
        self.born = False
        self.ready = False
        self.failed = False
        self.told_to_end = False
        self.doomed = False
        self.killed = False
        self.frozen = False
        self.beat = 0.0
        self.events: list[Message] = []

    @property
    def starting(self) -> bool:
        return not (self.ready or self.told_to_end)

    @property
    def serving(self) -> bool:
        return self.ready and not self.told_to_end


class World(RuleBasedStateMachine):
    """The model of all processes: performs and checks every plan."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.alive: dict[int, Process] = {}
        self.announced = 0
        self.given_up = 0
        self.stopped = False
        self.listening = True
        self.status: int | None = None
        self.workers = 0
        # What hooks were told, over the life of all hook processes, and how many workers have ended.
        self.told: list[Message] = []
        self.begun = False
        self.ended = 0

    @initialize(workers=st.integers(1, 4), preload=st.booleans(), hooks=st.booleans())
    def begin(self, workers: int, preload: bool, hooks: bool) -> None:
        self.workers = workers
        terms = Terms(workers, preload=preload, boot_timeout=60, graceful_timeout=30)
        terms.worker_timeout = 20
        terms.hooks = hooks
        self.hooks = hooks
        self.terms = terms
        self.supervisor = Supervisor(terms)
        self.preload = preload
        self.plan()

    # Perform a plan.

    def plan(self) -> None:
        for process in self.alive.values():
            process.beat = process.beat if process.frozen else self.now
        beats = {number: process.beat for number, process in self.alive.items() if process.slot > 0 and process.ready}
        self.supervisor.watchdog.check(beats, self.now)
        for action in self.supervisor.plan(self.now):
            self.perform(action)
        if self.status is None:
            assert self.supervisor.plan(self.now) == [], "a plan must be complete: anything left would wait for the next event"
        instant = self.supervisor.next_instant(self.now)
        assert instant is None or instant > self.now, "the loop would spin"

    def perform(self, action: Action) -> None:
        if isinstance(action, SendEvent):
            process = self.alive[action.child]
            assert process.serving
            assert process.slot == -1
            assert not process.events, "a hook process has one event at a time"
            process.events.append(action.event)
            self.told.append(action.event)
        elif isinstance(action, RetireHooks):
            process = self.alive[action.child]
            assert process.slot == -1
            assert process.serving
            process.told_to_end = True
        elif isinstance(action, ForkMold | SpawnMold | SpawnWorker | SpawnHooks):
            assert not self.stopped, "nothing is spawned while stopping"
            assert action.child not in self.alive
            self.alive[action.child] = self.spawned(action)
        elif isinstance(action, Drain):
            process = self.alive[action.child]
            if process.serving and not self.stopped and process.slot <= self.workers and not process.doomed:
                others = [other for other in self.alive.values() if other.slot == process.slot and other is not process]
                assert any(other.serving for other in others), "a worker drains only when its successor is ready"
            process.told_to_end = True
        elif isinstance(action, RetireMold):
            mold = self.alive[action.child]
            assert mold.serving
            assert mold.slot == 0
            mold.told_to_end = True
        elif isinstance(action, DumpStacks):
            process = self.alive[action.child]
            assert process.frozen or process.starting or process.slot < 1, "only silent or late children write stacks"
        elif isinstance(action, Kill):
            process = self.alive[action.child]
            process.told_to_end = process.killed = True
        elif isinstance(action, Forget):
            del self.alive[action.child]
        else:
            self.perform_for_all(action)

    def perform_for_all(self, action: Action) -> None:
        if isinstance(action, LogReady):
            self.announced += 1
            assert not self.stopped
            assert action.workers == self.workers == sum(process.serving for process in self.alive.values() if process.slot > 0)
        elif isinstance(action, FailStart):
            self.given_up += 1
            assert not self.announced, "a server that once ran never gives up"
        elif isinstance(action, CloseListeners):
            assert self.listening
            self.stopped, self.listening = True, False
        elif isinstance(action, Exit):
            assert self.stopped
            assert not self.alive
            self.status = action.status

    def spawned(self, action: ForkMold | SpawnMold | SpawnWorker | SpawnHooks) -> Process:
        if isinstance(action, ForkMold):
            return Process(0, 0)
        mold = self.alive[action.origin if isinstance(action, SpawnMold) else action.mold]
        assert mold.serving, "only a mold that is ready forks"
        assert mold.slot == 0
        if isinstance(action, SpawnHooks):
            assert self.hooks
            assert mold.generation == 0
            assert action.starting == (not self.begun)
            return Process(-1, 0)
        assert self.begun or not self.hooks, "the starting hooks come before the application"
        if isinstance(action, SpawnMold):
            assert mold.generation == 0
            return Process(0, action.generation)
        assert mold.generation == (action.generation if self.preload else 0)
        return Process(action.slot, action.generation)

    def pick(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.alive)))

    # Events.

    @rule(seconds=st.sampled_from([0.0, 0.3, 1.0, 5.0, 11.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        """Advance the clock, at most to the next instant of the supervisor."""
        instant = self.supervisor.next_instant(self.now)
        self.now = self.now + seconds if instant is None else min(self.now + seconds, instant)
        self.plan()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_advances(self, data: st.DataObject) -> None:
        """A child gets a process id, or becomes ready."""
        self.advance(self.pick(data))
        self.plan()

    def advance(self, number: int) -> None:
        process = self.alive[number]
        if not process.born:
            process.born = True
            self.supervisor.on_spawned(number, 5000 + number)
        elif not process.ready and not process.failed:
            process.ready = True
            self.begun = self.begun or process.slot == -1
            self.supervisor.on_ready(number, self.now)
        elif process.events:
            del process.events[0]
            self.supervisor.hooks.on_handled(number, self.now)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_fails(self, data: st.DataObject) -> None:
        number = self.pick(data)
        process = self.alive[number]
        if not process.ready:
            process.failed = True
            self.supervisor.on_failed(number, "broken", "details", self.now)
            self.plan()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_dies(self, data: st.DataObject) -> None:
        self.die(self.pick(data))
        self.plan()

    def die(self, number: int) -> None:
        process = self.alive.pop(number)
        self.ended += process.slot > 0 and process.born
        self.supervisor.on_exit(number, "was killed by SIGKILL", self.now)

    @precondition(lambda self: any(process.serving and process.slot > 0 for process in self.alive.values()))
    @rule(data=st.data())
    def one_drains_by_itself(self, data: st.DataObject) -> None:
        serving = sorted(number for number, process in self.alive.items() if process.serving and process.slot > 0)
        number = data.draw(st.sampled_from(serving))
        self.alive[number].told_to_end = True
        self.supervisor.on_draining(number, self.now)
        self.plan()

    @precondition(lambda self: any(process.serving and process.slot > 0 for process in self.alive.values()))
    @rule(data=st.data())
    def one_requests_a_drain(self, data: st.DataObject) -> None:
        serving = sorted(number for number, process in self.alive.items() if process.serving and process.slot > 0)
        number = data.draw(st.sampled_from(serving))
        self.alive[number].doomed = True
        self.supervisor.on_drain_request(number, "harakiri", self.now)
        self.plan()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_is_to_be_replaced(self, data: st.DataObject) -> None:
        self.supervisor.on_recycle(self.pick(data), "it is old", self.now)
        self.plan()

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_freezes_or_thaws(self, data: st.DataObject) -> None:
        process = self.alive[self.pick(data)]
        process.frozen = not process.frozen
        self.plan()

    @rule()
    def restart(self) -> None:
        self.supervisor.restart()
        self.plan()

    @rule()
    def grow(self) -> None:
        self.supervisor.scale(len(self.supervisor.slots) + 1, self.now)
        self.workers += not self.stopped
        self.plan()

    @rule()
    def shrink(self) -> None:
        self.supervisor.scale(len(self.supervisor.slots) - 1, self.now)
        if not self.stopped and self.workers > 1:
            self.workers -= 1
        self.plan()

    @precondition(lambda self: self.announced or self.given_up)
    @rule()
    def stop(self) -> None:
        self.supervisor.stop(self.now)
        self.plan()

    # Invariants.

    @invariant()
    def no_slot_has_two_on_their_way(self) -> None:
        slots = [process.slot for process in self.alive.values() if process.slot > 0 and process.starting and not process.failed]
        assert len(slots) == len(set(slots)), slots

    @invariant()
    def workers_that_finish_do_not_pile_up(self) -> None:
        """At most two of each slot: also after another program has told workers to end, and while slots come and
        go."""
        slots = [process.slot for process in self.alive.values() if process.slot > 0 and not process.killed]
        assert len(slots) <= 2 * max([self.workers, *slots]), slots

    @invariant()
    def there_is_one_mold_for_each_generation(self) -> None:
        molds = [process.generation for process in self.alive.values() if not process.slot and not process.told_to_end]
        assert len(molds) == len(set(molds)), molds

    @invariant()
    def at_most_one_hook_process_gets_events(self) -> None:
        busy = [process for process in self.alive.values() if process.slot == -1 and process.events]
        assert len(busy) <= 1

    def teardown(self) -> None:
        """When nothing fails any more, the supervisor has nothing left to do; then it stops."""
        if not hasattr(self, "supervisor"):
            return
        self.settle()
        if not self.stopped:
            serving = [process for process in self.alive.values() if process.serving and process.slot > 0]
            assert sorted(process.slot for process in serving) == list(range(1, self.workers + 1))
            assert self.supervisor.phase is Phase.RUNNING
            self.supervisor.restart()
            self.plan()
            self.settle()
            serving = [process for process in self.alive.values() if process.serving and process.slot > 0]
            assert len({process.generation for process in serving}) == 1, "all are of the newest code"
            assert sum(process.slot == -1 for process in self.alive.values()) == self.hooks
            self.told.clear()
            self.ended = 0
            self.supervisor.stop(self.now)
            self.plan()
            self.settle()
            self.check_last_events()
        assert self.status is not None

    def check_last_events(self) -> None:
        """The hooks were told of the stop, first and last, and of each worker that has ended in between."""
        if self.hooks:
            assert self.told[0] == ServerEvent("stopping")
            assert self.told[-1] == ServerEvent("stopped")
            assert sum(isinstance(event, WorkerEnded) for event in self.told) == self.ended
        else:
            assert self.told == []

    def settle(self) -> None:
        # Nothing freezes any more, so the watchdog, which never ends, is not needed.
        self.supervisor.watchdog.timeout = self.terms.worker_timeout = 0
        for _ in range(400):
            for number, process in list(self.alive.items()):
                if (process.told_to_end and not process.events) or process.failed:
                    self.die(number)
                else:
                    self.advance(number)
            before = self.supervisor.next_instant(self.now)
            self.plan()
            if self.status is not None:
                return
            if before is not None and all(process.serving and not process.events for process in self.alive.values()):
                self.now = max(self.now, before)
                self.plan()
            elif before is None and self.supervisor.next_instant(self.now) is None:
                return
        raise AssertionError("it always has something to do")


TestSupervisor = World.TestCase
TestSupervisor.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
