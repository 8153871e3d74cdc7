"""Parses the values of settings: each function returns the converted value, or raises ValueError.

A value is text (command line, environment) or a Python value (TOML, keyword arguments). The error has no text, or the
reason. The master imports this module, so it must not import anything large.
"""

from __future__ import annotations

import math
import os

from starman.config.addresses import parse_address
from starman.config.units import seconds_advice, size_advice
from starman.errors import SettingError

TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")
# The largest whole number that a setting takes: 64 bits, as in system calls.
LARGEST = (1 << 63) - 1
SIZE_SUFFIXES = {"k": 1 << 10, "kib": 1 << 10, "m": 1 << 20, "mib": 1 << 20, "g": 1 << 30, "gib": 1 << 30}


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


def read_field_value(value: object) -> str:
    """Text that is valid in a field of a response (RFC 9110 §5.5)."""
    read = read_text(value)
    read.encode("latin-1")
    return read


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
    """Octal text with a leading 0."""
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
