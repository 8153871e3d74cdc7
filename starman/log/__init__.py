"""The error log: one line an event, on file descriptor 2, which `--error-log` points at a file.

Any thread of any process may call, and no call waits: lines that are not taken at once are kept up to a limit, and further ones
counted and dropped (`logqueue`). A line leaves in one write, so lines of many workers do not mix. The logging package is not
imported: it would add 2 MB to a master of 5 MB.
"""

from __future__ import annotations

import contextlib
import os
import time

from starman.log.queue import LogQueue

# How long (seconds) the last lines of a process may take.
_LAST_LINES = 1.0
# How much of a text is logged when there is no memory for all of it, in characters.
_SHORT = 1000
# How much of any text is logged, in characters: its beginning and its end, half of this each. Looking at each character of an
# exception that shows a request body would stop the whole process for a second per 10 MB.
_MOST = 131_072


def info(text: str) -> None:
    """What an operator wants to know once: ready, restarted, stopped."""
    _write("INFO", text)


def warning(text: str) -> None:
    """Something went wrong, and starman has dealt with it."""
    _write("WARNING", text)


def error(text: str) -> None:
    """Something went wrong that somebody should look at. `text` may have several lines (a traceback)."""
    _write("ERROR", text)


class _EscapeTable(dict[int, int | str]):
    """For `str.translate`: the visible form of every character that a terminal or an editor acts on, or that is invisible.

    Escaped: control characters, formatting characters (bidirectional overrides, zero-width characters, tags, soft hyphens), line
    and paragraph separators, spaces other than the ordinary one, surrogates, and code points without a meaning (Unicode general
    categories C*, Z*). Results are not cached, so clients cannot make the table grow.
    """

    def __missing__(self, code: int) -> int | str:
        if chr(code).isprintable():
            return code
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# The lines of one event are indented, all but the first, so that none of them can pass for an event.
_ESCAPE_TABLE = _EscapeTable({ord("\t"): ord("\t"), ord("\n"): "\n  "})
# Printable by their category but invisible: joiners, fillers and variation selectors.
_UNSEEN = (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_ESCAPE_TABLE.update((code, f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}") for code in _UNSEEN)


def escaped(text: str) -> str:
    """`text` in a form that is safe to show: an exception's message may hold text from a client. Never raises."""
    if text.isascii() and text.isprintable():
        return text
    return text.translate(_ESCAPE_TABLE)


def _write(level: str, text: str) -> None:
    text = _bounded(text)
    # When there is no memory for all of it: its first characters have what matters.
    for part in (slice(None), slice(_SHORT)):
        with contextlib.suppress(Exception):
            _queue.put_lines(_line(level, text[part]).encode("utf-8", "backslashreplace"))
            break


def _bounded(text: str) -> str:
    """`text`, or its beginning and its end, with a line between them that says how much is missing."""
    left_out = len(text) - _MOST
    if left_out <= 0:
        return text
    half = _MOST // 2
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


def _line(level: str, text: str) -> str:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S %z")
    return f"[{stamp}] [{os.getpid()}] [{level}] {escaped(text.rstrip())}\n"


def raw(text: str) -> None:
    """Write `text`, whole lines, as it is. Never raises: a full disk or a closed terminal must not take the server down."""
    with contextlib.suppress(OSError, ValueError, MemoryError):
        _queue.put_lines(text.encode("utf-8", "backslashreplace"))


def _lost(count: int, reason: str) -> bytes:
    lines = "1 line of the error log was" if count == 1 else f"{count} lines of the error log were"
    return _line("WARNING", f"{lines} lost: {reason}").encode()


_queue = LogQueue(_lost)


def open_own_descriptor(fd: int = 2) -> bool:
    """Write to the file that `fd` leads to now, by a descriptor of the log's own, which applications do not close by accident.

    True: call `close_own_descriptor` at the end. False: the log has a descriptor of its own already, or no descriptor is left.
    From then on descriptor 2 may be closed or pointed elsewhere. Main thread.
    """
    return _queue.open_output(fd)


def renew_own_descriptor() -> None:
    """Follow descriptor 2, which has been pointed at another file. Main thread."""
    _queue.renew_output()


def close_own_descriptor() -> None:
    """Write to descriptor 2 again. Main thread."""
    _queue.close_output()


def fileno() -> int:
    """The descriptor that lines are written to. It may be non-blocking."""
    return 2 if _queue.output is None else _queue.output.fd


def pending() -> bool:
    """Whether lines wait to be written: call `write_pending` soon."""
    return _queue.pending


def write_pending() -> None:
    """Write waiting lines, as many as are taken at once. Never waits."""
    _queue.write_pending()


def finish() -> None:
    """Call before the process ends: give the reader up to a second to take all lines."""
    _queue.finish_writing(_LAST_LINES)
