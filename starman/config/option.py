"""The declaration of one setting: its names, default, kind of value, group and help.

`starman.config.options` declares the settings in the body of a class; `OPTIONS` collects them in that order. The
master imports this module, so it must not import anything large.
"""

from __future__ import annotations

from starman.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Protocol

    from starman.config.kinds import ValueKind

    class HasValues(Protocol):
        """What a class that declares settings must have."""

        def value(self, name: str) -> object: ...


DEFAULT_SOURCE = "default"
OPTIONS: dict[str, Option] = {}
# The groups in the order of `--help` and of docs/settings.md.
GROUPS = (
    *("Application", "Listening", "TLS", "Workers", "Requests", "Connections", "Limits", "Proxies", "Logs", "Development"),
    *("Operation", "Process"),
)


class Option:
    """One setting of the table; on an instance of the class that declares it, it gives that instance's value.

    name: the name in TOML and Python; `flag` and `variable` are the other names.
    default: as an operator would write it; parsed like any value.
    group: the heading in `--help`. kind: the valid values. help: one to three sentences.
    flags: further flags of the command line ("-e", "--read-timeout").
    fixed: whether a change needs a new start; all others change at SIGHUP.
    """

    __slots__ = ("default", "fixed", "flags", "group", "help", "kind", "name")

    def __init__(
        self,
        default: object,
        group: str,
        kind: ValueKind,
        help: str,  # noqa: A002
        flags: tuple[str, ...],
        fixed: bool,
    ) -> None:
        self.name = ""
        self.fixed = fixed
        self.default = default
        self.group = group
        self.kind = kind
        self.help = help
        self.flags = flags

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        OPTIONS[name] = self

    def __get__(self, settings: HasValues | None, owner: type) -> object:
        return self if settings is None else settings.value(self.name)

    def __set__(self, settings: HasValues, value: object) -> None:
        raise AttributeError(f"Settings are frozen: {self.name} cannot be set")

    @property
    def flag(self) -> str:
        """The flag on the command line. Only the application is written without a flag."""
        return "APPLICATION" if self.positional else "--" + self.name.replace("_", "-")

    @property
    def all_flags(self) -> tuple[str, ...]:
        """Every flag of the setting: short ones first, then `flag`, then its aliases."""
        short = [flag for flag in self.flags if not flag.startswith("--")]
        return (*short, self.flag, *(flag for flag in self.flags if flag.startswith("--")))

    @property
    def variable(self) -> str:
        """The environment variable."""
        return "STARMAN_" + self.name.upper()

    @property
    def repeatable(self) -> bool:
        """Whether it may be given several times; its value is then a tuple."""
        return self.kind.repeatable

    @property
    def boolean(self) -> bool:
        """Whether it is true or false: a flag without a value, and its `--no-` form."""
        return not self.kind.metavar

    @property
    def positional(self) -> bool:
        """Whether it is the positional argument of the command line."""
        return self.name == "app"

    @property
    def default_text(self) -> str:
        """The default as an operator would write it, with its unit: "30 seconds", "1 worker", "0 (never)", "1M",
        "auto", "none"."""
        text = self.show(self.default) if not isinstance(self.default, str) else self.default or "none"
        if text == "0" and self.kind.zero:
            return f"0 ({self.kind.zero})"
        unit = self.kind.unit.removesuffix("s") if text == "1" else self.kind.unit
        return f"{text} {unit}" if unit and text.isdigit() else text

    def parse(self, value: object, source: str) -> object:
        """Check and convert `value`. `source` says where it was given (`--workers`), for the SettingError.

        None is valid only for settings with the default None.
        """
        if value is None and self.default is None:
            return None
        try:
            return self.kind.read(value)
        except ValueError as error:
            reason = str(error) or f"{_shown(value)} is not valid"
            raise SettingError(f"{source}: {reason}; {self.name} takes {self.kind.valid}") from None

    def show(self, value: object) -> str:
        """The text of a value, as an operator would write it."""
        return "none" if value is None or value in ("", ()) else self.kind.show(value)


def _shown(value: object) -> str:
    """`repr(value)`, shortened to one line."""
    try:
        text = repr(value)
    except ValueError:  # an int of thousands of digits
        return "a number that large"
    return text if len(text) <= 200 else f"{text[:100]}…{text[-20:]}"


class GivenValue:
    """A value that was given for a setting, not yet checked, and its source: "--workers", "STARMAN_WORKERS",
    "starman.toml: workers", "run(workers=...)"."""

    __slots__ = ("source", "value")

    def __init__(self, value: object, source: str) -> None:
        self.value = value
        self.source = source


def option(
    default: object,
    group: str,
    kind: ValueKind,
    help: str,  # noqa: A002
    flags: tuple[str, ...] = (),
    fixed: bool = False,
) -> Any:
    """Declare a setting in the body of a class. Returns Any, so that the annotation there can be the type of the
    value."""
    return Option(default, group, kind, help, flags, fixed)


def sort_by_group() -> None:
    """Sort OPTIONS by GROUPS. Within a group, the order of declaration stays. A new group raises ValueError."""
    ordered = sorted(OPTIONS.values(), key=lambda setting: GROUPS.index(setting.group))
    OPTIONS.clear()
    OPTIONS.update((setting.name, setting) for setting in ordered)


def nearest(name: str, valid: Iterable[str]) -> str:
    """The end of an error about an unknown name: "; did you mean 'workers'?", or "" if no valid name is close."""
    import difflib

    names = list(valid)
    longer = [known for known in names if name and known.startswith(name)]
    # --no-preload means --no-preload-app, although --no-reload is more similar.
    if len(longer) == 1:
        matches = longer
    else:
        # Without what all names begin with: of STARMAN_DEBUG and STARMAN_PID, it would be most of the text.
        stems = {_stem(known): known for known in reversed(names)}
        matches = [stems[stem] for stem in difflib.get_close_matches(_stem(name), stems, n=1, cutoff=0.65)]
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _stem(name: str) -> str:
    return name.removeprefix("STARMAN_").removeprefix("--")
