"""What the error log says when an application fails: the request, and the traceback from the application's first frame on."""

from __future__ import annotations

import contextlib
from types import TracebackType

from starman import log
from starman.log.tracebacks import format_exception, safe_text
from starman.wsgi.environ import Environ


def log_failure(error: BaseException, environ: Environ, what: str) -> None:
    """One entry in the error log: the request, and the traceback from the application's first frame on. Never raises."""
    with contextlib.suppress(MemoryError):
        log.error(f"{what}: {described(environ)}\n{format_exception(error, _from_the_application_on)}")


def _from_the_application_on(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of ours that led to the application; None if it was never reached."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("starman."):
        frames = frames.tb_next
    return frames


def described(environ: Environ) -> str:
    """Method and target for the log. Never raises: the application may have put anything into its environ."""
    try:
        method, target = environ.get("REQUEST_METHOD", "?"), environ.get("REQUEST_URI", "?")
    except BaseException:
        return "? ?"
    return f"{safe_text(method)} {safe_text(target)}"


def not_bytes(block: object) -> TypeError:
    """What is raised for a block of a response that is something else."""
    return TypeError(f"a block of the response must be bytes, not {type(block).__name__}")
