"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): an iterable that can be sent with
sendfile."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any

# Exactly these types return the bytes of their raw file unchanged, if the raw file is a FileIO. A GzipFile has a
# fileno() too, but the file has other bytes.
_BUFFERED = (io.BufferedReader, io.BufferedRandom)


# Methods that a wrapper has if its file has them. Werkzeug's `send_file` uses them to answer a Range request: it
# seeks to the first byte; without them it reads and drops all bytes before.
_SEEKING = ("seekable", "seek", "tell")


# A part of a file up to this size (bytes) is read before the head of its response is made, and sent together with the
# head.
SMALL_FILE = 65_536


def read_part(fd: int, offset: int, count: int) -> bytes:
    """Read `count` bytes of a file from `offset` on; fewer if the file ends before. Raises OSError."""
    data = os.pread(fd, count, offset)
    while len(data) < count and (more := os.pread(fd, count - len(data), offset + len(data))):
        data += more
    return data


class FileWrapper:
    """Wraps a file-like object with `read`. An application returns it, or something that iterates over it, as its
    iterable.

    It is its own iterator, because frameworks keep the result of `iter()`, and call its `seek` and `close`.
    `seekable`, `seek` and `tell` are those of the file, and exist only if the file has them.
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
        """A method of the file, one of `_SEEKING`. Raises AttributeError for any other name, or if the file has
        none."""
        if name in _SEEKING:
            return getattr(self.filelike, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def close(self) -> None:
        """Close the wrapped object. Its `close` is looked up now, because Django replaces it after the wrapper was
        made."""
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()

    def region(self) -> tuple[int, int, int] | None:
        """(descriptor, offset, bytes to the end, at least 1) of a regular file; None if the object must be read
        instead."""
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
        # Files under /proc report size 0, but have content.
        if not stat.S_ISREG(status.st_mode) or offset >= status.st_size:
            return None
        return fd, offset, status.st_size - offset
