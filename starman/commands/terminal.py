"""A terminal for a full-screen view: raw keys, another screen, and the user's screen and modes at its end, always.

Plain control sequences (ECMA-48) and termios instead of curses: every terminal of today understands them, and small
images of Python come without the terminfo database. Main thread only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TextIO

# Another screen, without a cursor; the screen from before, with one.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_CLEAR_LINE = "\x1b[K"
_CLEAR_BELOW = "\x1b[J"
_REVERSE, _PLAIN = "\x1b[7m", "\x1b[0m"
# How long (seconds) the rest of a control sequence may take after ESC.
_ESCAPE_SECONDS = 0.05

_SEQUENCES = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1b[4~": "end",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\x08": "backspace",
    "\x03": "q",
    " ": "space",
}


def split_keys(text: str) -> Iterator[str]:
    """The names of the keys that have sent `text`: a character, or as in _SEQUENCES. Leaves out unknown sequences."""
    while text:
        size = 1
        if text[0] == "\x1b" and len(text) > 1 and text[1] in "[O":
            size = 2
            while size < len(text) and not "@" <= text[size] <= "~":
                size += 1
            size = min(size + 1, len(text))
        key, text = text[:size], text[size:]
        if key in _SEQUENCES:
            yield _SEQUENCES[key]
        elif key.isprintable():
            yield key


def is_full_screen(out: TextIO) -> bool:
    """Whether a full-screen view can be shown: both ends are a terminal that understands control sequences."""
    return sys.stdin.isatty() and out.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Terminal:
    """The terminal of this process, between `__enter__` and `__exit__`."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._modes: list[Any] = []
        self._handlers: dict[int, Any] = {}
        self._wake: tuple[int, int] = (-1, -1)
        self._pending = ""

    def __enter__(self) -> Terminal:
        self._modes = termios.tcgetattr(self._fd)
        self._wake = os.pipe()
        for end in self._wake:
            os.set_blocking(end, False)
        handlers: dict[int, Callable[[int, object], None]] = {
            signal.SIGWINCH: self._on_resize,
            signal.SIGTSTP: self._on_suspend,
            signal.SIGTERM: _on_end,
            signal.SIGHUP: _on_end,
        }
        for signum, handler in handlers.items():
            self._handlers[signum] = signal.signal(signum, handler)
        self._enter()
        return self

    def __exit__(self, *_: object) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._leave()
        for end in self._wake:
            os.close(end)

    def _enter(self) -> None:
        tty.setcbreak(self._fd)
        self._write(_ENTER)

    def _leave(self) -> None:
        # The terminal may be gone.
        with contextlib.suppress(OSError):
            self._write(_LEAVE)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._modes)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()

    def _on_resize(self, _: int, __: object) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake[1], b"r")

    def _on_suspend(self, signum: int, _: object) -> None:
        """Ctrl-Z: give the terminal back, and stop as without a handler. Goes on here at `fg`."""
        self._leave()
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        signal.signal(signum, self._on_suspend)
        self._enter()
        self._on_resize(0, None)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines."""
        # Not by the variables COLUMNS and LINES, which do not change with the window.
        columns, lines = os.get_terminal_size(self._fd)
        return columns or 80, lines or 24

    def draw(self, lines: Sequence[tuple[str, bool]]) -> None:
        """Show lines, each with whether it is highlighted, in place of all others."""
        columns, height = self.size
        shown = []
        for text, highlighted in lines[:height]:
            line = text[:columns]
            shown.append(f"{_REVERSE}{line:{columns}}{_PLAIN}" if highlighted else line + _CLEAR_LINE)
        self._write(_HOME + "\r\n".join(shown) + _CLEAR_BELOW)

    def read_keys(self, seconds: float) -> list[str]:
        """The keys that are pressed within this time, as soon as there is one; [] when there is none, or the size has
        changed. Raises EOFError when the terminal is gone."""
        deadline = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self._fd, self._wake[0]], [], [], max(0.0, deadline - time.monotonic()))
            if self._wake[0] in ready:
                os.read(self._wake[0], 1000)
                return []
            if not ready:
                return []
            keys = list(split_keys(self._read()))
            if keys:
                return keys

    def _read(self) -> str:
        data = self._read_some()
        # An ESC alone is a key. With more behind it, it begins a sequence.
        while data.endswith((b"\x1b", b"\x1b[", b"\x1bO")) and select.select([self._fd], [], [], _ESCAPE_SECONDS)[0]:
            data += self._read_some()
        return data.decode("utf-8", "replace")

    def _read_some(self) -> bytes:
        try:
            data = os.read(self._fd, 1024)
        except OSError:
            data = b""
        if not data:
            raise EOFError("the terminal is gone")
        return data


def _on_end(signum: int, _: object) -> None:
    raise SystemExit(128 + signum)
