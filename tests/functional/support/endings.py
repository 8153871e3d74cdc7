"""An application with responses that are larger than what a slow reader takes while a connection lingers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from tests.functional.support.applications import pattern

SIZE = 2_000_000
LARGE = pattern(SIZE)


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """/list, /stream and /file return LARGE bytes, all other paths little. Request bodies are not read."""
    path = environ["PATH_INFO"]
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if path == "/list":
        return [LARGE]
    if path == "/stream":
        return (LARGE[at : at + 100_000] for at in range(0, SIZE, 100_000))
    if path == "/file":
        result: Iterable[bytes] = environ["wsgi.file_wrapper"](open(os.environ["TEST_LARGE"], "rb"))  # noqa: SIM115 - it is closed
        return result
    return [b"small"]
