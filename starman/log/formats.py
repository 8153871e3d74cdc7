"""The formats of the error log: text, or JSON with one object a line. Turns a record into the bytes that are written.

The master imports this module, so it must not import json or logging.
"""

from __future__ import annotations

import time
from abc import ABCMeta, abstractmethod

# The numbers of Python's logging, so that a record can be passed on to it.
DEBUG, INFO, WARNING, ERROR, CRITICAL = 10, 20, 30, 40, 50
LEVELS = {"debug": DEBUG, "info": INFO, "warning": WARNING, "error": ERROR, "critical": CRITICAL}
NAMES = {number: name.upper() for name, number in LEVELS.items()}

# How many characters of any text are logged, half of them from its beginning and half from its end. Escaping an
# exception that contains a request body would stop the whole process for a second per 10 MB.
MOST_CHARACTERS = 131_072
# The same for a JSON record, which is written to a pipe at once: a pipe holds 64 KiB.
MOST_IN_JSON = 40_000

# How a text with the stacks of an exception begins a line; and a text with the stacks of threads.
_TRACEBACK = "Traceback (most recent call last)"
_STACK_HEADS = ("Thread 0x", "Current thread 0x", "  File ", "Stack (most recent call", "Fatal Python error")


class Record:
    """One record. level: its number. text: may have several lines. pid: its process. captured: whether the application
    has printed the text (`--capture-output`)."""

    __slots__ = ("captured", "instant", "level", "pid", "text")

    def __init__(self, level: int, text: str, pid: int, *, captured: bool = False) -> None:
        self.level = level
        self.text = text
        self.pid = pid
        self.captured = captured
        self.instant = time.time()


class Format(metaclass=ABCMeta):
    """Encodes records. whole: whether an entry must be written at once, and not in pieces of a few lines."""

    __slots__ = ()

    whole = False

    @abstractmethod
    def encode(self, record: Record) -> list[bytes]:
        """The entries of the record, each with its line feed. Raises MemoryError."""


class TextFormat(Format):
    """`[2026-11-30 16:52:06 +0000] [4711] [INFO] ready`. The further lines of a record are indented."""

    __slots__ = ()

    def encode(self, record: Record) -> list[bytes]:
        """See `Format`."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(record.instant))
        level = "OUTPUT" if record.captured else NAMES[record.level]
        line = f"[{stamp}] [{record.pid}] [{level}] {escaped(bounded(record.text).rstrip())}\n"
        return [line.encode("utf-8", "backslashreplace")]


class JsonFormat(Format):
    """One object a line: timestamp, severity, message, process.pid, and further lines of the text in one field."""

    __slots__ = ()

    whole = True

    def encode(self, record: Record) -> list[bytes]:
        """See `Format`."""
        fields = {
            "timestamp": timestamp(record.instant),
            "severity": NAMES[record.level],
            **message_fields(bounded(record.text, MOST_IN_JSON).rstrip()),
        }
        texts = [f"{quoted(key)}: {quoted(value)}" for key, value in fields.items()]
        texts.append(f'"process.pid": {record.pid}')
        if record.captured:
            texts.append('"log.source": "application output"')
        return [f"{{{', '.join(texts)}}}\n".encode("ascii")]


def message_fields(text: str) -> dict[str, str]:
    """The first line of a text as `message`. Its further lines are one field: `exception.stacktrace`,
    `code.stacktrace` for the stacks of threads, or `details`."""
    first, _, rest = text.partition("\n")
    if not rest:
        return {"message": first}
    if _TRACEBACK in rest:
        last = rest.rstrip().rpartition("\n")[2].strip()
        kind, _, words = last.partition(": ")
        fields = {"message": first, "exception.stacktrace": rest}
        if kind and all(part.isidentifier() for part in kind.split(".")):
            fields.update({"exception.type": kind, "exception.message": words})
        return fields
    stacks = any(line.startswith(_STACK_HEADS) for line in rest.splitlines()[:50])
    return {"message": first, "code.stacktrace" if stacks else "details": rest}


def timestamp(instant: float) -> str:
    """The instant (seconds since 1970) in local time with its offset, as in RFC 3339:
    `2026-11-30T16:52:06.123456+00:00`."""
    second = int(instant // 1)
    local = time.localtime(second)
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    micros = min(int((instant - second) * 1e6), 999_999)
    sign = "-" if local.tm_gmtoff < 0 else "+"
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{micros:06d}{sign}{hours:02d}:{minutes:02d}"


def quoted(text: str) -> str:
    """`text` as a string of JSON, in ASCII. Lone surrogates are replaced, because most readers refuse them."""
    from _json import encode_basestring_ascii

    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    quoted_text: str = encode_basestring_ascii(text)
    return quoted_text


def bounded(text: str, most: int = MOST_CHARACTERS) -> str:
    """Shorten `text` to its beginning and its end, with a line between them that says how much is left out."""
    left_out = len(text) - most
    if left_out <= 0:
        return text
    half = most // 2
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


class _EscapeTable(dict[int, int | str]):
    """For `str.translate`: escapes every character that is invisible or has an effect in a terminal or editor.

    Escaped: control characters, formatting characters (bidirectional overrides, zero-width characters, tags, soft
    hyphens), line and paragraph separators, spaces other than the ordinary one, surrogates, and code points without a
    meaning (Unicode general categories C*, Z*). Results are not cached, so clients cannot make the table grow.
    """

    def __missing__(self, code: int) -> int | str:
        if chr(code).isprintable():
            return code
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# All lines of an event but the first are indented, so that none of them looks like another event.
ESCAPE_TABLE = _EscapeTable({ord("\t"): ord("\t"), ord("\n"): "\n  "})
# Printable by category, but invisible: joiners, fillers and variation selectors.
_UNSEEN = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
ESCAPE_TABLE.update((code, f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}") for code in _UNSEEN)


def escaped(text: str) -> str:
    """Escape `text` so that it is safe to show: a message may contain text from a client. Never raises."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(ESCAPE_TABLE)


FORMATS: dict[str, Format] = {"text": TextFormat(), "json": JsonFormat()}
