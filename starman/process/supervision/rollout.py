"""Roll-outs: the generations of code and settings, and the steps from one to the next. Pure; part of the supervisor.

A generation is the code and settings that a start or a restart brings. A roll-out replaces all workers by workers of a
newer generation, a batch at a time.
"""

from __future__ import annotations

from starman.process.value_class import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.process.supervision.slots import Slot

# The generation of the pristine mold. Generations of workers count from 1.
PRISTINE = 0
# The generation of workers from before an upgrade of the master: no mold can fork another one.
ADOPTED = -1


class Terms(Record):
    """The settings of one generation that the supervisor needs. Times are in seconds.

    workers: how many, at least 1. preload: whether the generation has a mold that has loaded the application. batch:
    how many workers its roll-out replaces at a time. settings: all settings, encoded for its workers
    (`config.revision`). worker_timeout: how long an event loop may be silent; 0: no limit. hooks: whether the
    generation has a hook process. reload: whether the server replaces workers when files change, so that one that dies
    at the first start waits for a change.
    """

    __slots__ = (
        *("batch", "boot_timeout", "graceful_timeout", "hooks", "preload", "reload", "settings", "worker_timeout"),
        "workers",
    )

    def __init__(
        self, workers: int, *, boot_timeout: float, graceful_timeout: float, preload: bool = False, batch: int = 1
    ) -> None:
        """The caller sets `settings`, `worker_timeout`, `hooks` and `reload` afterwards."""
        self.workers = workers
        self.preload = preload
        self.boot_timeout = boot_timeout
        self.graceful_timeout = graceful_timeout
        self.batch = batch
        self.worker_timeout = 0.0
        self.reload = False
        self.settings = ""
        self.hooks = False


class Rollout:
    """The generation in use, the target of a roll-out, and the terms of both.

    generation: the one of new slots. target: the generation that all slots are to have; None: no roll-out is under
    way.
    """

    __slots__ = ("_newest", "_requested", "_terms", "generation", "target")

    def __init__(self, terms: Terms) -> None:
        self.generation = 1
        self.target: int | None = None
        self._newest = 1
        self._requested: Terms | None = None
        self._terms = {1: terms}

    def terms_of(self, generation: int) -> Terms:
        """The terms of a generation. The pristine mold has no terms of its own: its terms are those in use."""
        return self._terms.get(generation) or self._terms[self.generation]

    @property
    def terms(self) -> Terms:
        """The terms in use: until a roll-out has finished, the terms from before it."""
        return self._terms[self.generation]

    @property
    def hooks_generation(self) -> int:
        """The generation whose hook process should run: the one in use. After an upgrade, its target at once, because
        the old hook process has ended."""
        return self.target or self.generation if self.generation == ADOPTED else self.generation

    @property
    def requested(self) -> bool:
        """Whether a roll-out was requested that has not begun."""
        return self._requested is not None

    def request(self, terms: Terms | None) -> None:
        """Request a new generation on these terms; None: on the newest terms."""
        self._requested = terms or self._requested or self.terms_of(self._newest)

    def begin(self) -> bool:
        """Make the requested generation the target, in place of any other. Returns False when none was requested."""
        if self._requested is None:
            return False
        self._newest += 1
        self.target = self._newest
        self._terms[self._newest], self._requested = self._requested, None
        return True

    def finish(self) -> int | None:
        """Put the target into use: all slots have it. Returns the new number of workers; None: the number stays.

        A number that TTIN and TTOU have changed stays, unless the setting itself has changed.
        """
        assert self.target is not None
        before = self.terms.workers
        self.generation, self.target = self.target, None
        return self.terms.workers if self.terms.workers != before else None

    def renew(self) -> int | None:
        """Put a new generation into use at once, on the newest terms. Returns as `finish` does."""
        self.request(None)
        self.begin()
        return self.finish()

    def give_up(self) -> None:
        """Drop the target: it cannot be started."""
        if self.generation == ADOPTED and self.target is not None:
            # There is no mold of the old generation, so a worker that dies is replaced by one of the target.
            self.generation = self.target
        self.target = None

    def take_over(self, workers: int) -> None:
        """Begin a roll-out to the first generation, after an upgrade of the master. The present workers come from
        before the upgrade, when the settings said `workers`."""
        ours = self._terms[1]
        self._terms[ADOPTED] = Terms(workers, boot_timeout=ours.boot_timeout, graceful_timeout=ours.graceful_timeout)
        self.generation, self.target = ADOPTED, 1

    def used_generations(self, slots: Iterable[Slot]) -> set[int]:
        """The generations that workers may be forked for. The terms of all others are dropped."""
        wanted = {self.generation, self.target or self.generation}
        wanted.update(slot.generation for slot in slots)
        self._terms = {number: terms for number, terms in self._terms.items() if number in wanted}
        return wanted

    def next_slots(self, slots: Iterable[Slot]) -> list[Slot]:
        """The slots that get a new worker next, so that no more than a batch of workers are starting."""
        if self.target is None or self.requested:
            return []
        slots = list(slots)
        room = self._terms[self.target].batch - sum(slot.rolling_out for slot in slots)
        # Leave out slots with a starting worker, so that no slot ever has two of them.
        ready = [slot for slot in slots if slot.incoming is None and (slot.current is None or slot.current.ready)]
        return [slot for slot in ready if slot.generation != self.target][: max(0, room)]
