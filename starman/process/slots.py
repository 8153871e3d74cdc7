"""The slots of a roster: as many as there shall be workers, numbered from 1. Pure."""

from __future__ import annotations

from starman.process.members import Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


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

    def find(self, number: int) -> Slot | None:
        """The slot of that number; None when there is none any more."""
        return self._slots.get(number)

    def add(self, generation: int) -> None:
        """One more, empty, for a worker of that generation."""
        number = len(self._slots) + 1
        self._slots[number] = Slot(number, generation)

    def pop(self) -> Slot:
        """One less: the last."""
        return self._slots.pop(len(self._slots))

    @property
    def ready(self) -> int:
        """How many have a worker that serves."""
        return sum(slot.current is not None and slot.current.ready for slot in self)
