"""A custom format: literal text and atoms, compiled once into functions that take the values from a request. Any
thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starman.config.access_log_format import Atom, is_json, parse_format
from starman.serving.access_log.atoms import getter_of
from starman.serving.access_log.escaping import escape_all, json_string
from starman.serving.access_log.line_format import LineFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.access_log.atoms import Getter
    from starman.serving.access_log.logged_request import LoggedRequest

# What stands for a value that is missing, as in gunicorn; null where a JSON value is missing.
_MISSING: Final = "-"


# What a value may contain without being escaped, in a text and in a JSON string.
_PLAIN: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')


class CustomFormat(LineFormat):
    """A custom format. If it begins with `{`, each value is escaped for JSON.

    Most lines have nothing to escape. Removing all plain characters shows it: only those of the literal text are left.
    """

    __slots__ = ("_careful", "_left", "_plain", "_template")

    def __init__(self, text: str) -> None:
        """Raises ValueError if the format is not valid."""
        parts = parse_format(text)
        atoms = [part for part in parts if isinstance(part, Atom)]
        literal = "".join(part for part in parts if isinstance(part, str)) + "\n"
        self._template = "".join("%s" if isinstance(part, Atom) else part.replace("%", "%%") for part in parts) + "\n"
        self._left = literal.encode().translate(None, _PLAIN)
        json_format = is_json(text)
        self._plain = tuple(_plain_value(atom, json_format) for atom in atoms)
        self._careful = tuple(_careful_value(atom, json_format) for atom in atoms)

    def line(self, request: LoggedRequest) -> bytes:
        """As in `LineFormat`."""
        try:
            line = (self._template % tuple([value(request) for value in self._plain])).encode()
            if line.translate(None, _PLAIN) == self._left:
                return line
        except BaseException:  # the application may have put any object into its environ
            request = request.sanitized(as_utf8=False)
        text = self._template % tuple([value(request) for value in self._careful])
        return text.encode("utf-8", "backslashreplace")


def _plain_value(atom: Atom, json_format: bool) -> Getter:
    """The function that returns the value of an atom in a line, not escaped."""
    get, conversion = getter_of(atom.name), atom.conversion
    if json_format and not atom.quoted:
        return _json_value(get, atom)
    if conversion != "s":
        return lambda request: _converted(get(request), conversion)

    def value(request: LoggedRequest) -> str | int | float:
        found = get(request)
        return _MISSING if found is None else found

    return value


def _careful_value(atom: Atom, json_format: bool) -> Callable[[LoggedRequest], str]:
    """The function that returns the text of an atom in a line, escaped."""
    get, conversion = getter_of(atom.name), atom.conversion
    if not json_format:
        return lambda request: escape_all(_converted(get(request), conversion))
    if atom.quoted:  # the quotes are in the format
        return lambda request: json_string(_converted(get(request), conversion))[1:-1]
    return _json_value(get, atom)


def _json_value(get: Getter, atom: Atom) -> Callable[[LoggedRequest], str]:
    """Where a JSON value stands: a number, a string in quotes, or null."""
    numeric, conversion = atom.numeric, atom.conversion

    def value(request: LoggedRequest) -> str:
        found = get(request)
        if found is None:
            return "null"
        return str(found) if numeric else json_string(_converted(found, conversion))

    return value


def _converted(value: str | float | None, conversion: str) -> str:
    """The text of a value, formatted as the format says; unformatted if that is not possible: "-" is no number."""
    if value is None:
        value = _MISSING
    if conversion == "s":
        return str(value)
    try:
        return ("%" + conversion) % value
    except (TypeError, ValueError):
        pass
    try:
        return ("%" + conversion) % float(value)
    except (TypeError, ValueError, OverflowError):
        return str(value)
