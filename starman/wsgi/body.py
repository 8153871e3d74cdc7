"""Collects a request's body in memory or a spool file, and gives it to the application to read.

The application is called when the body is complete, so `wsgi.input` never waits for a client and can be read again
(`seek`).
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

# How many bytes are collected in memory before they are written to the spool file.
SPOOL_BATCH_BYTES = 262_144

# By how many bytes the memory of a body of unknown length grows.
_STEP_BYTES = 131_072


class RequestBody:
    """Collects one body. The loop writes it, or reads the socket into it; when it is complete, one thread reads it.

    The body stays in memory up to `each_bytes` of the worker's `BodyMemory`, and while that has memory left. The
    remaining bytes go to a spool file, which the loop does not touch: when `wants_spooling` is true, call `spool` in
    a thread, and write no more bytes until it returns.
    """

    __slots__ = (
        *("_buffer", "_expected", "_file", "_granted", "_lease", "_memory", "_size", "_space", "_taken", "_view"),
        *("length", "trailers"),
    )

    def __init__(self, memory: BodyMemory, expected: int | None = None, space: SpoolSpace = UNLIMITED) -> None:
        """`expected`: the length of the body (bytes); None: unknown, because the body is chunked. `space`: the budget
        of its spool file."""
        self._memory = memory
        self._expected = expected
        # Its position is after the received bytes that are not in the file. It either grows with each write, or has
        # its final size `_size`; then `_view` may be a view of it that the socket is read into.
        self._buffer = io.BytesIO()
        self._size = 0
        self._view: memoryview | None = None
        self._file: BinaryIO | None = None
        self._space = space
        self._lease: SpoolLease | None = None  # of the file
        # How many bytes may be in the buffer, and how many of them were taken from the worker's memory.
        self._granted = memory.free_bytes
        self._taken = 0
        self.length = 0
        # The trailer fields of a chunked body (RFC 9112 §7.1.2), kept apart so that they do not replace fields of the
        # head.
        self.trailers: list[tuple[str, str]] | None = None

    # The loop's side

    def write(self, data: bytes) -> None:
        """Append bytes. Not after a call of `room`."""
        self._buffer.write(data)
        self.length += len(data)

    def make_room(self) -> None:
        """Give the buffer the size that it will need, so that it does not grow. Only for a body of known length."""
        gathered = self._buffer.tell()
        if self._size > gathered:
            return
        self._ask(gathered + self.missing)
        self._size = min(max(self._granted, gathered + FREE_BYTES), gathered + self.missing)
        # The buffer alone holds the bytes: with a variable for them, the first write would copy all of them. Bytes
        # that have not come are never read: `spool` takes what is in front of the position, and `reader` is for a
        # whole body.
        try:
            buffer = io.BytesIO(uncleared(self._size))
        except MemoryError:
            # The settings allow more memory than the machine has: write the body to a spool file, part by part.
            self._size = max(SPOOL_BATCH_BYTES, gathered + FREE_BYTES)
            buffer = io.BytesIO(uncleared(self._size))
        buffer.write(self._buffer.getbuffer()[:gathered])
        self._buffer = buffer

    def room(self) -> memoryview:
        """The memory for the next bytes of the socket: not empty, and not larger than the missing bytes. Call
        `filled` after the read. Only for an incomplete body of known length."""
        if self._view is None:
            self.make_room()
            self._view = self._buffer.getbuffer()
        gathered = self._buffer.tell()
        return self._view[gathered : gathered + self.missing]

    def filled(self, count: int) -> None:
        """Note that `count` bytes have been read into `room`."""
        self._buffer.seek(count, io.SEEK_CUR)
        self.length += count

    @property
    def missing(self) -> int:
        """How many bytes have not been received; 0 if the length is unknown."""
        return 0 if self._expected is None else self._expected - self.length

    @property
    def wants_spooling(self) -> bool:
        """Whether `spool` is to be called before more bytes are written."""
        gathered = self._buffer.tell()
        if self._size:
            return gathered >= self._size and self.missing > 0
        return gathered > self._granted and not self._ask(gathered)

    def _ask(self, needed: int) -> bool:
        """Reserve memory for `needed` bytes, or for a part of them. Returns whether all of them may be in memory."""
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
        """Move the bytes in memory to the spool file. Blocks. Raises OSError, for example when the disk or the
        worker's budget (`SpoolSpace`) is full."""
        gathered = self._buffer.tell()
        if self._lease is None:
            self._lease = SpoolLease(self._space)
        self._lease.reserve_bytes(gathered)
        if self._file is None:
            standard_streams.restore()
            self._file = tempfile.TemporaryFile(prefix="starman-")  # noqa: SIM115 - closed by `close`
        self._file.write(self._buffer.getbuffer()[:gathered])
        if self._size == SPOOL_BATCH_BYTES:
            self._buffer.seek(0)  # the largest buffer that is allowed: fill it again
        else:
            self._forget()

    def reader(self) -> BinaryIO:
        """Return the complete body as a file, at its beginning. Blocks if there is a spool file to complete."""
        if self._file is not None:
            self.spool()
            self._file.seek(0)
            return self._file
        if self._view is None:
            self._buffer.seek(0)
            return self._buffer
        # `getvalue` makes no copy, unless the loop still holds its last view. With a view, the buffer could not be
        # closed.
        self._view = None
        return io.BytesIO(self._buffer.getvalue())

    def close(self) -> bool:
        """Release the memory and the spool file. May be called more than once. Blocks if there is a spool file.

        Returns whether the client has sent less than it announced: always False, because the body is complete.
        """
        file, lease = self._release()
        if lease is not None:
            _close(file, lease)
        return False

    # Either side

    def discard(self) -> None:
        """As `close`, for a body that was not read, without blocking. May be called more than once."""
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
    # On a full disk, closing fails too, because buffered bytes are written first. They are not needed, and the file
    # is closed.
    if file is not None:
        with contextlib.suppress(OSError):
            file.close()
    lease.release()
