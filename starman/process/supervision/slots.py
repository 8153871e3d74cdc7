"""The slots of a supervisor: as many as there shall be workers, numbered from 1. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from starman.process.supervision.child import Worker


class Slot:
    """A worker's place.

    generation: what its next worker runs. current: the worker in charge, starting or ready. incoming: the starting worker that
    takes over once it is ready, from a worker of old code (a roll-out) or from one that is spent.
    """

    __slots__ = ("current", "generation", "incoming", "number")

    def __init__(self, number: int, generation: int) -> None:
        self.number = number
        self.generation = generation
        self.current: Worker | None = None
        self.incoming: Worker | None = None

    def remove_worker(self, worker: Worker) -> None:
        """`worker` is in charge here no longer, if it was."""
        if self.current is worker:
            self.current = None
        if self.incoming is worker:
            self.incoming = None

    @property
    def needs_worker(self) -> bool:
        """Whether a worker of its generation is to be started: nobody is on the way, and nobody is here, or one who is spent."""
        return self.incoming is None and (self.current is None or (self.current.to_replace and self.current.ready))

    @property
    def rolling_out(self) -> bool:
        """Whether a worker of another generation is on its way: the step of a roll-out."""
        return self.incoming is not None and self.incoming.generation != self.generation

    def add_worker(self, worker: Worker) -> None:
        """`worker` was ordered for this slot."""
        if self.current is None:
            self.current = worker
        else:
            self.incoming = worker


class Slots:
    """All slots, in the order of their numbers."""

    __slots__ = ("_slots",)

    def __init__(self, count: int, generation: int) -> None:
        """So many empty ones, for workers of that generation."""
        self._slots = {number: Slot(number, generation) for number in range(1, count + 1)}

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def __len__(self) -> int:
        return len(self._slots)

    def find_slot(self, number: int) -> Slot | None:
        """The slot of that number; None when there is none any more."""
        return self._slots.get(number)

    def add_slot(self, generation: int) -> None:
        """One more, empty, for a worker of that generation."""
        number = len(self._slots) + 1
        self._slots[number] = Slot(number, generation)

    def remove_last(self) -> Slot:
        """One less: the last."""
        return self._slots.pop(len(self._slots))

    @property
    def ready_count(self) -> int:
        """How many have a worker that serves."""
        return sum(slot.current is not None and slot.current.ready for slot in self)
