"""The error log: writes one line per event to descriptor 2, which `--error-log` points at a file.

Any thread of any process may call these functions, and none blocks: lines that cannot be written at once are kept up
to a limit, and further ones are counted and dropped (`starman.log.queue`). A line is written in one call, so lines of
several workers do not mix. Must not import logging, which would add 2 MB to a master of 5 MB.
"""

from __future__ import annotations

import contextlib
import os
import time

from starman.log.queue import LogQueue

# How long (seconds) a process waits at its end for its last lines to be written.
_LAST_LINES = 1.0
# How many characters of a text are logged when there is not enough memory for all of it.
_SHORT = 1000
# How many characters of any text are logged, half of them from its beginning and half from its end. Escaping an
# exception that contains a request body would stop the whole process for a second per 10 MB.
_MOST = 131_072


def info(text: str) -> None:
    """Log an event of normal operation: ready, restarted, stopped."""
    _write("INFO", text)


def warning(text: str) -> None:
    """Log a problem that starman has handled."""
    _write("WARNING", text)


def error(text: str) -> None:
    """Log a problem that needs attention. `text` may have several lines (a traceback)."""
    _write("ERROR", text)


class _EscapeTable(dict[int, int | str]):
    """For `str.translate`: escapes every character that is invisible or has an effect in a terminal or editor.

    Escaped: control characters, formatting characters (bidirectional overrides, zero-width characters, tags, soft
    hyphens), line and paragraph separators, spaces other than the ordinary one, surrogates, and code points without a
    meaning (Unicode general categories C*, Z*). Results are not cached, so clients cannot make the table grow.
    """

    def __missing__(self, code: int) -> int | str:
        if chr(code).isprintable():
            return code
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# All lines of an event but the first are indented, so that none of them looks like another event.
_ESCAPE_TABLE = _EscapeTable({ord("\t"): ord("\t"), ord("\n"): "\n  "})
# Printable by category, but invisible: joiners, fillers and variation selectors.
_UNSEEN = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_ESCAPE_TABLE.update((code, f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}") for code in _UNSEEN)


def escaped(text: str) -> str:
    """Escape `text` so that it is safe to show: a message may contain text from a client. Never raises."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPE_TABLE)


def _write(level: str, text: str) -> None:
    text = _bounded(text)
    # If there is not enough memory for the whole text, write its beginning.
    for part in (slice(None), slice(_SHORT)):
        with contextlib.suppress(Exception):
            _queue.put_lines(_line(level, text[part]).encode("utf-8", "backslashreplace"))
            break


def _bounded(text: str) -> str:
    """Shorten `text` to its beginning and its end, with a line between them that says how much is left out."""
    left_out = len(text) - _MOST
    if left_out <= 0:
        return text
    half = _MOST // 2
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


def _line(level: str, text: str) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"[{stamp}] [{os.getpid()}] [{level}] {escaped(text.rstrip())}\n"


def raw(text: str) -> None:
    """Write complete lines without a prefix. Never raises: a full disk or a closed terminal must not stop the server."""
    with contextlib.suppress(OSError, ValueError, MemoryError):
        _queue.put_lines(text.encode("utf-8", "backslashreplace"))


def _lost(count: int, reason: str) -> bytes:
    lines = "1 line of the error log was" if count == 1 else f"{count} lines of the error log were"
    return _line("WARNING", f"{lines} lost: {reason}").encode()


_queue = LogQueue(_lost)


def open_own_descriptor(fd: int = 2) -> bool:
    """Write to the file of `fd` by a descriptor of the log's own, which applications do not close by accident.

    Returns whether a descriptor was opened: then call `close_own_descriptor` at the end. False: the log has one
    already, or no descriptor is left. Afterwards, descriptor 2 may be closed or redirected. Main thread.
    """
    return _queue.open_output(fd)


def renew_own_descriptor() -> None:
    """Write to the file to which descriptor 2 has been redirected. Main thread."""
    _queue.renew_output()


def close_own_descriptor() -> None:
    """Close the log's own descriptor, and write to descriptor 2 again. Main thread."""
    _queue.close_output()


def fileno() -> int:
    """The descriptor that lines are written to. It may be non-blocking."""
    return 2 if _queue.output is None else _queue.output.fd


def pending() -> bool:
    """Whether lines are waiting: call `write_pending` soon."""
    return _queue.pending


def write_pending() -> None:
    """Write as many waiting lines as possible without blocking."""
    _queue.write_pending()


def finish() -> None:
    """Call before the process ends: wait up to a second until all lines are written."""
    _queue.finish_writing(_LAST_LINES)
