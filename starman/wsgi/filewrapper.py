"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): an iterable that can be sent by descriptor."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any

# Exactly these give their raw file's bytes unchanged, and the raw file has to be a FileIO: a GzipFile has a fileno() too,
# and the bytes there are others.
_BUFFERED = (io.BufferedReader, io.BufferedRandom)


# Methods that a wrapper has if its file has them. Werkzeug's `send_file` looks for them to answer a Range: with them it goes to
# the first byte at once, without them it reads and drops everything before.
_SEEKING = ("seekable", "seek", "tell")


# A part of a file up to this size (bytes) is read before the head of its response is made, and sent with it in one write.
SMALL_FILE = 65_536


def read_part(fd: int, offset: int, count: int) -> bytes:
    """So many bytes of a file, from the offset on; fewer if the file ends before. Raises OSError."""
    data = os.pread(fd, count, offset)
    while len(data) < count and (more := os.pread(fd, count - len(data), offset + len(data))):
        data += more
    return data


class FileWrapper:
    """Wraps a file-like object with `read`. An application returns it, or something that iterates over it, as its iterable.

    It is its own iterator, because frameworks keep the result of `iter()`, and seek and close that. `seekable`, `seek` and `tell`
    are the file's own, and exist only if the file has them.
    """

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = self.filelike.read(self.block_size)
        if not block:
            raise StopIteration
        return block

    def __getattr__(self, name: str) -> Any:
        """A method of the file, one of `_SEEKING`. Raises AttributeError for any other name, or if the file has none."""
        if name in _SEEKING:
            return getattr(self.filelike, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def close(self) -> None:
        """Close the wrapped object, by whatever its `close` is by now: Django puts its own there."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def region(self) -> tuple[int, int, int] | None:
        """(descriptor, offset, bytes from there to the end, at least one) of a plain file on disk; None if it has to be read."""
        file = self.filelike
        try:
            raw = file.raw if type(file) in _BUFFERED else file
            if type(raw) is not io.FileIO or not raw.readable():
                return None
            file.flush()
            fd = raw.fileno()
            status = os.fstat(fd)
            offset = file.tell()
        except (OSError, ValueError):
            return None
        # Files under /proc say that they are empty, and are not.
        if not stat.S_ISREG(status.st_mode) or offset >= status.st_size:
            return None
        return fd, offset, status.st_size - offset
