"""Writes the access log in the combined format: `host - user [time] "request" status bytes "referrer" "user agent"`.

Threads format lines and add them; a batch of whole lines is written at once. On a file that is opened for appending,
the kernel keeps such writes of several workers apart. On a pipe it does so up to PIPE_BUF bytes, so batches are split
there.

Adding a line never waits for the reader of a pipe, terminal or socket: `flush` writes later what is not taken at once.
"""

from __future__ import annotations

import base64
import os
import re
import select
import threading
import time

from starman import log
from starman.errors import SettingError
from starman.log.output import Output, open_for_appending
from starman.log.tracebacks import safe_text
from starman.serving.dates import MONTHS
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

# The bytes that a line may contain unescaped, and the quotes and the newline that every line has.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_OUR_OWN = b'""""""\n'

# Characters that could end a line or a quoted part of it, or control a terminal.
_UNSAFE = re.compile(r'[\x00-\x1f"\\\x7f-\xff]')


class AccessLog:
    """The access log of one worker. Any thread may add lines and flush."""

    __slots__ = (
        *("_batch_bytes", "_bytes", "_cached", "_full_batch", "_lines_lock", "_lines", "_lost", "_output", "_path", "_reason"),
        *("_sent", "_losses_logged_at", "_unsent", "_write_lock"),
    )

    def __init__(self, target: str, *, in_loop: bool = False) -> None:
        """`target` is the path of a file, or "-" for standard output. With `in_loop`, the loop's thread adds lines and
        must not block, so only `flush` writes.

        Raises SettingError when the log cannot be written.
        """
        # Absolute, because the working directory may be another one when the file is opened again.
        self._path = None if target == "-" else os.path.abspath(target)
        try:
            # A duplicate of the descriptor: an application may close standard output.
            self._output: Output | None = Output(1) if self._path is None else _open(self._path)
        except OSError as error:
            raise SettingError(f"access_log: cannot write {target}: {error.strerror}") from None
        # Two locks, so that a slow disk delays one thread and not all of them. `_lines_lock` guards `_lines`, `_bytes`,
        # `_lost` and `_reason`. `_write_lock` guards the output, the batches and when losses were logged.
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
        self._cached = (0, "")  # any thread, without a lock: each thread makes the same text for a second

    @property
    def descriptor(self) -> int:
        """The descriptor of the log; -1 when it is closed. For inspection only."""
        output = self._output
        return output.fd if output is not None and output.usable else -1

    def add(self, environ: Environ, status_code: int, body_bytes: int) -> None:
        """Log an exchange. `status_code` 0 means that the client left before anything was sent: logged as 499."""
        stamp, status, size, get = self._time(), status_code or 499, body_bytes or "-", environ.get
        try:
            host, method, protocol = environ["REMOTE_ADDR"], environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
            line = (
                f'{host!s} - - [{stamp}] "{method!s} {environ["REQUEST_URI"]!s} {protocol!s}" {status} {size}'
                f' "{get("HTTP_REFERER", "-")!s}" "{get("HTTP_USER_AGENT", "-")!s}"\n'
            ).encode("latin-1", "replace")
            # Most lines need no escaping and have no user. Removing all plain characters shows it: only the quotes and
            # the newline of the format are left.
            ordinary = line.translate(None, _PLAIN) == _OUR_OWN and "HTTP_AUTHORIZATION" not in environ
            ordinary = ordinary and type(host) is str and host != "" and " " not in host
        except BaseException:  # the application may have put any object into its environ
            ordinary = False
        if not ordinary:
            line = _escaped(environ, stamp, status, size)
        if self._append(line) and self._write_lock.acquire(blocking=False):
            try:
                self._write()
            finally:
                self._write_lock.release()

    def add_refusal(self, peer: str, status_code: int) -> None:
        """Log a message that was refused before it became a request. Loop: so this only gathers the line, and writes
        nothing."""
        self._append(f'{peer} - - [{self._time()}] "-" {status_code} - "-" "-"\n'.encode("latin-1", "replace"))

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

    def _time(self) -> str:
        """Return the time as `22/Nov/2026:16:52:06 +0000`, formatted once a second, in English whatever the locale."""
        now = time.time()
        second, text = self._cached
        if not 0 <= now - second < 1:
            second = int(now)
            t = time.localtime(second)
            hours, minutes = divmod(abs(t.tm_gmtoff) // 60, 60)
            sign = "-" if t.tm_gmtoff < 0 else "+"
            text = f"{t.tm_mday:02d}/{MONTHS[t.tm_mon - 1]}/{t.tm_year}:{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d}"
            text = f"{text} {sign}{hours:02d}{minutes:02d}"
            self._cached = (second, text)
        return text


def _open(path: str) -> Output:
    fd = open_for_appending(path)
    try:
        return Output(fd)
    finally:
        os.close(fd)


def _escaped(environ: Environ, stamp: str, status: int, size: int | str) -> bytes:
    """Return the line for any environ, escaped and with the user."""

    def get(key: str) -> str:
        return _escape(text(key))

    def text(key: str) -> str:
        try:
            return safe_text(environ.get(key, "-"))
        except BaseException:  # it has a key that cannot be compared
            return "-"

    request = f"{get('REQUEST_METHOD')} {get('REQUEST_URI')} {get('SERVER_PROTOCOL')}"
    user = _user(text("HTTP_AUTHORIZATION"))
    host, referrer, agent = _word(get("REMOTE_ADDR")), get("HTTP_REFERER"), get("HTTP_USER_AGENT")
    line = f'{host} - {user} [{stamp}] "{request}" {status} {size} "{referrer}" "{agent}"\n'
    return line.encode("latin-1", "replace")


def _escape(text: str) -> str:
    """Return `text` with every character escaped as \\xHH that could end a line or a quoted part, or control a
    terminal."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def _word(text: str) -> str:
    """Return escaped `text` as one word; "-" if it is empty."""
    return text.replace(" ", "\\x20") or "-"


def _user(authorization: str) -> str:
    """Return the user name of Basic credentials (RFC 7617); "-" if there is none."""
    if authorization[:6].lower() != "basic ":
        return "-"
    try:
        name = base64.b64decode(authorization[6:].strip(), validate=True).partition(b":")[0].decode("latin-1")
    except ValueError:
        return "-"
    return _word(_escape(name))


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
