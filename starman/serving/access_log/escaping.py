"""Escapes values for a line of the access log, so that no client can forge a line, end a quoted part, or control a
terminal. Pure; any thread."""

from __future__ import annotations

import re
from json.encoder import encode_basestring_ascii
from typing import Final

# Characters that could end a line or a quoted part of it, or control a terminal.
_UNSAFE: Final = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')
# Others are written as they are in no format: bidirectional overrides, line separators, and all beyond latin-1.
_BEYOND: Final = re.compile(r"[^\x00-\xff]")


def escape(text: str) -> str:
    """Return `text` with every character escaped as \\xHH that could end a line or a quoted part, or control a
    terminal."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def escape_all(text: str) -> str:
    """As `escape`, and characters beyond latin-1 as \\uHHHH or \\UHHHHHHHH. The result is printable ASCII."""
    escaped = escape(text)
    if escaped.isascii():
        return escaped
    return _BEYOND.sub(lambda match: ascii(match[0])[1:-1], escaped)


def word(text: str) -> str:
    """Return escaped `text` as one word; "-" if it is empty."""
    return text.replace(" ", "\\x20") or "-"


def json_string(text: str) -> str:
    """Return `text` as a JSON string in quotes, in ASCII (RFC 8259 §7), with DEL escaped as well."""
    quoted = encode_basestring_ascii(unicode_of(text))
    return quoted.replace("\x7f", "\\u007f") if "\x7f" in quoted else quoted


def unicode_of(text: str) -> str:
    """Return the text that a value of an environ stands for: its bytes, decoded as UTF-8 (PEP 3333, "Unicode Issues").

    Bytes that are not UTF-8 become \\xHH. Text beyond latin-1 is returned as it is: the application has put it there.
    """
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text
