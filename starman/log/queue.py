"""Keeps lines for the error log that cannot be written at once, up to a limit, so that logging never blocks.

Further lines are counted and dropped. Each process has its own queue. After a fork the queue of the child is empty,
because the parent writes its own lines.
"""

from __future__ import annotations

import _thread
import errno
import os
import time
from collections import deque

from starman.log.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# How many bytes are kept while nothing can be written. Later lines are counted and dropped.
MOST_BYTES = 1_048_576
# Nothing blocks while the lock is held, so no thread should wait for so long.
_LOCK_SECONDS = 1.0
_NOT_READ = "nothing read them in time"
# How often (seconds) `finish_writing` tries again.
_PAUSE = 0.02
# A full disk is like a full pipe: it may have room again.
_NOT_NOW = (errno.EAGAIN, errno.ENOSPC, errno.EDQUOT)
# A line that is too long for one write is continued in the next one, indented.
_INDENTATION = b"  "
# In UTF-8, `byte & 0xC0 == 0x80` for all bytes of a character but the first.
_NOT_FIRST, _MASK = 0x80, 0xC0


class LogQueue:
    """Any thread may call `put`, `write_pending` and `finish_writing`; the others are for the main thread."""

    __slots__ = (
        *("_bytes", "_inside", "_interrupting", "_lock", "_lost", "_missed", "_notice", "_output", "_pieces", "_reason", "_sent"),
        "_written",
    )

    def __init__(self, notice: Callable[[int, str], list[bytes]]) -> None:
        """`notice` makes the entries that say how many lines were lost, and why."""
        self._notice = notice
        # None: descriptor 2, as it is when something is written.
        self._output: Output | None = None
        self._clear()
        os.register_at_fork(after_in_child=self._clear)

    def _clear(self) -> None:
        self._lock = _thread.allocate_lock()
        # The threads that hold the lock or wait for it. A signal handler that logs in such a thread cannot wait for
        # the lock. It leaves its lines in `_interrupting`, and the thread writes them when it releases the lock.
        self._inside: set[int] = set()
        self._interrupting: deque[tuple[Sequence[bytes], bool]] = deque()
        # Pieces of complete lines, each with the number of lines that are lost if it is dropped.
        # `_sent`: how many bytes of the first piece have been written. `_bytes`: the size of all pieces.
        self._pieces: deque[tuple[bytes, int]] = deque()
        self._sent = 0
        self._bytes = 0
        self._lost = 0
        # Lines of threads that did not get the lock. Appending to a deque needs none.
        self._missed: deque[int] = deque()
        self._reason = ""
        # How many lines are lost if the entry that was written last is lost.
        self._written = 0

    @property
    def pending(self) -> bool:
        """Whether lines wait, so that `write_pending` should be called in a moment."""
        return bool(self._pieces)

    @property
    def output(self) -> Output | None:
        """The log's own descriptor; None: lines go to descriptor 2, whatever it leads to."""
        return self._output

    def open_output(self, fd: int = 2) -> bool:
        """Write to the file that `fd` leads to now, by a descriptor of our own. False: there is one already, or none
        is left."""
        if self._output is not None:
            return False
        try:
            self._output = Output(fd)
        except OSError:
            return False
        return True

    def exchange_output(self, output: Output | None) -> Output | None:
        """Write to `output` from now on, waiting lines too. Returns the output so far."""
        before, self._output, self._sent = self._output, output, 0
        return before

    def renew_output(self, fd: int = 2) -> None:
        """Follow descriptor `fd`, which now leads elsewhere, with the log's own descriptor, if any. Waiting lines go
        there too."""
        if self._output is not None and self._output.takes_text and self._acquire():
            try:
                self._output.move(fd)
            except OSError:
                self._output.close()
                self._output = None
            finally:
                # A line that was written in part is written completely to the new file.
                self._sent = 0
                self._release()

    def close_output(self) -> None:
        """Close the log's own descriptor; write to descriptor 2 from now on."""
        if self._output is not None:
            self._output.close()
            self._output = None

    def put(self, entries: Sequence[bytes], *, whole: bool = False) -> None:
        """Write entries of complete lines, now or as soon as possible. `whole`: an entry is one record, and is not
        split."""
        size = sum(map(len, entries))
        if not self._acquire():
            if _thread.get_ident() in self._inside:
                self._interrupting.append((entries, whole))
            else:
                self._missed.append(_lines_of(entries, whole=whole))
            return
        try:
            while self._missed:
                self._lost += self._missed.popleft()
                self._reason = _NOT_READ
            output = self._usable()
            if self._bytes + size > MOST_BYTES:
                self._drain(output)
            if self._pieces and self._bytes + size > MOST_BYTES:
                self._lost += _lines_of(entries, whole=whole)
                self._reason = _NOT_READ
                return
            if self._lost:
                self._add_notice()
            most = output.most_bytes if output is not None else 0
            for entry in entries:
                for piece in pieces_of(entry, 0 if whole else most):
                    self._add(piece, 1 if whole else piece.count(b"\n"))
            self._drain(output)
        finally:
            self._release()

    def write_pending(self) -> None:
        """Write as many waiting lines as possible without blocking."""
        if self._pieces and self._acquire():
            try:
                self._drain(self._usable())
            finally:
                self._release()

    def finish_writing(self, seconds: float) -> None:
        """Call before the process ends: wait up to `seconds` until all lines are written."""
        deadline = time.monotonic() + seconds
        self.write_pending()
        while self._pieces and time.monotonic() < deadline:
            time.sleep(_PAUSE)
            self.write_pending()

    def _acquire(self) -> bool:
        """False: a signal handler has interrupted a thread that has the lock, or the lock was not released in time."""
        ident = _thread.get_ident()
        if ident in self._inside:
            return False
        self._inside.add(ident)
        if self._lock.acquire(True, _LOCK_SECONDS):
            return True
        self._inside.discard(ident)
        return False

    def _release(self) -> None:
        """Release the lock, then write the lines of signal handlers that have come meanwhile."""
        self._lock.release()
        self._inside.discard(_thread.get_ident())
        while self._interrupting:
            try:
                entries, whole = self._interrupting.popleft()
            except IndexError:  # another thread was faster
                return
            self.put(entries, whole=whole)

    def _usable(self) -> Output | None:
        """The output to write to: our own; if an application has closed that, descriptor 2, provided that it is the
        error log."""
        output = self._output
        try:
            if output is None:
                return Output(2, borrow=True)
            if output.takes_text and not output.usable and output.same_as(2):
                output.move(2)
        except OSError:
            return output
        return output

    def _add(self, piece: bytes, lines: int) -> None:
        self._pieces.append((piece, lines))
        self._bytes += len(piece)

    def _add_notice(self) -> None:
        lost, self._lost = self._lost, 0
        for entry in self._notice(lost, self._reason):
            self._add(entry, lost)
            lost = 0

    def _drain(self, output: Output | None) -> None:
        """Write until no line is waiting or the file takes no more. The lock is held."""
        while self._pieces:
            piece, lines = self._pieces[0]
            try:
                if output is None:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                if not self._sent and not output.has_room(len(piece)):
                    return
                self._sent += output.write(piece[self._sent :] if self._sent else piece)
            except OSError as error:
                if error.errno not in _NOT_NOW:
                    self._drop(error.strerror or "")
                return
            if refused := output.take_lost():
                self._lost += max(refused, self._written)
                self._reason = "the receiver refused them"
            if self._sent >= len(piece):
                self._sent = 0
                self._written = lines
                self._bytes -= len(piece)
                self._pieces.popleft()
                if self._lost and not self._pieces and not refused:
                    self._add_notice()

    def _drop(self, reason: str) -> None:
        """Drop the waiting lines, because they can no longer be written."""
        self._lost += sum(lines for _, lines in self._pieces)
        self._reason = reason
        self._pieces.clear()
        self._bytes = self._sent = 0


def _lines_of(entries: Sequence[bytes], *, whole: bool) -> int:
    return len(entries) if whole else sum(entry.count(b"\n") for entry in entries)


def pieces_of(entry: bytes, most_bytes: int) -> Iterator[bytes]:
    """`entry` in pieces of at most `most_bytes`, each of whole lines; 0: in one. Lines that are longer are folded."""
    if not most_bytes or len(entry) <= most_bytes:
        yield entry
        return
    piece = b""
    for line in _folded(entry, most_bytes):
        if piece and len(piece) + len(line) > most_bytes:
            yield piece
            piece = b""
        piece += line
    if piece:
        yield piece


def _folded(entry: bytes, most_bytes: int) -> Iterator[bytes]:
    for line in entry.split(b"\n")[:-1]:
        rest = line + b"\n"
        while len(rest) > most_bytes:
            end = most_bytes - 1
            while rest[end] & _MASK == _NOT_FIRST and end > most_bytes // 2:
                end -= 1
            yield rest[:end] + b"\n"
            rest = _INDENTATION + rest[end:]
        yield rest
