"""The error log: writes one record per event to descriptor 2, which `--error-log` points at a file, or to syslog.

Any thread of any process may call these functions, and none blocks: records that cannot be written at once are kept
up to a limit, and further ones are counted and dropped (`starman.log.queue`). A line is written in one call, so lines
of several workers do not mix. Must not import logging, which would add 2 MB to a master of 5 MB.
"""

from __future__ import annotations

import contextlib
import os

from starman.log.formats import CRITICAL, DEBUG, ERROR, FORMATS, INFO, LEVELS, WARNING, Format, Record, escaped
from starman.log.log_socket import LogSocketOutput
from starman.log.queue import LogQueue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.log.output import Output

__all__ = ["CRITICAL", "DEBUG", "ERROR", "INFO", "WARNING", "escaped"]

# How long (seconds) a process waits at its end for its last lines to be written.
_LAST_LINES = 1.0
_UNSENT = "the last lines of the error log are lost, because they could not be sent within a second"
# How many characters of a text are logged when there is not enough memory for all of it.
_SHORT = 1000


class _Chosen:
    """What this process writes, which a fork inherits. The main thread changes it.

    least: the least level that is written. body: the format of the settings. form: the format of an output that is not
    a file, which the settings do not replace; None: there is no such output. flush: called before a record is written,
    and at the end, with True. redirected: whether descriptor 2 leads elsewhere than to the error log.
    """

    __slots__ = ("body", "flush", "form", "least", "redirected")

    def __init__(self) -> None:
        self.least = INFO
        self.body: Format = FORMATS["text"]
        self.form: Format | None = None
        self.flush: Callable[[bool], None] | None = None
        self.redirected = False


_chosen = _Chosen()

# How many records of each level this process has logged since `begin_counting`. Threads count without a lock: two
# records at the same moment may count as one.
_counts: dict[int, int] = {}
# Those of them with a traceback are counted here, too.
_TRACEBACK = "Traceback (most recent call last):\n"
_EXCEPTIONS = -1


def configure(level: str, form: str) -> None:
    """Set the least level that is written ("info"), and the format ("text", "json"), for this process and its later
    forks. Main thread."""
    _chosen.least = LEVELS[level]
    _chosen.body = FORMATS[form]


def enabled(level: int) -> bool:
    """Whether records of this level are written. Ask before a text is made that is expensive to make."""
    return level >= _chosen.least


def debug(text: str) -> None:
    """Log a step that matters for finding a problem."""
    if _chosen.least <= DEBUG:
        _write(DEBUG, text)


def info(text: str) -> None:
    """Log an event of normal operation: ready, restarted, stopped."""
    if _chosen.least <= INFO:
        _write(INFO, text)


def warning(text: str) -> None:
    """Log a problem that starman has handled."""
    if _chosen.least <= WARNING:
        _write(WARNING, text)


def error(text: str) -> None:
    """Log a problem that needs attention. `text` may have several lines (a traceback)."""
    if _chosen.least <= ERROR:
        _write(ERROR, text)


def critical(text: str) -> None:
    """Log a problem that keeps the whole server from its work, or a bug in the server itself."""
    _write(CRITICAL, text)


def application_output(text: str, pid: int = 0) -> None:
    """Log a line that the application has printed (`--capture-output`), whatever the level. `pid`: in that process; 0:
    in this one."""
    with contextlib.suppress(Exception):
        _put(Record(INFO, text, pid or os.getpid(), captured=True))


def begin_counting() -> None:
    """Count records from now on, in a fresh fork."""
    _counts.clear()


def counts() -> dict[str, int]:
    """How many records were logged since the start of this process: warning, error, critical; and exception: how many
    errors among them have a traceback. Any thread."""
    levels = (("warning", WARNING), ("error", ERROR), ("critical", CRITICAL), ("exception", _EXCEPTIONS))
    return {name: _counts.get(level, 0) for name, level in levels}


def _write(level: int, text: str) -> None:
    _counts[level] = _counts.get(level, 0) + 1
    if level == ERROR and _TRACEBACK in text:
        _counts[_EXCEPTIONS] = _counts.get(_EXCEPTIONS, 0) + 1
    if _chosen.flush is not None:
        _chosen.flush(False)
    # If there is not enough memory for the whole text, write its beginning.
    for part in (slice(None), slice(_SHORT)):
        with contextlib.suppress(Exception):
            _put(Record(level, text[part] if part.stop else text, os.getpid()))
            break


def _put(record: Record) -> None:
    form = current_format()
    _queue.put(form.encode(record), whole=form.whole)


def flush_first(function: Callable[[bool], None] | None) -> None:
    """Call `function` before each record, and at the end with True: it logs what the application has printed before.
    Main thread."""
    _chosen.flush = function


def current_format() -> Format:
    """The format in which records are written now."""
    return _chosen.body if _chosen.form is None else _chosen.form


def body_format() -> Format:
    """The format of the settings: that of the message, where an output adds a header of its own."""
    return _chosen.body


def _lost(count: int, reason: str) -> list[bytes]:
    lines = "1 line of the error log was" if count == 1 else f"{count} lines of the error log were"
    return current_format().encode(Record(WARNING, f"{lines} lost: {reason}", os.getpid()))


_queue = LogQueue(_lost)


def use_output(output: Output | None, form: Format | None) -> Output | None:
    """Write to `output` in the format `form` from now on (None: that of the settings). Returns the output so far,
    which the caller keeps or closes. Main thread."""
    _chosen.form = form
    return _queue.exchange_output(output)


def open_own_descriptor(fd: int = 2) -> bool:
    """Write to the file of `fd` by a descriptor of the log's own, which applications do not close by accident.

    Returns whether a descriptor was opened: then call `close_own_descriptor` at the end. False: the log has one
    already, or no descriptor is left. Afterwards, descriptor 2 may be closed or redirected. Main thread.
    """
    return _queue.open_output(fd)


def renew_own_descriptor() -> None:
    """Write to the file to which descriptor 2 has been redirected. Does nothing for an output that is not a file. Main
    thread."""
    _queue.renew_output()


def close_own_descriptor() -> None:
    """Close the log's own descriptor, and write to descriptor 2 again. Main thread."""
    _queue.close_output()


def put_packet(packet: bytes) -> None:
    """Send a packet to the log process, after the records so far. Main thread."""
    _queue.put([packet], whole=True)


def duplicate_output(prefix: bytes) -> Output | None:
    """An output of its own to the log process, which puts `prefix` before each packet; None: there is no log process.
    Raises OSError without descriptors."""
    output = _queue.output
    return LogSocketOutput(output.fd, prefix) if isinstance(output, LogSocketOutput) else None


def has_own_output() -> bool:
    """Whether records are written by a descriptor of the log's own, so that descriptor 2 may be redirected."""
    return _queue.output is not None


def keep_descriptor_2() -> None:
    """Descriptor 2 leads elsewhere in this process and its forks: `follow` must not change it. Main thread."""
    _chosen.redirected = True


def follow(fd: int) -> None:
    """Write to the file of `fd` from now on, by the log's own descriptor, and by descriptor 2 unless that leads
    elsewhere. The caller closes `fd`. Main thread."""
    if _chosen.redirected:
        _queue.renew_output(fd)
    else:
        os.dup2(fd, 2)
        _queue.renew_output()


def fileno() -> int:
    """The descriptor of the file to which records are written. It may be non-blocking. 2 for an output that is not a
    file."""
    output = _queue.output
    return 2 if output is None or not output.takes_text else output.fd


def pending() -> bool:
    """Whether lines are waiting: call `write_pending` soon."""
    return _queue.pending


def write_pending() -> None:
    """Write as many waiting lines as possible without blocking."""
    _queue.write_pending()


def finish() -> None:
    """Call before the process ends: wait up to a second until all lines are written."""
    if _chosen.flush is not None:
        _chosen.flush(True)
    _queue.finish_writing(_LAST_LINES)
    output = _queue.output
    if _queue.pending and output is not None and not output.takes_text:
        with contextlib.suppress(OSError):
            os.write(2, FORMATS["text"].encode(Record(WARNING, _UNSENT, os.getpid()))[0])
