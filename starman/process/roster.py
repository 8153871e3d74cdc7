"""The roster: which workers and molds there are, and what to do next. Pure: no I/O, no os, no time.

The master reports events (`on_...`) and an operator's wishes (`restart`, `grow`, `shrink`, `stop`) with the instant at which they
happened, then performs what `plan(now)` returns. Every instant is monotonic, in seconds. One thread.
"""

from __future__ import annotations

from starman.process.actions import Announce, CloseListeners, Drain, Exit, Forget, ForkMold, GiveUp, Level, SpawnMold
from starman.process.crew import SLACK, Crew
from starman.process.deaths import Deaths
from starman.process.members import Backoff, Member, Mold, Phase, Slot, State, Worker
from starman.process.outlook import Outlook
from starman.process.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.actions import Action

# The generation of the pristine mold; those of workers count from 1.
PRISTINE = 0
# Asked for and not yet forked, at most: descriptors in flight and a mold's queue have limits of their own.
MOST_ASKED = 32
# Hazard 8: Ctrl-C and a supervisor's TERM may both arrive; a stop signal is the second one only when this many seconds
# lie between them.
SECOND_STOP = 1.0


class Roster:
    """The bookkeeping of one server's workers and molds."""

    __slots__ = (
        "_backoff",
        "_crew",
        "_deaths",
        "_generation",
        "_mold_backoff",
        "_molds",
        "_newest",
        "_preload",
        "_restart_asked",
        "_slots",
        "_status",
        "_stopped_at",
        "_target",
        "phase",
        "watch",
    )

    def __init__(
        self, workers: int, *, preload: bool, boot_timeout: float, graceful_timeout: float, worker_timeout: float = 0.0
    ) -> None:
        """`workers` is at least 1. With `preload` each generation has a mold that has loaded the application."""
        self.phase = Phase.STARTING
        self._preload = preload
        self._crew = Crew(boot_timeout, graceful_timeout)
        self.watch = Watch(self._crew, worker_timeout)
        self._slots = {number: Slot(number, 1) for number in range(1, workers + 1)}
        # By generation: those that may still be asked to fork. The crew has the retired ones too.
        self._molds: dict[int, Mold] = {}
        # The generation of new slots, the last one that was begun, and the one that a roll-out leads to, if any.
        self._generation = 1
        self._newest = 1
        self._target: int | None = None
        self._restart_asked = False
        self._backoff = Backoff()
        self._mold_backoff = Backoff()
        self._deaths = Deaths(self._crew, self._backoff, self._mold_backoff)
        self._stopped_at = 0.0
        self._status = 0

    # What the master reports.

    def on_spawned(self, number: int, pid: int) -> None:
        """The member exists, as process `pid`."""
        member = self._crew.find(number)
        if member is None:
            return
        member.pid = pid
        if member.state is State.ASKED:
            member.move(State.BOOTING, member.deadline)
        elif member.state is State.DRAINING:
            # The order to drain came before there was a process to give it to.
            self._crew.order(Drain(number))

    def on_ready(self, number: int, now: float) -> None:
        """A worker accepts connections, or a mold has loaded what it should."""
        member = self._crew.find(number)
        if member is None:
            return
        if member.state is State.DRAINING:
            # It became ready before it saw the order to drain, so it may have requests to finish after all.
            member.deadline = now + self._crew.graceful_timeout + SLACK
        if member.state is not State.BOOTING:
            return
        member.move(State.READY)
        member.ready_at = now
        if isinstance(member, Worker):
            self._backoff.passed()
            self._take_charge(member, now)
        else:
            self._mold_backoff.passed()

    def _take_charge(self, worker: Worker, now: float) -> None:
        """Only now that the new worker is ready does the old one go."""
        slot = self._slots[worker.slot]
        if slot.incoming is worker:
            old, slot.current, slot.incoming = slot.current, worker, None
            slot.generation = worker.generation
            if old is not None:
                self._crew.drain(old, now)

    def on_spent(self, number: int, reason: str) -> None:
        """A worker is to be replaced, and serves until another is ready. `reason` completes a sentence."""
        worker = self._crew.find(number)
        if isinstance(worker, Worker) and worker.ready and not worker.spent:
            worker.spent = True
            self._crew.say(Level.INFO, f"{worker.title()} is replaced: {reason}")

    def on_draining(self, number: int, now: float, reason: str = "") -> None:
        """A worker has begun to drain; when it was not told to, its slot gets another at once. `reason` as above, when it was the
        worker's own decision; else ""."""
        worker = self._crew.find(number)
        if isinstance(worker, Worker) and worker.ready:
            worker.move(State.DRAINING, now + self._crew.graceful_timeout + SLACK)
            self._slots[worker.slot].leave(worker)
            if reason:
                self._crew.say(Level.INFO, f"{worker.title()} is replaced: {reason}")
            else:
                self._deaths.left(worker, now)

    def on_failed(self, number: int, message: str, details: str, now: float) -> None:
        """A member has said that it cannot start. Its end follows."""
        member = self._crew.find(number)
        if member is not None and member.starting:
            member.failure = message, details
            if self.phase is Phase.STARTING:
                self._give_up(message, details, now)

    def on_gone(self, number: int, how: str, now: float) -> None:
        """The process has ended; `how` completes a sentence: "was killed by SIGKILL"."""
        member = self._crew.find(number)
        if member is None:
            return
        expected = member.ending and member.failure is None
        self._crew.dismiss(member)
        fatal = self._leave(member)
        if self.phase is Phase.STOPPING or expected:
            return
        if self.phase is Phase.STARTING:
            self._give_up(*member.reason(how), now)
        elif fatal:
            reason, details = member.reason(how)
            self._target = None
            self._crew.say(Level.ERROR, f"restart given up, the old workers stay: {reason}", details)
        else:
            self._deaths.report(member, how, now)

    def _leave(self, member: Member) -> bool:
        """Take `member` from its place. True when a roll-out depends on it."""
        if isinstance(member, Worker):
            slot = self._slots.get(member.slot)
            if slot is None:
                return False
            rolls = slot.rolls and slot.incoming is member
            slot.leave(member)
            return rolls
        if self._molds.get(member.generation) is not member:
            return False
        del self._molds[member.generation]
        return member.generation == self._target and member.ready_at is None

    # What an operator wishes.

    def restart(self) -> None:
        """Roll out fresh code, one worker at a time; during a roll-out: begin anew after its current step."""
        if self.phase is not Phase.STOPPING:
            self._restart_asked = True

    def grow(self) -> None:
        """One worker more."""
        if self.phase is not Phase.STOPPING:
            number = max(self._slots) + 1
            self._slots[number] = Slot(number, self._generation)
            self._crew.say(Level.INFO, f"one worker more: {len(self._slots)}")

    def shrink(self, now: float) -> None:
        """One worker less, the last; never below one."""
        if self.phase is Phase.STOPPING:
            return
        if len(self._slots) == 1:
            self._crew.say(Level.WARNING, "one worker is the least")
            return
        slot = self._slots.pop(max(self._slots))
        for worker in (slot.current, slot.incoming):
            if worker is not None:
                self._crew.drain(worker, now)
        self._crew.say(Level.INFO, f"one worker less: {len(self._slots)}")

    def stop(self, now: float) -> None:
        """End gracefully; asked again a second later, at once."""
        if self.phase is not Phase.STOPPING:
            self._crew.say(Level.INFO, f"stopping: what is in flight may take {self._crew.graceful_timeout:g} s to finish")
            self._begin_stop(now)
        elif now - self._stopped_at >= SECOND_STOP:
            if any(worker.state is not State.CUT for worker in self._crew.workers()):
                self._crew.say(Level.WARNING, "stopping at once: what is in flight is cut")
                self._status = 1
            for member in self._crew:
                if member.state is not State.CUT:
                    self._crew.cut(member, now)

    def outlook(self) -> Outlook:
        """How the server is."""
        restarting = self._target is not None or self._restart_asked
        ready = sum(_is_ready(slot.current) for slot in self._slots.values())
        return Outlook(self.phase, restarting=restarting, ready=ready, wanted=len(self._slots))

    # What to do.

    def plan(self, now: float) -> list[Action]:
        """What follows, at the instant `now`, from all that was reported. Each action is returned once, and is to be
        performed in order."""
        self._expire(now)
        if self.phase is not Phase.STOPPING:
            self._plan_molds(now)
            self._plan_rollout(now)
            self._plan_slots(now)
            if self.phase is Phase.STARTING and all(_is_ready(slot.current) for slot in self._slots.values()):
                self.phase = Phase.RUNNING
                self._crew.order(Announce(len(self._slots)))
        elif not self._crew:
            self._crew.order(Exit(self._status))
        return self._crew.take_orders()

    def next_instant(self, now: float) -> float | None:
        """When `plan` has to be asked again even if nothing happens; None for never."""
        instants = [backoff.not_before for backoff in (self._backoff, self._mold_backoff) if backoff.not_before > now]
        instants += [instant for instant in (self._crew.next_deadline(), self.watch.next_instant()) if instant is not None]
        return min(instants, default=None)

    def _expire(self, now: float) -> None:
        """Deal with the members whose state has lasted too long."""
        for member in self._crew:
            if member.deadline is None or member.deadline > now:
                continue
            if member.state is State.CUT:
                self._crew.order(Forget(member.number))
                self.on_gone(member.number, "was killed", now)
                continue
            if isinstance(member, Worker) and not member.starting:
                late = "is not heard again" if member.silent else "did not end in time"
                self._crew.say(Level.WARNING, f"{member.title()} {late}: what it had in flight is cut")
                if self.phase is Phase.STOPPING:
                    self._status = 1
            elif member.starting:
                timeout = f"it was not ready within {self._crew.boot_timeout:g} s (boot_timeout)"
                member.failure = member.failure or (timeout, "")
            self._crew.cut(member, now)
            if member.failure is not None and self.phase is Phase.STARTING:
                self._give_up(*member.reason(""), now)

    def _plan_molds(self, now: float) -> None:
        """One pristine mold, and with preload one for each generation that a slot may need."""
        wanted = {PRISTINE}
        if self._preload:
            wanted.update({self._generation, self._target or self._generation})
            wanted.update(slot.generation for slot in self._slots.values())
        for generation in self._molds.keys() - wanted:
            self._crew.retire(self._molds.pop(generation), now)
        pristine = self._molds.get(PRISTINE)
        for generation in sorted(wanted - self._molds.keys()):
            starting = sum(mold.starting for mold in self._molds.values())
            if not self._mold_backoff.allows(now, starting):
                return
            if generation == PRISTINE:
                self._molds[generation] = mold = self._crew.add_mold(generation, now)
                self._crew.order(ForkMold(mold.number))
            elif pristine is not None and pristine.ready:
                self._molds[generation] = mold = self._crew.add_mold(generation, now)
                self._crew.order(SpawnMold(mold.number, generation, pristine.number))

    def _plan_rollout(self, now: float) -> None:
        """Take the next step of a roll-out: a worker of the new code must be ready before the next slot has its turn."""
        if any(slot.rolls for slot in self._slots.values()):
            return
        if self._restart_asked and self.phase is Phase.RUNNING:
            self._restart_asked = False
            self._newest += 1
            self._target = self._newest
            # Fresh code deserves a fresh attempt.
            self._mold_backoff.reset()
            self._plan_molds(now)
        if self._target is None:
            return
        behind = [slot for slot in self._slots.values() if slot.generation != self._target]
        mold = self._mold_of(self._target)
        if not behind:
            self._generation, self._target = self._target, None
            count = len(self._slots)
            self._crew.say(Level.INFO, f"restarted: {count} {'worker is' if count == 1 else 'workers are'} new")
            self._plan_molds(now)
        elif mold is not None:
            # A worker that is starting is waited for, so that no slot ever has two on their way.
            free = [slot for slot in behind if slot.incoming is None]
            slot = next((slot for slot in free if slot.current is None or slot.current.ready), None)
            if slot is not None:
                slot.incoming = self._crew.spawn(slot, self._target, mold, now)

    def _plan_slots(self, now: float) -> None:
        """Fill the slots that have no worker, or one that is spent."""
        asked = sum(worker.state is State.ASKED for worker in self._crew.workers())
        starting = sum(worker.starting for worker in self._crew.workers())
        for slot in self._slots.values():
            mold = self._mold_of(slot.generation)
            if mold is None or not slot.wants:
                continue
            if asked >= MOST_ASKED or not self._backoff.allows(now, starting):
                return
            slot.expect(self._crew.spawn(slot, slot.generation, mold, now))
            asked += 1
            starting += 1

    def _mold_of(self, generation: int) -> Mold | None:
        """The mold to fork a worker of that generation from; None when it cannot fork now."""
        mold = self._molds.get(generation if self._preload else PRISTINE)
        return mold if _is_ready(mold) else None

    def _begin_stop(self, now: float) -> None:
        self.phase = Phase.STOPPING
        self._stopped_at = now
        self._crew.order(CloseListeners())
        for member in self._crew:
            if isinstance(member, Worker):
                self._crew.drain(member, now)
            elif isinstance(member, Mold):
                self._crew.retire(member, now)

    def _give_up(self, reason: str, details: str, now: float) -> None:
        """Only once: further failures of the same start come in the phase STOPPING, and say nothing new."""
        self._status = 1
        self._crew.order(GiveUp(reason, details))
        self._begin_stop(now)


def _is_ready(member: Member | None) -> bool:
    return member is not None and member.ready
