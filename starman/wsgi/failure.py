"""What the error log says when an application fails: the request, and the traceback from the application's first frame on."""

from __future__ import annotations

import traceback
from types import TracebackType

from starman import log
from starman.wsgi.environ import Environ


def log_failure(error: BaseException, environ: Environ, what: str) -> None:
    """One entry in the error log: the request, and the traceback from the application's first frame on."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            link.__traceback__ = _from_the_application_on(link.__traceback__)
            chain += (link.__cause__, link.__context__)
    text = "".join(traceback.format_exception(error))
    log.error(f"{what}: {described(environ)}\n{text}")


def _from_the_application_on(frames: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of ours that led to the application; None if it was never reached."""
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("starman."):
        frames = frames.tb_next
    return frames


def described(environ: Environ) -> str:
    """What was asked for, for the log."""
    return f"{environ.get('REQUEST_METHOD', '?')} {environ.get('REQUEST_URI', '?')}"
