"""The kinds of values that settings have: how each is parsed, checked and shown. The master imports this module.

A value is text (command line, environment) or a Python value (TOML, keyword arguments); each kind accepts both.
"""

from __future__ import annotations

import math
import os

from starman.config.addresses import parse_address
from starman.config.cpus import available_cpus
from starman.config.units import seconds_advice, size_advice
from starman.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")
# The largest whole number that a setting takes: 64 bits, as in system calls.
LARGEST = (1 << 63) - 1
# The most worker processes, for which the scoreboard has pages, and threads of each. Larger is a typing error.
MOST_WORKERS = 1024
MOST_THREADS = 10_000
SIZE_SUFFIXES = {"k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}

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


def read_field_value(value: object) -> str:
    """Text that is valid in a field of a response (RFC 9110 §5.5)."""
    read = read_text(value)
    read.encode("latin-1")
    return read


def many(kind: ValueKind) -> ValueKind:
    """Several values of `kind`, as a tuple. One value alone stands for a tuple of one."""

    def read(value: object) -> tuple[object, ...]:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(kind.read(item) for item in items)

    def show(value: object) -> str:
        return ", ".join(kind.show(item) for item in value) if isinstance(value, tuple) else str(value)

    return ValueKind(read, kind.valid, kind.metavar, kind.unit, show, repeatable=True)


def read_flag(value: object) -> bool:
    """True or False, or a word for it in any case."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ValueError


def read_whole(value: object) -> int:
    """An int, or decimal digits, no larger than LARGEST. A bool is no number."""
    if isinstance(value, str) and value.isascii() and value.removeprefix("-").isdigit():
        # The digits are counted first, because int() of thousands of digits raises an error with another text.
        number = int(value) if len(value) < 20 else -1 if value.startswith("-") else int(value.lstrip("0")[:20] or "0")
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise ValueError
    if number > LARGEST:
        raise ValueError(f"that number is too large: the largest is {LARGEST}")
    return number


def read_number(value: object) -> float:
    """An int or float, or the text of one; finite."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            raise ValueError("that number is too large: the largest is about 1.79e308") from None
    elif isinstance(value, str) and value.isascii() and "_" not in value:
        try:
            number = float(value)
        except ValueError:  # its words name neither the setting nor what is valid
            raise ValueError(seconds_advice(value)) from None
    else:
        raise ValueError
    if not math.isfinite(number):
        raise ValueError
    return number


def read_size(value: object) -> int:
    """A number of bytes: an int, or digits with an optional suffix (binary: K is 1024)."""
    if isinstance(value, str):
        digits = value.rstrip("kKmMgGiIbB \t")
        suffix = value[len(digits) :].strip().lower()
        if suffix:
            if suffix not in SIZE_SUFFIXES:
                raise ValueError(size_advice(value))
            return read_whole(read_whole(digits) * SIZE_SUFFIXES[suffix])
        return read_whole(digits)
    return read_whole(value)


def show_size(value: object) -> str:
    """The shortest exact text: 1048576 is 1M, 8190 is 8190."""
    number = read_whole(value)
    for suffix in ("G", "M", "K"):
        unit = SIZE_SUFFIXES[suffix.lower()]
        if number and number % unit == 0:
            return f"{number // unit}{suffix}"
    return str(number)


def read_text(value: object) -> str:
    """Text that is not empty and has no control characters."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, str) or not value or any(character < " " or character == "\x7f" for character in value):
        raise ValueError
    return value


def read_expression(value: object) -> str:
    """A Python expression; it may span lines."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError
    return value


def read_assignment(value: object) -> str:
    """An environment variable: NAME=VALUE. The value may be empty, or span lines."""
    if not isinstance(value, str) or value.find("=") < 1 or "\0" in value:
        raise ValueError
    return value


def read_variable(value: object) -> str:
    """The name of an environment variable."""
    if "=" in (name := read_text(value)):
        raise ValueError
    return name


def read_prefix(value: object) -> str:
    """A URL prefix: "" or "/" for none, else "/…", returned without trailing slashes."""
    if value == "":
        return ""
    prefix = read_text(value)
    if not prefix.startswith("/") or "?" in prefix or "#" in prefix:
        raise ValueError
    return prefix.rstrip("/")


def read_target(value: object) -> str:
    """The target of a request: a path, with or without a query, percent-encoded (RFC 9112 §3.2.1)."""
    target = read_text(value)
    if not target.startswith("/") or not target.isascii() or " " in target or "#" in target:
        raise ValueError
    return target


def read_path(value: object) -> str:
    """The path of a URL, not percent-encoded: "/", or "/…", returned without trailing slashes."""
    return read_prefix(read_text(value)) or "/"


def read_address(value: object) -> str:
    """The address of a listener, returned as it was written. A whole number is a port."""
    address = str(value) if isinstance(value, int) and not isinstance(value, bool) else read_text(value)
    try:
        parse_address(address)
    except SettingError as error:
        raise ValueError(str(error)) from None
    return address


def read_mode(value: object) -> int:
    """Permission bits: octal text (0660, 660, 0o660), or the number itself."""
    if isinstance(value, str):
        digits = value.removeprefix("0o")
        if not digits or digits.strip("01234567"):
            raise ValueError
        mode = int(digits, 8)
    else:
        mode = read_whole(value)
    if not 0 <= mode <= 0o777:
        raise ValueError
    return mode


def show_mode(value: object) -> str:
    return f"0{value:o}"


def read_account(value: object) -> int | str:
    """A user or group: its name, or its number, as an int."""
    if isinstance(value, str) and not value.isdigit():
        return read_text(value)
    number = read_whole(value)
    # The last number of 32 bits means "none" to the system calls.
    if not 0 <= number < 0xFFFF_FFFF:
        raise ValueError
    return number


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
