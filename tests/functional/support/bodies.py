"""An application that reads request bodies, and answers with their length and digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The length and the SHA-256 of the body, as JSON."""
    total, digest = 0, hashlib.sha256()
    while data := environ["wsgi.input"].read(65_536):
        total += len(data)
        digest.update(data)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([total, digest.hexdigest()]).encode()]
