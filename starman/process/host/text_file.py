"""Passes a text to a program that is exec'ed, in a file without a name. An argument or variable has at most 128
KiB."""

from __future__ import annotations

import os

from starman.config import temporary_directory


def store_text(text: str) -> int:
    """Write `text` to a new file and return its descriptor: close-on-exec, positioned at the beginning. Raises
    OSError."""
    fd = temporary_directory.create_in_memory("starman-handover")
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(fd, data) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def load_text(fd: int) -> str:
    """Read the text and close the descriptor. Raises OSError, and ValueError if the file is not UTF-8."""
    with open(fd, "rb") as file:
        return file.read().decode()
