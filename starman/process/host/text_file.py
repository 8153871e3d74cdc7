"""A text in a file without a name, for a program that is exec'ed: an argument or a variable takes 128 KiB at most."""

from __future__ import annotations

import os

from starman.config import temporary_directory


def store_text(text: str) -> int:
    """The descriptor, close-on-exec, of a new file with `text`, to be read from its beginning. Raises OSError."""
    fd = _create()
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
    """The text in that file, which is closed. Raises OSError, and ValueError for what is no text."""
    with open(fd, "rb") as file:
        return file.read().decode()


def _create() -> int:
    try:
        return os.memfd_create("starman-handover", os.MFD_CLOEXEC)
    except (AttributeError, OSError):
        # Not on this system, or a sandbox forbids it.
        return temporary_directory.create_unnamed(temporary_directory.find_directory(os.environ).directory)
