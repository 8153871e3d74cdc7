"""The kinds of values that the settings of the logs have. The master imports this module."""

from __future__ import annotations

import marshal
from collections.abc import Mapping

from starman.config.access_log_format import NAMES, read_format, valid_atoms
from starman.config.kinds import ValueKind, many
from starman.config.option import nearest
from starman.config.value_parsing import read_text
from starman.log.formats import FORMATS, LEVELS
from starman.log.syslog_target import VALID as SYSLOG
from starman.log.syslog_target import is_syslog, parse_target


def read_log(value: object) -> str:
    """A file to append to, "-", or syslog. Raises ValueError for a wrong address of syslog."""
    path = read_text(value)
    if is_syslog(path):
        parse_target(path)
    return path


def read_error_log(value: object) -> str | None:
    """As `read_log`; "-" is standard error, returned as None."""
    path = read_log(value)
    return None if path == "-" else path


def one_of(metavar: str, *words: str) -> ValueKind:
    """One of these words, in any case."""

    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        if word not in words:
            near = nearest(word, words) if word else ""
            raise ValueError(f"{value!r} is not valid{near}" if near else "")
        return word

    return ValueKind(read, f"{', '.join(words[:-1])} or {words[-1]}", metavar)


def read_path_pattern(value: object) -> str:
    """A path of a URL, not percent-encoded; with "*" at its end, all paths that begin so."""
    pattern = read_text(value)
    if not pattern.startswith("/") or "?" in pattern or "*" in pattern[:-1]:
        raise ValueError
    return pattern


def read_log_config(value: object) -> object:
    """The path of a file, or a mapping of plain data."""
    if not isinstance(value, Mapping):
        return read_text(value)
    mapping = dict(value)
    try:
        marshal.dumps(mapping)
    except ValueError:
        reason = "the mapping has objects that are not plain data: name classes as text, such as my.module.Formatter"
        raise ValueError(reason) from None
    return mapping


def show_log_config(value: object) -> str:
    """The path, or how many keys the mapping has."""
    return value if isinstance(value, str) else f"a mapping with {len(value) if isinstance(value, Mapping) else 0} keys"


LOG_CONFIG = ValueKind(read_log_config, "a file, or in TOML and Python a mapping of plain data", "FILE", show=show_log_config)
ERROR_LOG = ValueKind(read_error_log, f'a file, "-" for standard error, {SYSLOG}', "FILE")
ACCESS_LOG = ValueKind(read_log, f'a file, "-" for standard output, "off", "logging" (with log_config), {SYSLOG}', "FILE")
LEVEL = one_of("LEVEL", *LEVELS)
FORMAT = one_of("FORMAT", *FORMATS)
ACCESS_LOG_FORMAT = ValueKind(read_format, f"{', '.join(NAMES)}, or text with the atoms {valid_atoms()} and %%", "FORMAT")
PATH_PATTERNS = many(
    ValueKind(read_path_pattern, 'a path that begins with "/"; with "*" at its end, all paths that begin so', "PATH")
)
