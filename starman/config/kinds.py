"""The kinds of values that settings have: what is valid, in words, and how each is parsed and shown.

A value is text (command line, environment) or a Python value (TOML, keyword arguments); each kind accepts both. The
master imports this module, so it must not import anything large.
"""

from __future__ import annotations

import math

from starman.config.cpus import available_cpus
from starman.config.value_parsing import (
    LARGEST,
    read_account,
    read_address,
    read_assignment,
    read_expression,
    read_field_value,
    read_flag,
    read_mode,
    read_number,
    read_path,
    read_prefix,
    read_size,
    read_target,
    read_text,
    read_variable,
    read_whole,
    show_mode,
    show_size,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The most worker processes, for which the scoreboard has pages, and threads of each. Larger is a typing error.
MOST_WORKERS = 1024
MOST_THREADS = 10_000

# Stands for "auto" in settings where each worker determines the value itself.
AUTO = -1


class ValueKind:
    """One kind of value.

    read(value): returns the converted value, or raises ValueError, without text or with the reason.
    valid: the valid values in words. metavar: the placeholder in the help; "" for a flag without a value.
    unit: a plural noun that ends in "s", or "bytes per second", or "".
    show(value): the text that `read` converts to the same value.
    repeatable: whether the value is a tuple of values.
    most: the largest number, infinite for seconds, of which every finite number is valid; None for other kinds.
    zero: what 0 means, such as "never"; "" if 0 is an ordinary value, or if the help says it.
    """

    __slots__ = ("metavar", "most", "read", "repeatable", "show", "unit", "valid", "zero")

    most: float | None

    def __init__(
        self,
        read: Callable[[object], object],
        valid: str,
        metavar: str,
        unit: str = "",
        show: Callable[[object], str] = str,
        repeatable: bool = False,
    ) -> None:
        self.read = read
        self.valid = valid
        self.metavar = metavar
        self.unit = unit
        self.show = show
        self.repeatable = repeatable
        self.most = None
        self.zero = ""

    def up_to(self, most: float) -> ValueKind:
        """The same kind, of numbers of which `most` is the largest."""
        self.most = most
        return self

    def with_zero(self, meaning: str) -> ValueKind:
        """The same kind, where 0 means `meaning`."""
        self.zero = meaning
        return self


def whole(least: int, most: int | None = None, metavar: str = "N", unit: str = "") -> ValueKind:
    """A whole number from `least` to `most` (None: LARGEST)."""

    def read(value: object) -> int:
        try:
            number = read_whole(value)
        except ValueError:
            if most is None:
                raise
            raise ValueError from None  # the bounds say more
        if number < least or (most is not None and number > most):
            raise ValueError
        return number

    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
    return ValueKind(read, f"a whole number, {bounds}", metavar, unit).up_to(LARGEST if most is None else most)


def size(least: int, unit: str = "bytes") -> ValueKind:
    """A number of bytes (or of "bytes per second", as `unit`), at least `least`; as text also with a suffix: 64K, 1M,
    1G, 64KiB, 1MiB, 1GiB."""

    def read(value: object) -> int:
        number = read_size(value)
        if number < least:
            raise ValueError
        return number

    return ValueKind(
        read, f"a number of {unit}, at least {least}, or with a suffix: 64K, 1M, 1G", "BYTES", unit, show_size
    ).up_to(LARGEST)


def or_auto(kind: ValueKind) -> ValueKind:
    """As `kind`, or "auto", which is read as AUTO."""

    def read(value: object) -> object:
        return AUTO if isinstance(value, str) and value.lower() == "auto" else kind.read(value)

    def show(value: object) -> str:
        return "auto" if value == AUTO else kind.show(value)

    return ValueKind(read, f'{kind.valid}, or "auto"', kind.metavar, kind.unit, show)


def seconds(zero: bool) -> ValueKind:
    """A finite number of seconds, as a float. `zero` says whether 0 is valid."""

    def read(value: object) -> float:
        number = read_number(value)
        if number < 0 or (number == 0 and not zero):
            raise ValueError
        return number

    bounds = "at least 0" if zero else "more than 0"
    return ValueKind(read, f"a number of seconds, {bounds}", "SECONDS", "seconds", lambda value: f"{value:g}").up_to(math.inf)


def text(valid: str, metavar: str) -> ValueKind:
    """Any text that is not empty and has no control characters. A path object counts as its text."""
    return ValueKind(read_text, valid, metavar)


def choice(*valid: str) -> ValueKind:
    """One of these words, in lower or upper case."""

    def read(value: object) -> str:
        word = value.lower() if isinstance(value, str) else ""
        if word not in valid:
            raise ValueError
        return word

    return ValueKind(read, f"{', '.join(valid[:-1])} or {valid[-1]}", "|".join(valid))


def many(kind: ValueKind) -> ValueKind:
    """Several values of `kind`, as a tuple. One value alone stands for a tuple of one."""

    def read(value: object) -> tuple[object, ...]:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(kind.read(item) for item in items)

    def show(value: object) -> str:
        return ", ".join(kind.show(item) for item in value) if isinstance(value, tuple) else str(value)

    return ValueKind(read, kind.valid, kind.metavar, kind.unit, show, repeatable=True)


_SOME_WORKERS = whole(1, MOST_WORKERS)


def read_workers(value: object) -> object:
    """A number of worker processes. "auto": one per CPU, at least two, because a single worker would pause at each
    restart."""
    if isinstance(value, str) and value.lower() == "auto":
        return max(2, available_cpus())
    return _SOME_WORKERS.read(value)


FLAG = ValueKind(read_flag, "true or false", "", show=lambda value: "true" if value else "false")
WORKERS = ValueKind(read_workers, f'a whole number, from 1 to {MOST_WORKERS}, or "auto"', "N", "processes").up_to(MOST_WORKERS)
THREADS = whole(0, MOST_THREADS, unit="threads")
# listen(2) takes an int of C.
BACKLOG = whole(1, (1 << 31) - 1, unit="connections")
LISTEN = ValueKind(
    read_address, "HOST:PORT, :PORT, [IPv6]:PORT, *:PORT (each also with :ssl), a UNIX path, @NAME or fd://N", "ADDRESS"
)
MODE = ValueKind(read_mode, "permission bits in octal, as 0660", "MODE", show=show_mode)
USER = ValueKind(read_account, "a user's name or number", "USER")
GROUP = ValueKind(read_account, "a group's name or number", "GROUP")
EXPRESSION = ValueKind(read_expression, "a Python expression", "EXPR")
ASSIGNMENTS = many(ValueKind(read_assignment, "NAME=VALUE", "NAME=VALUE"))
VARIABLES = many(ValueKind(read_variable, "the name of an environment variable", "NAME"))
PREFIX = ValueKind(read_prefix, 'a path that begins with "/"', "PREFIX")
PATHS = many(ValueKind(read_path, 'a path that begins with "/"', "PATH"))
SERVER_HEADER = ValueKind(read_field_value, 'a product such as "starman", or "off"', "PRODUCT")
DIRECTORIES = many(text("a directory", "DIR"))
TARGETS = many(ValueKind(read_target, 'a path that begins with "/", percent-encoded, with or without a query', "PATH"))
MODULES = many(text("the name of a module", "MODULE"))
ANY_SECONDS = seconds(zero=True)
SOME_SECONDS = seconds(zero=False)
