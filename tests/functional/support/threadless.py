"""An application that makes the start of threads fail, as a limit of the system does, or allows it again. Plain PEP
3333."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

_start = threading.Thread.start


def fail(self: threading.Thread) -> NoReturn:
    raise RuntimeError("can't start new thread")


def retire_idle_threads() -> None:
    """Take all idle threads from anyio, as if they were busy. In the loop's thread."""
    for thread in threading.enumerate():
        if hasattr(thread, "idle_workers"):
            thread.idle_workers.clear()
            thread.idle_workers = deque()


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    if environ["PATH_INFO"] in ("/limit", "/limit-all"):
        threading.Thread.start = fail  # type: ignore[method-assign]
        if environ["PATH_INFO"] == "/limit-all":
            retire_idle_threads()
    elif environ["PATH_INFO"] == "/free":
        threading.Thread.start = _start  # type: ignore[method-assign]
    body = f"{os.getpid()} {hashlib.md5(environ['wsgi.input'].read()).hexdigest()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
