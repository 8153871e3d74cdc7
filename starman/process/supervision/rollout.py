"""Roll-outs: which generations of code and settings there are, and the way from one to the next. Pure; part of the supervisor."""

from __future__ import annotations

from starman.process.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.process.supervision.slots import Slot

# The generation of the pristine mold; those of workers count from 1.
PRISTINE = 0
# That of workers which an older image of the master has left: nobody can fork another of it.
ADOPTED = -1


class Terms(Record):
    """What the supervisor has to know of a generation's settings. Times are in seconds.

    workers: how many, at least 1. preload: whether it has a mold that has loaded the application.
    batch: how many workers a roll-out of it replaces at a time. settings: all of them, for its workers (`config.revision`).
    worker_timeout: how long a loop may be silent; 0: for ever.
    """

    __slots__ = ("batch", "boot_timeout", "graceful_timeout", "preload", "settings", "worker_timeout", "workers")

    def __init__(
        self, workers: int, *, boot_timeout: float, graceful_timeout: float, preload: bool = False, batch: int = 1
    ) -> None:
        """`settings` and `worker_timeout` are set by who knows them."""
        self.workers = workers
        self.preload = preload
        self.boot_timeout = boot_timeout
        self.graceful_timeout = graceful_timeout
        self.batch = batch
        self.worker_timeout = 0.0
        self.settings = ""


class Rollout:
    """The generation in use, the one that a roll-out leads to, and their terms.

    generation: that of new slots. target: that which all slots are to have; None when there is no roll-out.
    """

    __slots__ = ("_newest", "_requested", "_terms", "generation", "target")

    def __init__(self, terms: Terms) -> None:
        self.generation = 1
        self.target: int | None = None
        self._newest = 1
        self._requested: Terms | None = None
        self._terms = {1: terms}

    def terms_of(self, generation: int) -> Terms:
        """The terms of a generation; those in use for one that has none of its own (the pristine mold's)."""
        return self._terms.get(generation) or self._terms[self.generation]

    @property
    def terms(self) -> Terms:
        """The terms in use: as long as a roll-out is not over, those from before it."""
        return self._terms[self.generation]

    @property
    def requested(self) -> bool:
        """Whether a roll-out was asked for that has not begun yet."""
        return self._requested is not None

    def request(self, terms: Terms | None) -> None:
        """Ask for a new generation on these terms; None: on those that are newest."""
        self._requested = terms or self._requested or self.terms_of(self._newest)

    def begin(self) -> bool:
        """Make the generation that was asked for the target, in place of any other. False when none was."""
        if self._requested is None:
            return False
        self._newest += 1
        self.target = self._newest
        self._terms[self._newest], self._requested = self._requested, None
        return True

    def finish(self) -> int | None:
        """All slots have the target: it is in use from now on. How many workers there shall be; None: as many as there are.

        What TTIN and TTOU have made of their number stays, unless the setting itself has changed.
        """
        assert self.target is not None
        before = self.terms.workers
        self.generation, self.target = self.target, None
        return self.terms.workers if self.terms.workers != before else None

    def give_up(self) -> None:
        """The target is not to be had."""
        if self.generation == ADOPTED and self.target is not None:
            # Who dies from now on is replaced by what there is.
            self.generation = self.target
        self.target = None

    def take_over(self, workers: int) -> None:
        """The workers are those of an older image, whose settings said `workers`, and a roll-out leads to the first of ours."""
        ours = self._terms[1]
        self._terms[ADOPTED] = Terms(workers, boot_timeout=ours.boot_timeout, graceful_timeout=ours.graceful_timeout)
        self.generation, self.target = ADOPTED, 1

    def used_generations(self, slots: Iterable[Slot]) -> set[int]:
        """The generations that a worker may have to be forked for. All others are forgotten."""
        wanted = {self.generation, self.target or self.generation}
        wanted.update(slot.generation for slot in slots)
        self._terms = {number: terms for number, terms in self._terms.items() if number in wanted}
        return wanted

    def next_slots(self, slots: Iterable[Slot]) -> list[Slot]:
        """The slots whose workers are to be replaced next: so many that no more than a batch are on their way."""
        if self.target is None or self.requested:
            return []
        slots = list(slots)
        room = self._terms[self.target].batch - sum(slot.rolling_out for slot in slots)
        # A worker that is starting is waited for, so that no slot ever has two on their way.
        ready = [slot for slot in slots if slot.incoming is None and (slot.current is None or slot.current.ready)]
        return [slot for slot in ready if slot.generation != self.target][: max(0, room)]
