"""An application that brings its server along: `python examples/embed_run.py`, or with a listener: `… 127.0.0.1:8000`.

`starman.run` takes every setting of the command line by its name, with underscores, and returns when the server ends.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any

import starman


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Return the path of the request."""
    body = f"You asked for {environ['PATH_INFO']}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


if __name__ == "__main__":
    starman.run(app, listen=sys.argv[1:] or ["127.0.0.1:5000"], workers=2, threads=4)
