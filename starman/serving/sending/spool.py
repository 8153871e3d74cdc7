"""Keeps what a slow client has still to take of a response, so that its thread need not wait: in memory, then in a
file.

The thread adds to the spool, and the loop sends it. The file has no name. The thread writes at its end, and the loop
reads from its beginning, each by a descriptor of its own: so neither side closes a descriptor that the other one uses,
and the loop has a `FileRange` like any other.
"""

from __future__ import annotations

import os
import tempfile
from typing import BinaryIO, NamedTuple

from starman import standard_streams
from starman.serving.sending.response_memory import UNLIMITED as UNLIMITED_MEMORY
from starman.serving.sending.response_memory import ResponseMemory, UnsentMemory, take_memory
from starman.serving.sending.sendfile import FileRange
from starman.wsgi.spool_space import UNLIMITED, SpoolLease, SpoolSpace


class SpoolLimits(NamedTuple):
    """How much (bytes) of a response may wait in memory, and in a file. Until the client has caught up, the bytes that
    it has taken count as well. The limit of the file is for responses that go on: the last part is always taken.

    space, memory: the worker's budgets of disk and of memory for all clients."""

    memory_bytes: int
    file_bytes: int
    space: SpoolSpace = UNLIMITED
    memory: ResponseMemory = UNLIMITED_MEMORY


class Spool:
    """The thread's side. One thread at a time; writing and closing block on the disk."""

    __slots__ = ("_file", "_held", "_lease", "_length", "_limits", "_range")

    def __init__(self, limits: SpoolLimits) -> None:
        self._limits = limits
        self._lease: SpoolLease | None = None  # of the file
        self._held = 0
        self._file: BinaryIO | None = None
        self._length = 0
        self._range: FileRange | None = None

    def add(self, data: memoryview, *, last: bool) -> UnsentMemory | None:
        """Take the next piece. Returns the piece for the loop; None: it is in the file, see `share`.

        The `last` piece of a response is taken at any size, because nothing follows it.

        Raises OSError when the disk is full, TMPDIR cannot take files, or a limit is reached. Then `share` gives
        nothing of the piece.
        """
        limits = self._limits
        if self._file is None and self._held + len(data) <= limits.memory_bytes:
            kept = take_memory(data, limits.memory, limits.memory_bytes)
            if kept is not None:
                self._held += len(data)
                return kept
        if not last and self._length + len(data) > limits.file_bytes:
            raise OSError(f"its file would need more than {limits.file_bytes} bytes (response_spool)")
        if self._lease is None:
            self._lease = SpoolLease(limits.space)
        self._lease.reserve_bytes(len(data))
        if self._file is None:
            standard_streams.restore()
            self._file = tempfile.TemporaryFile(prefix="starman-", buffering=0)  # noqa: SIM115 - closed by `close`
        while data:
            count = self._file.write(data)
            self._length += count
            data = data[count:]
        return None

    def share(self, *, anew: bool) -> FileRange:
        """Return what was added to the file, for the loop to send and to close: the range of the last call, extended.

        `anew`: return a new range, because the loop may have closed the last one. Does not block. Raises OSError when
        no descriptor is left.
        """
        assert self._file is not None
        if anew or self._range is None:
            start = 0 if self._range is None else self._range.end
            self._range = FileRange(os.dup(self._file.fileno()), start, self._length - start, self._lease)
        else:
            self._range.end = self._length
        return self._range

    def close(self) -> None:
        """Close the thread's descriptor. The loop closes the range. May be called more than once."""
        if self._file is not None:
            self._file.close()
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()


def keep_block(data: memoryview, limits: SpoolLimits) -> UnsentMemory | FileRange:
    """Keep a block of a response that goes on when the block is sent: in memory, or else in a file, which may block.

    Raises OSError as `Spool.add` does.
    """
    kept = take_memory(data, limits.memory, None)
    if kept is not None:
        return kept
    spool = Spool(limits._replace(memory_bytes=-1))
    try:
        spool.add(data, last=True)
        return spool.share(anew=True)
    finally:
        spool.close()
