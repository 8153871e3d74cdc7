"""Logs the failure of an application: the request, and the traceback from the first frame of the application on."""

from __future__ import annotations

import contextlib
from types import TracebackType

from starman import log
from starman.log.tracebacks import format_exception, safe_text
from starman.wsgi.environ import Environ


def log_failure(error: BaseException, environ: Environ, what: str) -> None:
    """Log the request and the traceback, from the first frame of the application on, in one entry. Never raises."""
    with contextlib.suppress(MemoryError):
        log.error(f"{what}: {described(environ)}\n{format_exception(error, _from_the_application_on)}")


def _from_the_application_on(frames: TracebackType | None) -> TracebackType | None:
    """The traceback without starman's frames before the application; None if the application was not reached."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("starman."):
        frames = frames.tb_next
    return frames


def described(environ: Environ) -> str:
    """Method and target for the log. Never raises, although the application may have put any object into its
    environ."""
    try:
        method, target = environ.get("REQUEST_METHOD", "?"), environ.get("REQUEST_URI", "?")
    except BaseException:
        return "? ?"
    return f"{safe_text(method)} {safe_text(target)}"


def not_bytes(block: object) -> TypeError:
    """The exception for a block of a response that is not bytes."""
    return TypeError(f"a block of the response must be bytes, not {type(block).__name__}")
