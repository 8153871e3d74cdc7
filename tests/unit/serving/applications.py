"""Applications for the tests that run a real Service, and a request to them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.functional.support.wire import encode_request
from tests.unit.serving.running import SECONDS

Start = Callable[..., Any]
HELLO = encode_request("GET", "/hello")
BIG = os.urandom(1 << 20) * 8


def echo(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Answers with the target and the body."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_URI"].encode(), b"|", environ["wsgi.input"].read()]


def big(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """The response to /big is large, all others are small."""
    start_response("200 OK", [])
    return [BIG if environ["PATH_INFO"] == "/big" else b"small"]


class Gate:
    """An application that waits: sets `entered` when called, waits for `opened`, then streams; `closed` is set at the
    end."""

    def __init__(self, blocks: int = 1) -> None:
        self.blocks = blocks
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.closed = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterator[bytes] | list[bytes]:
        if environ["PATH_INFO"] != "/gate":
            return echo(environ, start_response)
        self.entered.set()
        assert self.opened.wait(SECONDS)
        start_response("200 OK", [])
        return self.stream()

    def stream(self) -> Iterator[bytes]:
        try:
            for _ in range(self.blocks):
                yield b"x" * 100_000
        finally:
            self.closed.set()
