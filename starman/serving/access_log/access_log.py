"""Writes the access log: gathers the lines of all threads, and writes them in batches.

Threads format lines and add them; a batch of whole lines is written at once. On a file that is opened for appending,
the kernel keeps such writes of several workers apart. On a pipe it does so up to PIPE_BUF bytes, so batches are split
there.

Adding a line never waits for the reader of a pipe, terminal or socket: `flush` writes later what is not taken at once.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING, Final

from starman import log
from starman.config.access_log_format import COMBINED
from starman.log.output import Output, open_for_appending
from starman.serving.access_log.combined import combined_line
from starman.serving.access_log.destinations import open_destination, path_of
from starman.serving.access_log.formats import format_of
from starman.serving.access_log.log_times import CommonTime
from starman.serving.access_log.logged_request import LoggedRequest, refused

if TYPE_CHECKING:
    from starman.serving.access_log.line_filter import LineFilter
    from starman.wsgi.environ import Environ

# A batch of this size (bytes) is written at once; a smaller one waits for the next tick.
_BATCH_BYTES = 32_768

# At most this many bytes of lines wait for a file or pipe that takes nothing. Further lines are counted and lost.
_MOST_BYTES = 8_388_608

# How long (seconds) a flush waits for a reader, and how long the last flush does. How often (seconds) losses are
# logged.
_FLUSH_SECONDS = 1.0
_LAST_SECONDS = 1.5
_LOSSES_SECONDS = 10.0

_NOT_TAKEN = "nothing read them in time"


class AccessLog:
    """The access log of one worker. Any thread may add lines and flush.

    make_request: makes what `add_request` and `add_not_run` take; here, so that an exchange imports nothing of the
    access log. needs_details: whether exchanges have to call `add_request`, because the log is not simply in the
    combined format.
    """

    make_request: Final = LoggedRequest

    __slots__ = (
        *("_batch_bytes", "_bytes", "_filter", "_format", "_full_batch", "_lines_lock", "_lines", "_losses_logged_at", "_lost"),
        *("_output", "_path", "_reason", "_sent", "_times", "_unsent", "_write_lock", "needs_details"),
    )

    def __init__(
        self, target: str, line_format: str = COMBINED, line_filter: LineFilter | None = None, *, in_loop: bool = False
    ) -> None:
        """`target`: as the setting access_log. `line_format`: as the setting access_log_format.
        `line_filter` None: no request is left out.
        With `in_loop`, the loop's thread adds lines and must not block, so only `flush` writes.

        Raises SettingError when the log cannot be written.
        """
        self._path = path_of(target)
        self._output: Output | None = open_destination(target)
        # Two locks, so that a slow disk delays one thread and not all of them. `_lines_lock` guards `_lines`,
        # `_bytes`, `_lost` and `_reason`. `_write_lock` guards the output, the batches and when losses were logged.
        self._lines_lock = threading.Lock()
        self._write_lock = threading.Lock()
        self._lost = 0
        self._reason = ""
        self._losses_logged_at = float("-inf")
        self._lines: list[bytes] = []
        self._bytes = 0
        # Batches that a pipe has not taken yet, and how many bytes of the first one it has taken.
        self._unsent: list[bytes] = []
        self._sent = 0
        self._full_batch = self._batch_bytes = 2 * _MOST_BYTES if in_loop else _BATCH_BYTES
        self._times = CommonTime()
        self._format = format_of(line_format)
        self._filter = line_filter
        self.needs_details = line_format != COMBINED or line_filter is not None

    @property
    def descriptor(self) -> int:
        """The descriptor of the log; -1 when it is closed. For inspection only."""
        output = self._output
        return output.fd if output is not None and output.usable else -1

    def add(self, environ: Environ, status_code: int, body_bytes: int) -> None:
        """Log an exchange in the combined format. `status_code` 0 means that the client left before its response was
        complete: logged as 499. Thread; the loop if there is none."""
        if self._append(combined_line(environ, status_code, body_bytes, self._times.at(time.time()))):
            self._write_batch()

    def add_request(self, request: LoggedRequest) -> None:
        """Log an exchange in any format, unless the settings leave it out. Thread."""
        if not self._leaves_out(request) and self._append(self._format.line(request)):
            self._write_batch()

    def add_not_run(self, request: LoggedRequest) -> None:
        """Log a request that did not run: its client had left, or it was refused. Either side: so this only gathers
        the line."""
        if not self._leaves_out(request):
            self._append(self._format.line(request))

    def add_refusal(self, peer: str, status_code: int) -> None:
        """Log a message that was refused before it became a request. Loop: so this only gathers the line, and writes
        nothing."""
        self._append(self._format.line(refused(peer, status_code)))

    def _leaves_out(self, request: LoggedRequest) -> bool:
        return self._filter is not None and self._filter.leaves_out(request)

    def _write_batch(self) -> None:
        """Write what is gathered, unless another thread does."""
        if self._write_lock.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._write_lock.release()

    def flush(self) -> None:
        """Write the gathered lines. Waits for the disk, and up to a second for a pipe's reader. Not in the loop's
        thread."""
        with self._write_lock:
            self._write(_FLUSH_SECONDS)

    @property
    def has_unwritten(self) -> bool:
        """Whether a pipe's reader has left lines unread: flush again soon."""
        return bool(self._unsent)

    def _write(self, seconds: float = 0.0) -> bool:
        """Write the gathered lines, waiting up to `seconds` for a reader. Return whether all are written. Needs
        `_write_lock`."""
        output = self._output
        if output is None:
            return True
        with self._lines_lock:
            lines, self._lines = self._lines, []
        try:
            if lines:
                self._unsent += _split(lines) if output.most_bytes else [b"".join(lines)]
        except MemoryError:
            self._count_lost(len(lines), "there is no memory")
            with self._lines_lock:
                self._bytes -= sum(map(len, lines))
        done = self._send(output, time.monotonic() + seconds)
        if refused := output.take_lost():
            self._count_lost(refused, "the receiver refused them")
        # Without this, each request would try to write what was not taken a moment ago.
        self._batch_bytes = self._full_batch if done else 2 * _MOST_BYTES
        if self._lost and time.monotonic() - self._losses_logged_at >= _LOSSES_SECONDS:
            self._log_losses()
        return done

    def _send(self, output: Output, deadline: float) -> bool:
        """Write batches until `deadline` (monotonic). Return whether all are written or lost."""
        unsent, index = self._unsent, 0
        try:
            while index < len(unsent):
                batch = unsent[index]
                try:
                    self._sent += output.write(batch[self._sent :] if self._sent else batch)
                except BlockingIOError:
                    if not output.wait(deadline - time.monotonic()):
                        return False
                if self._sent >= len(batch):
                    self._sent = 0
                    index += 1
        except OSError as error:
            self._count_lost(sum(batch.count(b"\n") for batch in unsent[index:]), error.strerror or str(error))
            index, self._sent = len(unsent), 0
        finally:
            with self._lines_lock:
                self._bytes -= sum(map(len, unsent[:index]))
            del unsent[:index]
        return True

    def _count_lost(self, count: int, reason: str) -> None:
        with self._lines_lock:
            self._lost += count
            self._reason = reason

    def _log_losses(self) -> None:
        """Log how many lines are lost. Needs `_write_lock`."""
        with self._lines_lock:
            lost, self._lost = self._lost, 0
        self._losses_logged_at = time.monotonic()
        log.warning(f"{lost} lines of the access log are lost: {self._reason}")

    def close(self) -> None:
        """Flush and close the file. Later lines are dropped. Waits as `flush` does. May be called again."""
        with self._write_lock:
            output = self._output
            if output is None:
                return
            if not self._write(_LAST_SECONDS):
                self._count_lost(sum(batch.count(b"\n") for batch in self._unsent), _NOT_TAKEN)
            if self._lost:
                self._log_losses()
            self._output = None
            output.close()

    def reopen(self) -> None:
        """Switch to the file at the path: when this returns, no line goes to another file. Does nothing for standard
        output.

        Waits as `flush` does. If the file cannot be opened, the old one stays in use, and an error is logged. Does
        nothing after `close`.
        """
        if self._path is None:
            return
        with self._write_lock:
            output = self._output
            if output is None:
                return
            try:
                opened = open_for_appending(self._path)
            except OSError as error:
                log.error(f"the access log still goes to the old file: cannot reopen {self._path}: {error.strerror}")
                return
            try:
                output.move(opened)
            except OSError as error:
                log.error(f"the access log still goes to the old file: {error.strerror}")
            finally:
                os.close(opened)
            # A batch that is partly written goes to the new file as a whole.
            self._sent = 0

    def _append(self, line: bytes) -> bool:
        """Add a line. Return whether it is time to write. Takes the lock by hand, as `Writer` does: every request
        calls this."""
        self._lines_lock.acquire()
        try:
            if self._bytes > _MOST_BYTES:
                self._lost += 1
                self._reason = _NOT_TAKEN
                return False
            self._lines.append(line)
            self._bytes = gathered = self._bytes + len(line)
        finally:
            self._lines_lock.release()
        return gathered >= self._batch_bytes


def _split(lines: list[bytes]) -> list[bytes]:
    """Join lines into batches of at most PIPE_BUF bytes; a longer line is a batch of its own."""
    batches: list[bytes] = []
    batch = b""
    for line in lines:
        if batch and len(batch) + len(line) > select.PIPE_BUF:
            batches.append(batch)
            batch = b""
        batch += line
    batches.append(batch)
    return batches
