"""A request's body while it is gathered, and then what the application reads: memory first, then a spool file.

The application is called when all of the body is here, so `wsgi.input` never waits for a client, and can be read again (`seek`).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from typing import BinaryIO

from starman.closing import close_elsewhere

# What is gathered in memory before it is worth a trip to the disk (bytes).
SPOOL_BATCH_BYTES = 262_144


class RequestBody:
    """Gathers one body. The loop writes it; when it is complete, one thread reads it.

    Up to `memory_bytes` it stays in memory. What comes after that is for a spool file, which the loop does not touch: when
    `wants_spooling` says so, somebody calls `spool` in a thread, and nobody writes meanwhile.
    """

    __slots__ = ("_buffer", "_file", "_memory_bytes", "length", "trailers")

    def __init__(self, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._buffer = io.BytesIO()
        self._file: BinaryIO | None = None
        self.length = 0
        # What came behind a chunked body (RFC 9112 §7.1.2), apart from the fields: a sender of trailers must not overrule them.
        self.trailers: list[tuple[str, str]] | None = None

    def write(self, data: bytes) -> None:
        """Take the next piece."""
        self._buffer.write(data)
        self.length += len(data)

    @property
    def wants_spooling(self) -> bool:
        """Whether enough has come for the spool file to be begun or continued."""
        gathered = self._buffer.tell()
        return gathered > self._memory_bytes if self._file is None else gathered >= SPOOL_BATCH_BYTES

    def spool(self) -> None:
        """Move what is in memory to the spool file. Blocks; raises OSError, for instance when the disk is full."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="starman-")  # noqa: SIM115 - closed by `close`
        self._file.write(self._buffer.getbuffer())
        self._buffer = io.BytesIO()

    def reader(self) -> BinaryIO:
        """The whole body, at its beginning. Blocks if there is a spool file to finish."""
        if self._file is None:
            self._buffer.seek(0)
            return self._buffer
        self.spool()
        self._file.seek(0)
        return self._file

    def close(self) -> bool:
        """Give memory and spool file back. May be called more than once. Whether it is less than the client meant to send: no.

        Blocks, if there is a spool file: see `discard`.
        """
        self._buffer = io.BytesIO()
        file, self._file = self._file, None
        if file is not None:
            _close(file)
        return False

    def discard(self) -> None:
        """As `close`, when nobody has read it: does not block. May be called more than once."""
        self._buffer = io.BytesIO()
        file, self._file = self._file, None
        if file is not None:
            close_elsewhere(_close, file)


def _close(file: BinaryIO) -> None:
    # On a full disk closing fails, too: it has bytes to write, which nobody wants now. The file is closed all the same.
    with contextlib.suppress(OSError):
        file.close()
