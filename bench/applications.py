"""Hello world for WSGI, in a module of its own: all that a worker imports counts in its memory. See workloads.py
for others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"Hello, world!\n"
FIELDS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A constant of 14 bytes."""
    start_response("200 OK", list(FIELDS))
    return [BODY]
