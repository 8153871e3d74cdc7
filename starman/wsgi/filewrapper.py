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


class FileWrapper:
    """Wraps a file-like object with `read`. An application returns it as its iterable."""

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self.block_size = block_size

    def __iter__(self) -> Iterator[bytes]:
        while block := self.filelike.read(self.block_size):
            yield block

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
