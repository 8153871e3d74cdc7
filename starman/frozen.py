"""The checked values of settings, frozen, and where each was written: all of `Settings` but its table. Imported by the master."""

from __future__ import annotations

from starman.declaration import DEFAULT_SOURCE, Given

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self


class FrozenValues:
    """The values of every setting, by name. Any thread may read them."""

    __slots__ = ("_sources", "_values")

    _sources: dict[str, str]
    _values: dict[str, object]

    def __init__(self, given: Mapping[str, Given]) -> None:
        raise NotImplementedError

    def _agree(self) -> None:
        """Raise SettingError for values that cannot be together."""
        raise NotImplementedError

    @classmethod
    def of(cls, **given: object) -> Self:
        """Settings with these values, and defaults for all others. For tests and for callers without other sources."""
        return cls({name: Given(value, f"Settings.of({name}=...)") for name, value in given.items()})

    @classmethod
    def restored(cls, values: Mapping[str, object], sources: Mapping[str, str]) -> Self:
        """Settings from `snapshot`s. Raises SettingError for values that cannot be together."""
        settings = cls.__new__(cls)
        object.__setattr__(settings, "_sources", dict(sources))
        object.__setattr__(settings, "_values", dict(values))
        settings._agree()
        return settings

    def snapshot(self) -> tuple[dict[str, object], dict[str, str]]:
        """The value of every setting, plain data, and where those were written that are no defaults. Copies."""
        return dict(self._values), dict(self._sources)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Settings are frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self._values[name]!r}' for name in self._sources)})"

    def value(self, name: str) -> object:
        """The value of the setting `name`, which must be one."""
        return self._values[name]

    def source(self, name: str) -> str:
        """Where the value of the setting `name` was written; "default" if nowhere."""
        return self._sources.get(name, DEFAULT_SOURCE)
