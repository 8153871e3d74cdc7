"""The hook process: when it is started and replaced, and the events that it is sent. Pure; part of the supervisor.

There is one if the generation in use has hooks. Each roll-out brings a new one, with the code of its generation. The
new one gets events once the old one has ended, so that two of them never use the same port or file. Events wait
meanwhile, in order. The hook process has at most one event at a time, except at the end of this master.
"""

from __future__ import annotations

from starman.log.in_flight import counted
from starman.process.messages import ServerEvent, WorkerEnded, WorkersChanged
from starman.process.supervision.actions import DumpStacks, Level, RetireHooks, SendEvent
from starman.process.supervision.child import HookProcess, State
from starman.process.supervision.rollout import PRISTINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.message_base import Message
    from starman.process.supervision.backoff import Backoff
    from starman.process.supervision.child import Worker
    from starman.process.supervision.children import Children
    from starman.process.supervision.molds import Molds
    from starman.process.supervision.rollout import Rollout

# How long (seconds) the hooks of one event may take before the log says so.
SLOW = 30.0
# How long (seconds) the hooks may take after the last worker has ended.
LAST_SECONDS = 10.0
# How long (seconds) a hook process may take to end that gets no more events: it runs its exit functions.
EXIT_SECONDS = 10.0
# How many events may wait.
MOST_EVENTS = 1000


class HookProcesses:
    """The hook process, and its successor while that starts.

    started: whether the `starting` hooks have run, so that workers may be started.
    """

    __slots__ = (
        *("_announced", "_backoff", "_children", "_current", "_dropped", "_finishing", "_incoming", "_molds", "_rollout"),
        *("_sent", "_slow_at", "_waiting", "started"),
    )

    def __init__(self, children: Children, rollout: Rollout, molds: Molds, backoff: Backoff) -> None:
        """`backoff` decides when a hook process may be started again."""
        self._children = children
        self._rollout = rollout
        self._molds = molds
        self._backoff = backoff
        self.started = not rollout.terms.hooks
        # The process that gets events, and the one that will.
        self._current: HookProcess | None = None
        self._incoming: HookProcess | None = None
        self._waiting: list[Message] = []
        # Those that the present process has, and the instant at which the first of them is slow; None: none, or
        # logged.
        self._sent: list[Message] = []
        self._slow_at: float | None = None
        self._dropped = 0
        self._announced = False
        self._finishing = False

    @property
    def _wanted(self) -> bool:
        return self._rollout.terms_of(self._rollout.hooks_generation).hooks

    @property
    def starting(self) -> bool:
        """Whether a hook process is starting."""
        return self._incoming is not None and self._incoming.starting

    # Events.

    def add_event(self, event: Message) -> None:
        """Have the hooks of `event` run, after those of all earlier events. Does nothing without a hook process."""
        if not self._wanted:
            return
        if len(self._waiting) < MOST_EVENTS:
            self._waiting.append(event)
            return
        self._dropped += 1
        if self._dropped == 1:
            self._children.log(
                Level.ERROR, f"hooks fall behind: {MOST_EVENTS} events wait for the hook process, and further ones are dropped"
            )

    def on_worker_exit(self, worker: Worker, status: int | None) -> None:
        """The worker has exited. status: its wait status; None: not known. Call it before the worker's state is
        GONE."""
        if worker.pid is not None:
            # A worker that was killed has run no exit functions, even if the master has killed it.
            in_order = status == 0 or (status is None and worker.state is State.DRAINING)
            expected = in_order and worker.ending and worker.failure is None
            self.add_event(WorkerEnded(worker.slot, worker.pid, status, expected=expected))

    def on_change(self, before: int, after: int) -> None:
        """The number of workers that should run may have changed."""
        if before != after:
            self.add_event(WorkersChanged(before, after))

    def announce_ready(self) -> None:
        """All workers of the first start are ready."""
        self._announced = True
        self.add_event(ServerEvent("ready"))

    def begin_stop(self) -> None:
        """The server stops."""
        self._announced = False
        if self.started:
            self.add_event(ServerEvent("stopping"))

    def take_over(self) -> None:
        """Go on after an upgrade of the master: the server runs already."""
        self.started = self._announced = True

    def on_handled(self, number: int, now: float) -> None:
        """The process has run the hooks of its first event."""
        if self._current is not None and self._current.number == number and self._sent:
            del self._sent[0]
            self._slow_at = now + SLOW if self._sent else None

    def flush(self) -> list[tuple[int, Message]]:
        """The number of the hook process, and an event for it, for each that waits. Before an exec: the process runs
        their hooks when this master is gone."""
        if self._current is None or not self._current.ready:
            return []
        flushed, self._waiting = self._waiting, []
        self._sent += flushed
        return [(self._current.number, event) for event in flushed]

    def _send_next(self, now: float) -> None:
        if self._current is None or not self._current.ready or self._sent:
            return
        if self._waiting:
            event = self._waiting.pop(0)
            self._sent.append(event)
            self._slow_at = now + SLOW
            self._children.add_action(SendEvent(self._current.number, event))
        if self._dropped and not self._waiting:
            self._children.log(Level.WARNING, f"{counted(self._dropped, 'event')} for hooks were dropped")
            self._dropped = 0

    # The processes.

    def on_loaded(self, process: HookProcess) -> None:
        """A hook process has imported its module."""
        self.started = True
        if process is self._incoming and self._current is None:
            self._promote()

    def _promote(self) -> None:
        """Let the successor get the events."""
        self._current, self._incoming = self._incoming, None
        if self._announced:
            # It has replaced a process that has run these hooks.
            ready = ServerEvent("ready")
            self._waiting = [ready, *(event for event in self._waiting if event != ready)]

    def on_exit(self, process: HookProcess) -> str:
        """The process has ended. Returns what it was doing, to complete a sentence: " while it ran the ready
        hooks"."""
        doing = ""
        if process is self._incoming:
            self._incoming = None
        elif process is self._current:
            self._current = None
            doing = f" while it ran the {point_of(self._sent[0])} hooks" if self._sent else ""
            # Not sent again: its hooks may be the cause.
            self._sent, self._slow_at = [], None
            if self._incoming is not None and self._incoming.ready:
                self._promote()
        return doing

    def plan(self, now: float) -> None:
        """Start and retire hook processes, so that the one of the generation in use runs."""
        generation = self._rollout.hooks_generation
        if not self._wanted:
            for process in (self._current, self._incoming):
                self._retire(process, now)
            self._waiting.clear()
            self.started = True
            return
        incoming, current = self._incoming, self._current
        if incoming is not None:
            if incoming.ready:
                self._retire(current, now)
            return
        if current is not None and (current.generation == generation or current.ending):
            return
        mold = self._molds.mold_for(PRISTINE)
        if mold is not None and self._backoff.allows(now, 0):
            self._incoming = self._children.spawn_hook_process(generation, mold, now, starting=not self.started)

    def _retire(self, process: HookProcess | None, now: float) -> None:
        if process is None or process.ending:
            return
        process.failure = None  # no longer of interest
        if process.starting:
            self._children.kill(process, now)
        else:
            process.set_state(State.DRAINING, now + EXIT_SECONDS)
            self._children.add_action(RetireHooks(process.number))

    def plan_events(self, now: float) -> None:
        """Send the next event if the last one is handled. Log hooks that take long."""
        if self._slow_at is not None and self._slow_at <= now and self._current is not None:
            self._slow_at = None
            self._children.add_action(
                DumpStacks(
                    self._current.number,
                    f"{self._current.log_name()} has run the {point_of(self._sent[0])} hooks for {SLOW:g} s; "
                    f"{counted(len(self._waiting), 'later event', 'are')} waiting",
                )
            )
        self._send_next(now)

    def finish(self, now: float) -> None:
        """All children but hook processes have ended in the stop: run the `stopped` hooks, then end the hook
        process."""
        process = self._current
        if self.starting:
            self._retire(self._incoming, now)
        if process is not None and process.ready:
            if not self._finishing:
                self._finishing = True
                self._waiting.append(ServerEvent("stopped"))
                process.deadline = now + LAST_SECONDS
            if self._sent or self._waiting:
                return
            self._retire(process, now)
        elif process is None and self._waiting:
            self._children.log(Level.WARNING, f"{counted(len(self._waiting), 'event')} for hooks were dropped at the end")
            self._waiting.clear()

    def log_late(self, process: HookProcess) -> None:
        """Log that the process is killed at its deadline, which has passed."""
        what = f"the {point_of(self._sent[0])} hooks" if self._sent and process is self._current else "its exit functions"
        self._children.log(Level.WARNING, f"{process.log_name()} has not finished {what} in time: it is killed")

    def next_instant(self) -> float | None:
        """When to plan again even if nothing happens; None: never."""
        return self._slow_at


def point_of(event: Message) -> str:
    """The name of the event for the log: that of its point, with which users register hooks."""
    names = {"WorkersChanged": "workers_changed", "WorkerEnded": "worker_ended"}
    return event.point if isinstance(event, ServerEvent) else names[type(event).__name__]
