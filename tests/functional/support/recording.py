"""The WSGI application of test_raw: it answers each request with a description of the call, and keeps a record of
the calls.

The record shows a smuggled request even if its response is lost. `GET /--calls` returns the record, is not in it,
and begins a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

RECORD = "/--calls"

_calls: list[dict[str, Any]] = []


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Return, as JSON, a description of this call, or of all calls since the last time."""
    if environ["PATH_INFO"] == RECORD:
        answer: object = _calls.copy()
        _calls.clear()
    else:
        answer = call = describe(environ)
        _calls.append(call)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


def describe(environ: dict[str, Any]) -> dict[str, Any]:
    """One call: the request line, the body, and all fields as the application gets them."""
    return {
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "query": environ["QUERY_STRING"],
        "protocol": environ["SERVER_PROTOCOL"],
        "fields": {name: value for name, value in environ.items() if name.startswith(("HTTP_", "CONTENT_"))},
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
