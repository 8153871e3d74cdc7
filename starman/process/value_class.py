"""Record: the base of the small value classes of process/. Imports nothing.

`dataclasses` would import `inspect` and cost the master 2.6 MB, so this module has the few lines that are needed.
"""

from __future__ import annotations


class Record:
    """A value: equal when the class and every slot are equal, and printed with both. Set all slots before it is
    compared or hashed."""

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
