"""The paths of the page: / (the file), /events (server-sent events) and /stacks. Called in threads."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Protocol

    Answer = tuple[str, list[tuple[str, str]], bytes | Iterable[bytes]]
    Page = Callable[[dict[str, Any]], Answer]

    class Source(Protocol):
        """Where the page's data come from. Each method waits, and may raise MasterSilentError."""

        def join(self) -> tuple[int, bytes] | None:
            """See `Feed.join`."""

        def next_event(self, after: int) -> tuple[int, bytes] | None:
            """See `Feed.next_event`."""

        def leave(self) -> None:
            """See `Feed.leave`."""

        def read_stacks(self) -> list[dict[str, Any]]:
            """See `StatusReader.read_stacks`, without force."""


_FILE = Path(__file__).with_name("page.html")
_BLOCKS = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)
# How long (seconds) one stream lasts; the page then asks for another one. What a client does not read fills the
# buffers of the kernel, which may take hours to notice: a client that reads nothing loses its place after this time.
STREAM_SECONDS = 60.0
_RETRY = [("Content-Type", "text/plain; charset=utf-8"), ("Retry-After", "5")]


def make_pages(source: Source) -> dict[str, Page]:
    """The functions by path."""
    body, policy = read_page()
    kind = ("Content-Type", "text/html; charset=utf-8")
    fields = [kind, ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer")]

    def page(environ: dict[str, Any]) -> Answer:
        return "200 OK", fields, body

    def events(environ: dict[str, Any]) -> Answer:
        kind = [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")]
        if environ["REQUEST_METHOD"] == "HEAD":
            return "200 OK", kind, b""
        joined = source.join()
        if joined is None:
            return "503 Service Unavailable", _RETRY, b"too many viewers at a time\n"
        return "200 OK", kind, Viewer(source, *joined)

    def stacks(environ: dict[str, Any]) -> Answer:
        return _answer_stacks(environ, source)

    return {"/": page, "/events": events, "/stacks": stacks}


class Viewer:
    """The body of one stream of events. The thread of the request, only."""

    __slots__ = ("_first", "_number", "_source")

    def __init__(self, source: Source, number: int, first: bytes) -> None:
        """`first` is sent before the events after `number`."""
        self._source = source
        self._number = number
        self._first = first

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        ends_at = time.monotonic() + STREAM_SECONDS
        while time.monotonic() < ends_at:
            event = self._source.next_event(self._number)
            if event is None:
                return
            self._number, data = event
            yield data

    def close(self) -> None:
        """PEP 3333: the stream has ended, or its client has left."""
        self._source.leave()


def read_page() -> tuple[bytes, str]:
    """The page, and its Content-Security-Policy: only its own script and style run, named by their hashes."""
    body = _FILE.read_bytes()
    hashes = {kind.decode(): base64.b64encode(hashlib.sha256(text).digest()).decode() for kind, text in _BLOCKS.findall(body)}
    return body, (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _answer_stacks(environ: dict[str, Any], source: Source) -> Answer:
    pids = parse_qs(environ.get("QUERY_STRING", "")).get("pid", [])
    for process in source.read_stacks():
        if process["pid"] is not None and [str(process["pid"])] == pids:
            return "200 OK", [("Content-Type", "application/json")], json.dumps(process).encode() + b"\n"
    text = b"no process of the server has this pid: /stacks?pid=NUMBER, from /status\n"
    return "404 Not Found", [("Content-Type", "text/plain; charset=utf-8")], text
