"""Parses the format of the access log: one of five names, or a custom format with the atoms of gunicorn and some more.

The master imports this module, so it must not import anything large.
"""

from __future__ import annotations

from starman.config.option import nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# The formats with a name.
COMBINED: Final = "combined"
NAMES: Final = (COMBINED, "common", "json", "ecs", "gcp")

# Atoms whose value is always a number, or missing. The others are text.
NUMERIC: Final = (
    *("s", "b", "B", "T", "M", "D", "L"),
    *("queue_time", "application_time", "bytes_received", "worker"),
)
TEXTUAL: Final = (
    *("h", "l", "u", "t", "r", "m", "U", "q", "H", "f", "a", "p"),
    *("thread", "request_id", "trace_id", "span_id"),
)
ATOMS: Final = (*TEXTUAL[:5], "s", *TEXTUAL[5:9], *NUMERIC[1:3], *TEXTUAL[9:12], *NUMERIC[3:], *TEXTUAL[12:])
# What stands in braces: a field of the request, a field of the response, a key of the environ.
BRACED: Final = ("i", "o", "e")
_BRACED_TEXT: Final = ("{field}i", "{field}o", "{key}e")

_FLAGS: Final = "#0- +"
_CONVERSIONS: Final = "sdifFeEgGraxXou"


class Atom:
    """A place in a format where a value of the request stands.

    name: "h"; or, with the text in braces, "{user-agent}i". conversion: what follows the name, as in printf: "s",
    "-15s", "d". quoted: whether the place is inside of a JSON string. Only then may the value stand without quotes of
    its own.
    """

    __slots__ = ("conversion", "name", "quoted")

    def __init__(self, name: str, conversion: str, quoted: bool) -> None:
        self.name = name
        self.conversion = conversion
        self.quoted = quoted

    @property
    def numeric(self) -> bool:
        """Whether the value is always a number, or missing."""
        return self.name in NUMERIC


def valid_atoms() -> str:
    """All atoms, for errors and the documentation: "%(h)s %(l)s …"."""
    return " ".join(f"%({name})s" for name in (*ATOMS, *_BRACED_TEXT))


def is_json(text: str) -> bool:
    """Whether a custom format is JSON, so that values have to be escaped for it."""
    return text.startswith("{")


def read_format(value: object) -> str:
    """Check a format: a name, or a custom format. Returns it without white space around it.

    Raises ValueError with the reason.
    """
    text = value.strip() if isinstance(value, str) else ""
    if is_json(text):
        text = text.replace("\r\n", " ").replace("\n", " ")
    if not text or any((character < " " and character != "\t") or character == "\x7f" for character in text):
        raise ValueError
    if text not in NAMES:
        if not any(isinstance(part, Atom) for part in parse_format(text)):
            raise ValueError(f"{text!r} is no format{nearest(text, NAMES)}")
        text.encode("utf-8")  # a UnicodeEncodeError is a ValueError
    return text


def parse_format(text: str) -> list[str | Atom]:
    """The literal parts and the atoms of a custom format, in order. Raises ValueError with the reason."""
    parts: list[str | Atom] = []
    literal = ""
    index = 0
    json_format = is_json(text)
    quoted = False
    while index < len(text):
        character = text[index]
        if character != "%":
            if character == "\\" and quoted:
                character = text[index : index + 2]
            elif character == '"':
                quoted = json_format and not quoted
            literal += character
            index += len(character)
        elif text.startswith("%%", index):
            literal += "%"
            index += 2
        else:
            if literal:
                parts.append(literal)
                literal = ""
            atom, index = _atom_at(text, index, quoted)
            parts.append(atom)
    return [*parts, literal] if literal else parts


def json_problem(text: str) -> str | None:
    """Why the lines of a custom format that begins with "{" are not JSON; None: they are."""
    import json

    parts = parse_format(text)
    sample = "".join(part if isinstance(part, str) else "x" if part.quoted else "0" for part in parts)
    try:
        json.loads(sample)
    except ValueError as error:
        return str(error)
    return None


def _atom_at(text: str, start: int, quoted: bool) -> tuple[Atom, int]:
    """The atom that begins at `start`, and the index behind it."""
    end = text.find(")", start)
    if text[start : start + 2] != "%(" or end < 0:
        raise ValueError(f"{text[start : start + 10]!r} begins no atom such as %(h)s; write %% for a percent sign")
    name = text[start + 2 : end]
    index = end + 1
    while index < len(text) and text[index] in _FLAGS:
        index += 1
    while index < len(text) and (text[index].isdecimal() or text[index] == "."):
        index += 1
    if index == len(text) or text[index] not in _CONVERSIONS:
        raise ValueError(f"an 's' is missing after the atom %({name})")
    conversion = text[end + 1 : index + 1]
    if not is_atom(name):
        raise ValueError(f"{text!r} has an unknown atom, %({name}){conversion}{nearest(name, ATOMS) if len(name) > 2 else ''}")
    if conversion != "s" and not _converts(conversion):
        raise ValueError(f"%({name}){conversion} is not valid: {conversion!r} formats nothing")
    return Atom(name, conversion, quoted), index + 1


def is_atom(name: str) -> bool:
    """Whether there is an atom of this name ("h", "{host}i")."""
    if name.startswith("{"):
        return len(name) > 3 and name[-2] == "}" and name[-1] in BRACED and "}" not in name[1:-2]
    return name in ATOMS


def _converts(conversion: str) -> bool:
    """Whether a conversion works, and makes no line of more than a thousand characters out of a number."""
    widths = conversion.strip(_FLAGS + _CONVERSIONS).split(".")
    if any(len(width) > 3 for width in widths):
        return False
    try:
        return bool(("%" + conversion) % 1)
    except (TypeError, ValueError):
        return False
