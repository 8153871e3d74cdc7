"""The slots of a supervisor: one for each worker that should run, numbered from 1. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from starman.process.supervision.child import Worker


class Slot:
    """A numbered place for one worker.

    generation: the code and settings of its next worker. current: the worker in charge, starting or ready. incoming: a
    worker that starts and replaces `current` when it is ready: in a roll-out, or because `current` is to be replaced.
    """

    __slots__ = ("current", "generation", "incoming", "number")

    def __init__(self, number: int, generation: int) -> None:
        self.number = number
        self.generation = generation
        self.current: Worker | None = None
        self.incoming: Worker | None = None

    def remove_worker(self, worker: Worker) -> None:
        """Remove `worker` if it is in this slot."""
        if self.current is worker:
            self.current = None
        if self.incoming is worker:
            self.incoming = None

    @property
    def needs_worker(self) -> bool:
        """Whether to start a worker of this generation: none is starting, and the slot is empty or its worker is to be
        replaced."""
        return self.incoming is None and (self.current is None or (self.current.to_replace and self.current.ready))

    @property
    def rolling_out(self) -> bool:
        """Whether a worker of another generation is starting: a step of a roll-out."""
        return self.incoming is not None and self.incoming.generation != self.generation

    def add_worker(self, worker: Worker) -> None:
        """Add `worker`, which was requested for this slot."""
        if self.current is None:
            self.current = worker
        else:
            self.incoming = worker


class Slots:
    """All slots, in the order of their numbers."""

    __slots__ = ("_slots",)

    def __init__(self, count: int, generation: int) -> None:
        """Create `count` empty slots for workers of this generation."""
        self._slots = {number: Slot(number, generation) for number in range(1, count + 1)}

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots.values())

    def __len__(self) -> int:
        return len(self._slots)

    def find_slot(self, number: int) -> Slot | None:
        """The slot with this number; None if it was removed."""
        return self._slots.get(number)

    def add_slot(self, generation: int) -> None:
        """Add an empty slot at the end, for a worker of this generation."""
        number = len(self._slots) + 1
        self._slots[number] = Slot(number, generation)

    def remove_last(self) -> Slot:
        """Remove the last slot and return it."""
        return self._slots.pop(len(self._slots))

    @property
    def ready_count(self) -> int:
        """How many slots have a worker that serves."""
        return sum(slot.current is not None and slot.current.ready for slot in self)
