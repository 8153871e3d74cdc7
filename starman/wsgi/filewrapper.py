"""`wsgi.file_wrapper` (PEP 3333, "Optional Platform-Specific File Handling"): an iterable of blocks that we can also send by descriptor."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from typing import Any

# Exactly these read their descriptor's bytes unchanged. A GzipFile has a fileno() too, and its bytes are others.
_PLAIN_FILES = (io.BufferedReader, io.BufferedRandom, io.FileIO)


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
        """(descriptor, offset, bytes from there to the end) if this is a plain file on disk, read from where it stands; else None."""
        if type(self.filelike) not in _PLAIN_FILES:
            return None
        try:
            self.filelike.flush()
            fd = self.filelike.fileno()
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                return None
            offset = self.filelike.tell()
        except (OSError, ValueError):
            return None
        return fd, offset, max(0, status.st_size - offset)
