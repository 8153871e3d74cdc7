"""An application whose requests hang in various ways. Plain PEP 3333."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

BLOCK = bytes(65536)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    body = PATHS[environ["PATH_INFO"]](environ, query)
    if isinstance(body, bytes):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", [])
    return body


def sleep(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    time.sleep(float(query["seconds"]))
    return b"slept"


def stream(environ: dict[str, Any], query: dict[str, str]) -> Iterator[bytes]:
    for _ in range(int(query["blocks"])):
        yield BLOCK


def upload(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    print("the application reads /upload", file=sys.stderr, flush=True)
    body: bytes = environ["wsgi.input"].read()
    return body


PATHS: dict[str, Callable[[dict[str, Any], dict[str, str]], bytes | Iterator[bytes]]] = {
    "/sleep": sleep,
    "/stream": stream,
    "/upload": upload,
}
