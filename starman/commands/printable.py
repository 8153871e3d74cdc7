"""Makes text of clients safe for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with everything escaped that is not printable, such as control characters, in Python's notation."""
    return text if text.isprintable() else "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
