"""Finds the line of the application that a thread is on, and formats the stack of its calls.

Reads frames of running threads, which stand still meanwhile, because the caller holds the GIL (hazard 15). Shows no
lines of source files: reading them could block the loop.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from types import FrameType

# How many calls of a deep stack are shown: so many of the outermost, and so many of the innermost.
MOST_OUTER = 20
MOST_INNER = 40

_PATHS = sysconfig.get_paths()
_LIBRARY = tuple({os.path.join(_PATHS[name], "") for name in ("stdlib", "platstdlib")})
_PACKAGES = ("/site-packages/", "/dist-packages/")


def application_frames(ident: int) -> list[FrameType]:
    """Return the frames of a thread, the outermost first, from the application's first one on.

    ident: as of `threading.get_ident`. The list is empty if the thread has ended, or runs no application.
    """
    frame = sys._current_frames().get(ident)
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    while frames and (_is_own(frames[-1]) or frames[-1].f_code.co_filename.endswith(f"{os.sep}threading.py")):
        frames.pop()
    return frames[::-1]


def is_in_application(ident: int) -> bool:
    """Return whether a thread runs code of the application or of a library that it has called, and not code of starman
    that it has called or returned to. Code of starman that is compiled has no frames of its own."""
    frames = application_frames(ident)
    return bool(frames) and not any(map(_is_own, frames))


def current_line(frames: list[FrameType]) -> str:
    """Return `/srv/shop/views.py:31 in report`: where the application is; "" without frames.

    That is the innermost frame that belongs neither to starman nor to the standard library; without one, the innermost
    frame that is not starman's.
    """
    found = None
    for frame in reversed(frames):
        if _is_own(frame):
            continue
        if not _is_library(frame):
            found = frame
            break
        found = found or frame
    return "" if found is None else f"{_escaped(found.f_code.co_filename)}:{found.f_lineno} in {_escaped(found.f_code.co_name)}"


def format_frames(frames: list[FrameType]) -> str:
    """Return the stack, a line for each call, the innermost last; a note in place of those left out."""
    lines = [
        f'File "{_escaped(frame.f_code.co_filename)}", line {frame.f_lineno}, in {_escaped(frame.f_code.co_name)}'
        for frame in frames
    ]
    if len(lines) > MOST_OUTER + MOST_INNER:
        lines[MOST_OUTER:-MOST_INNER] = [f"... {len(lines) - MOST_OUTER - MOST_INNER} calls left out ..."]
    return "\n".join(lines) or "(no frame of the application)"


def _is_own(frame: FrameType) -> bool:
    name = frame.f_globals.get("__name__")
    return type(name) is str and name.startswith("starman.")


def _is_library(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return path.startswith("<frozen ") or (path.startswith(_LIBRARY) and not any(part in path for part in _PACKAGES))


def _escaped(text: str) -> str:
    """A name of the application, in one line."""
    return text if text.isprintable() else ascii(text)[1:-1]
