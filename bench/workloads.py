"""The applications that are measured, besides hello. They do as little as possible: the server is to be measured.

`site` has several paths, for loads with different requests; every other application answers alike at any path.
"""

from __future__ import annotations

import atexit
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

from bench.applications import BODY, hello

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

MEGABYTE = b"x" * 1_000_000
BLOCK = b"x" * 16_384
ROWS = 1_000
STREAM_BLOCKS = 64
# More than the kernel takes for one connection, which is 3 MB where tcp_wmem allows 4 with all that it counts.
LARGE = b"x" * 4_000_000
# What one piece of a large response is, and one read of a large request.
PIECE_BYTES = 65_536
PIECE = b"x" * PIECE_BYTES

IO_SECONDS = 0.005
# Long enough that a client of this program keeps up with twice the rate that the threads allow.
OVERLOAD_SECONDS = 0.02
# In the mix, and of no other request.
SLOW_SECONDS = 0.05
# Turns of an empty loop: 0.4 ms on the machine that this was written on. The same work for all servers, not the same
# time.
CPU_TURNS = 20_000

RECORDS = [{"id": number, "name": f"item {number}", "price": number * 1.25, "tags": ["a", "b"]} for number in range(155)]


def _text(start_response: StartResponse, body: bytes, content_type: str = "text/plain; charset=utf-8") -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


def document(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """10 kB of JSON, made for each request."""
    return _text(start_response, json.dumps(RECORDS).encode(), "application/json")


def megabyte(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A constant of 1 MB, in one piece."""
    return _text(start_response, MEGABYTE, "application/octet-stream")


def stream(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """64 blocks of 16 kB, without Content-Length."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return (BLOCK for _ in range(STREAM_BLOCKS))


def rows(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A table of 1,000 rows of some 60 bytes, each made and yielded alone, as an export of a database does."""
    start_response("200 OK", [("Content-Type", "text/csv; charset=utf-8")])
    return (
        f"{number},item {number},{number * 1.25:.2f},2026-01-01T00:00:00,some words,{number % 7}\r\n".encode()
        for number in range(ROWS)
    )


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A file of 1 MB, by wsgi.file_wrapper if the server has one."""
    opened = open(_file_path(), "rb")  # noqa: SIM115 - the server closes it
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(MEGABYTE)))])
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(opened, PIECE_BYTES) if wrapper is not None else _pieces(opened)


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body to its end, and return its length."""
    stream = environ["wsgi.input"]
    left = int(environ.get("CONTENT_LENGTH") or 0)
    total = 0
    while left and (data := stream.read(min(left, PIECE_BYTES))):
        total += len(data)
        left -= len(data)
    return _text(start_response, b"%d\n" % total)


def waiting(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Wait 5 ms without the GIL, as for a database."""
    time.sleep(IO_SECONDS)
    return _text(start_response, BODY)


def overloaded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Wait 20 ms without the GIL."""
    time.sleep(OVERLOAD_SECONDS)
    return _text(start_response, BODY)


def computing(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Compute for 0.4 ms with the GIL."""
    for _ in range(CPU_TURNS):
        pass
    return _text(start_response, BODY)


def site(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`/` is hello, `/slow` waits 50 ms, `/large` is 4 MB, `/bytes/N` is N bytes in pieces of 64 kB."""
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(SLOW_SECONDS)
    elif path == "/large":
        return _text(start_response, LARGE, "application/octet-stream")
    elif path.startswith("/bytes/"):
        return _sized(int(path.removeprefix("/bytes/")), start_response)
    return hello(environ, start_response)


def _sized(length: int, start_response: StartResponse) -> Iterable[bytes]:
    if length <= PIECE_BYTES:
        return _text(start_response, PIECE[:length])
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))])
    whole, rest = divmod(length, PIECE_BYTES)
    return (PIECE if number < whole else PIECE[:rest] for number in range(whole + bool(rest)))


def _pieces(opened: IO[bytes]) -> Iterator[bytes]:
    with opened:
        while data := opened.read(PIECE_BYTES):
            yield data


_path = ""


def _file_path() -> str:
    """A file of 1 MB, one for each process that serves it."""
    global _path  # noqa: PLW0603 - made when it is first asked for, in the process that serves
    if not _path:
        with tempfile.NamedTemporaryFile(prefix="bench-", delete=False) as made:
            made.write(MEGABYTE)
        _path = made.name
        atexit.register(os.unlink, _path)
    return _path
