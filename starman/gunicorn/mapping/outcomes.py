"""What became of each setting of gunicorn: its value in starman, or the reason why it has none."""

from __future__ import annotations

import enum

from starman.config.option import OPTIONS, GivenValue
from starman.gunicorn.configuration import DEFAULT, PLATFORM_DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.gunicorn.configuration import Resolved


class Fate(enum.Enum):
    """What became of a setting."""

    MAPPED = "mapped"
    HARMLESS = "harmless"
    UNSUPPORTED = "not supported"
    REFUSED = "refused"


class Outcome:
    """What became of one setting of gunicorn. text: the settings of starman ("workers = 4"), or the reason."""

    __slots__ = ("fate", "name", "source", "text", "value")

    def __init__(self, name: str, value: object, source: str, fate: Fate, text: str) -> None:
        self.name = name
        self.value = shown(value)
        self.source = source
        self.fate = fate
        self.text = text


class Outcomes:
    """Collects the settings of starman, and what became of those of gunicorn.

    given: the settings of starman that were given. defaults: those that follow from gunicorn's defaults, and from the
    variables that replace these. further: the settings of starman that no setting of gunicorn stands for, as text with
    the source. warnings: what differs from gunicorn, a line each. refusals: why the server must not start.
    """

    __slots__ = ("_resolved", "_used", "defaults", "found", "further", "given", "refusals", "warnings")

    def __init__(self, resolved: Resolved) -> None:
        self._resolved = resolved
        self.given: dict[str, GivenValue] = {}
        self.defaults: dict[str, GivenValue] = {}
        self.found: list[Outcome] = []
        self._used: set[str] = set()
        self.further: dict[str, tuple[str, str]] = {}
        self.warnings: list[str] = list(resolved.notes)
        self.refusals: list[str] = []

    def use(self, name: str, **settings: object) -> None:
        """The setting `name` of gunicorn has become these settings of starman. A setting that starman does not have is
        not supported."""
        missing = [setting for setting in settings if setting not in OPTIONS]
        if missing:
            self.cannot(name, f"starman has no {' and no '.join(missing)} yet")
            return
        source = self._resolved.values[name].source
        layer = self.defaults if source == DEFAULT or source in PLATFORM_DEFAULTS else self.given
        for setting, value in settings.items():
            layer[setting] = GivenValue(value, source)
            self.further.pop(setting, None)
            self._used.add(setting)
        self._add(
            name,
            Fate.MAPPED,
            ", ".join(f"{setting} = {_shown_as(setting, value, source)}" for setting, value in settings.items()),
        )

    def also(self, setting: str, value: object, source: str) -> None:
        """Give a setting of starman that no single setting of gunicorn stands for, if starman has it."""
        if setting not in OPTIONS:
            return
        (self.defaults if source == DEFAULT else self.given)[setting] = GivenValue(value, source)
        if setting not in self._used:
            self.further[setting] = f"{setting} = {_shown_as(setting, value, source)}", source

    def ignore(self, name: str, reason: str) -> None:
        """The setting `name` has no effect, and needs none."""
        self._add(name, Fate.HARMLESS, reason)

    def cannot(self, name: str, reason: str) -> None:
        """The setting `name` has no effect: warn."""
        self._add(name, Fate.UNSUPPORTED, reason)
        self.warnings.append(f"{self._resolved.values[name].source} has no effect: {reason}")

    def refuse(self, name: str, reason: str) -> None:
        """The server must not start with this value of the setting `name`."""
        self._add(name, Fate.REFUSED, reason)
        self.refusals.append(f"{self._resolved.values[name].source}: {reason}")

    def warn(self, name: str, text: str) -> None:
        """Warn of something in which a mapped setting differs."""
        self.warnings.append(f"{self._resolved.values[name].source}: {text}")

    def _add(self, name: str, fate: Fate, text: str) -> None:
        value = self._resolved.values[name]
        self.found.append(Outcome(name, value.value, value.source, fate, text))


def _shown_as(setting: str, value: object, source: str) -> str:
    option = OPTIONS[setting]
    return " ".join(option.show(option.parse(value, source)).split())


def shown(value: object) -> str:
    """The text of a value of gunicorn, on one line."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(shown, value))
    if callable(value):
        return f"<{getattr(value, '__qualname__', None) or type(value).__qualname__}>"
    return " ".join(str(value).split())
