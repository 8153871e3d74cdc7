"""Record: the base of this room's small value classes. Imports nothing.

`dataclasses` would bring `inspect` and 2.6 MB into the master, so the few lines that the room needs of it stand here.
"""

from __future__ import annotations


class Record:
    """A value: equal when the class and every slot are equal, and printed with both. Complete before it is
    compared or hashed, for both go by its values."""

    __slots__: tuple[str, ...] = ()

    def _items(self) -> list[tuple[str, object]]:
        names = [name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())]
        return [(name, getattr(self, name)) for name in names]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and type(other) is type(self) and other._items() == self._items()

    def __hash__(self) -> int:
        return hash((type(self), *self._items()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._items())})"
