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


class CustomFormat(LineFormat):
    """A custom format. If it begins with `{`, each value is escaped for JSON."""

    __slots__ = ("_template", "_values")

    def __init__(self, text: str) -> None:
        """Raises ValueError if the format is not valid."""
        json_format = is_json(text)
        parts = parse_format(text)
        self._template = "".join("%s" if isinstance(part, Atom) else part.replace("%", "%%") for part in parts) + "\n"
        self._values = tuple(_value_of(part, json_format) for part in parts if isinstance(part, Atom))

    def line(self, request: LoggedRequest) -> bytes:
        """As in `LineFormat`."""
        try:
            text = self._template % tuple([value(request) for value in self._values])
        except BaseException:  # the application may have put any object into its environ
            sanitized = request.sanitized(as_utf8=False)
            text = self._template % tuple([value(sanitized) for value in self._values])
        return text.encode("utf-8", "backslashreplace")


def _value_of(atom: Atom, json_format: bool) -> Callable[[LoggedRequest], str]:
    """The function that returns the text of an atom in a line."""
    get = getter_of(atom.name)
    if not json_format:
        return _text_function(get, atom.conversion)
    return _string_function(get, atom.conversion) if atom.quoted else _json_function(get, atom)


def _text_function(get: Getter, conversion: str) -> Callable[[LoggedRequest], str]:
    """In a text: escaped as in the combined format."""
    if conversion == "s":

        def plain(request: LoggedRequest) -> str:
            value = get(request)
            return escape_all(value) if type(value) is str else _MISSING if value is None else str(value)

        return plain
    return lambda request: escape_all(_converted(get(request), conversion))


def _string_function(get: Getter, conversion: str) -> Callable[[LoggedRequest], str]:
    """In a JSON string, whose quotes are in the format."""

    def inside(request: LoggedRequest) -> str:
        return json_string(_converted(get(request), conversion))[1:-1]

    return inside


def _json_function(get: Getter, atom: Atom) -> Callable[[LoggedRequest], str]:
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
