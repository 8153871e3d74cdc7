"""A request's body while it is gathered, and then what the application reads: memory first, then a spool file.

The application is called when all of the body is here, so `wsgi.input` never waits for a client, and can be read again (`seek`).
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from typing import BinaryIO

from starman import standard_streams
from starman.background import close_in_background
from starman.wsgi.body_memory import FREE_BYTES, BodyMemory, uncleared
from starman.wsgi.spool_space import UNLIMITED, SpoolLease, SpoolSpace

# What is gathered in memory before it is worth a trip to the disk (bytes).
SPOOL_BATCH_BYTES = 262_144

# By how much (bytes) the memory of a body grows whose length nobody knows.
_STEP_BYTES = 131_072


class RequestBody:
    """Gathers one body. The loop writes it, or has the socket read into it; when it is complete, one thread reads it.

    It stays in memory up to `each_bytes` of the worker's `BodyMemory`, and as long as that has any left. What comes after that is
    for a spool file, which the loop does not touch: when `wants_spooling` says so, somebody calls `spool` in a thread, and nobody
    writes meanwhile.
    """

    __slots__ = (
        *("_buffer", "_expected", "_file", "_granted", "_lease", "_memory", "_size", "_space", "_taken", "_view"),
        *("length", "trailers"),
    )

    def __init__(self, memory: BodyMemory, expected: int | None = None, space: SpoolSpace = UNLIMITED) -> None:
        """`expected` is its length (bytes), None when it is chunked, so that the length is unknown. `space` is the budget for
        its spool file."""
        self._memory = memory
        self._expected = expected
        # Its position is behind what has come and is not in the file. It grows as it is written to; or it has the size that it
        # needs, and then there may be a view of it, for the socket to be read into.
        self._buffer = io.BytesIO()
        self._size = 0
        self._view: memoryview | None = None
        self._file: BinaryIO | None = None
        self._space = space
        self._lease: SpoolLease | None = None  # of the file
        # How much may be in the buffer, and what of that was taken from the worker's memory.
        self._granted = memory.free_bytes
        self._taken = 0
        self.length = 0
        # What came behind a chunked body (RFC 9112 §7.1.2), apart from the fields: a sender of trailers must not overrule them.
        self.trailers: list[tuple[str, str]] | None = None

    # The loop's side

    def write(self, data: bytes) -> None:
        """Take the next piece. Not once `room` was asked for."""
        self._buffer.write(data)
        self.length += len(data)

    def make_room(self) -> None:
        """Let the buffer have the size that it will need, so that it need not grow. Only of a body whose length is known."""
        gathered = self._buffer.tell()
        if self._size > gathered:
            return
        self._ask(gathered + self.missing)
        self._size = min(max(self._granted, gathered + FREE_BYTES), gathered + self.missing)
        # The buffer alone holds the bytes: with a variable for them, the first write would copy all of them. Bytes that have not
        # come are never read: `spool` takes what is in front of the position, and `reader` is for a whole body.
        try:
            buffer = io.BytesIO(uncleared(self._size))
        except MemoryError:
            # The settings grant more than the machine has: the body goes to a spool file, part by part.
            self._size = max(SPOOL_BATCH_BYTES, gathered + FREE_BYTES)
            buffer = io.BytesIO(uncleared(self._size))
        buffer.write(self._buffer.getbuffer()[:gathered])
        self._buffer = buffer

    def room(self) -> memoryview:
        """Where the next bytes are to be read to, never empty, and never more than are missing; then call `filled`. Only of a
        body whose length is known and that is not complete."""
        if self._view is None:
            self.make_room()
            self._view = self._buffer.getbuffer()
        gathered = self._buffer.tell()
        return self._view[gathered : gathered + self.missing]

    def filled(self, count: int) -> None:
        """So many bytes have been read to where `room` said."""
        self._buffer.seek(count, io.SEEK_CUR)
        self.length += count

    @property
    def missing(self) -> int:
        """How many bytes have still to come; 0 if nobody knows."""
        return 0 if self._expected is None else self._expected - self.length

    @property
    def wants_spooling(self) -> bool:
        """Whether enough has come for the spool file to be begun or continued."""
        gathered = self._buffer.tell()
        if self._size:
            return gathered >= self._size and self.missing > 0
        return gathered > self._granted and not self._ask(gathered)

    def _ask(self, needed: int) -> bool:
        """Whether so many bytes may be in memory. If not, a part of them may."""
        each, expected = self._memory.each_bytes, self._expected
        if self._file is not None:
            most = SPOOL_BATCH_BYTES
        elif expected is not None and expected > each:
            most = min(each, SPOOL_BATCH_BYTES)
        else:
            most = each
        wanted = min(most, needed + _STEP_BYTES if expected is None else expected)
        more = max(wanted - FREE_BYTES - self._taken, 0)
        if not more or self._memory.reserve(more):
            self._taken += more
            self._granted = max(self._granted, wanted)
        return needed <= self._granted

    # A thread's side

    def spool(self) -> None:
        """Move the part in memory to the spool file. Blocks. Raises OSError, for instance when the disk or the worker's budget
        (`SpoolSpace`) is full."""
        gathered = self._buffer.tell()
        if self._lease is None:
            self._lease = SpoolLease(self._space)
        self._lease.take(gathered)
        if self._file is None:
            standard_streams.restore()
            self._file = tempfile.TemporaryFile(prefix="starman-")  # noqa: SIM115 - closed by `close`
        self._file.write(self._buffer.getbuffer()[:gathered])
        if self._size == SPOOL_BATCH_BYTES:
            self._buffer.seek(0)  # it is as large as it may be: fill it again
        else:
            self._forget()

    def reader(self) -> BinaryIO:
        """The whole body, at its beginning. Blocks if there is a spool file to finish."""
        if self._file is not None:
            self.spool()
            self._file.seek(0)
            return self._file
        if self._view is None:
            self._buffer.seek(0)
            return self._buffer
        # Without a copy, unless the loop holds its last view for a moment still. An application could not close that buffer then.
        self._view = None
        return io.BytesIO(self._buffer.getvalue())

    def close(self) -> bool:
        """Give memory and spool file back. May be called more than once. Whether it is less than the client meant to send: no.

        Blocks, if there is a spool file: see `discard`.
        """
        file, lease = self._release()
        if lease is not None:
            _close(file, lease)
        return False

    # Either side

    def discard(self) -> None:
        """As `close`, when nobody has read it: does not block. May be called more than once."""
        file, lease = self._release()
        if lease is not None:
            close_in_background(_close, file, lease)

    def _release(self) -> tuple[BinaryIO | None, SpoolLease | None]:
        self._forget()
        taken, self._taken = self._taken, 0
        if taken:
            self._memory.release(taken)
        file, self._file = self._file, None
        lease, self._lease = self._lease, None
        return file, lease

    def _forget(self) -> None:
        self._view = None
        self._size = 0
        self._buffer = io.BytesIO()


def _close(file: BinaryIO | None, lease: SpoolLease) -> None:
    # On a full disk closing fails, too: it has bytes to write, which nobody wants now. The file is closed all the same.
    if file is not None:
        with contextlib.suppress(OSError):
            file.close()
    lease.release()
