"""Compares our framing of bodies with llhttp's, in memory: `python -m bench.framing [ROUNDS]`.

Both read the same requests. Ours: `RequestParser`, with all its checks of the head. llhttp: httptools'
`HttpRequestParser`, with callbacks that gather the fields and the body, as a server has to, and no such checks.
Rounds are interleaved. Prints the medians, in microseconds per request. Only the bodies differ between the
requests.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import httptools

from starman.proto.events import Limits
from starman.proto.request import RequestParser

# What one read of the loop brings at most.
READ_BYTES = 262_144
SECONDS = 0.2
ROUNDS = 9

HEAD = b"POST /upload HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunked(size: int, count: int) -> bytes:
    """A request with `count` chunks of `size` bytes."""
    return CHUNKED + b"%x\r\n%b\r\n" % (size, b"x" * size) * count + b"0\r\n\r\n"


def sized(size: int) -> bytes:
    """A request with a body of `size` bytes, and its Content-Length."""
    return HEAD + b"Content-Length: %d\r\n\r\n" % size + b"x" * size


MESSAGES = {
    "no body": HEAD + b"\r\n",
    "Content-Length, 100 bytes": sized(100),
    "Content-Length, 10 kB": sized(10_000),
    "Content-Length, 1 MB": sized(1_000_000),
    "chunked, 1 of 100 bytes": chunked(100, 1),
    "chunked, 100 of 10 bytes": chunked(10, 100),
    "chunked, 100 of 1 kB": chunked(1000, 100),
    "chunked, 16 of 64 kB": chunked(65_536, 16),
}


class Gatherer:
    """Gathers what llhttp's callbacks pass."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.fields: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.complete = 0

    def on_message_begin(self) -> None:
        self.fields, self.pieces = [], []

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, body: bytes) -> None:
        self.pieces.append(body)

    def on_message_complete(self) -> None:
        self.complete += 1


def by_llhttp(reads: list[bytes], requests: int) -> None:
    """Read the requests of one connection by llhttp."""
    gatherer = Gatherer()
    for data in reads:
        gatherer.parser.feed_data(data)
    assert gatherer.complete == requests


def by_ours(reads: list[bytes], requests: int) -> None:
    """Read the requests of one connection by `RequestParser`."""
    parser = RequestParser(LIMITS)
    heads = 0
    pieces: list[bytes] = []
    for data in reads:
        parser.receive_data(data)
        while (event := parser.next_event()) is not None:
            if isinstance(event, bytes):
                pieces.append(event)
            elif hasattr(event, "method"):
                heads += 1
                pieces = []
    assert heads == requests


LIMITS = Limits()
WAYS: dict[str, Callable[[list[bytes], int], None]] = {"ours": by_ours, "llhttp": by_llhttp}


def main() -> int:
    """Print a table in Markdown."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    print("| bodies | ours, µs a request | llhttp, µs a request | ours / llhttp |\n|---|---|---|---|")
    for name, message in MESSAGES.items():
        requests = max(1, READ_BYTES // len(message) // 8)
        data = message * requests
        reads = [data[at : at + READ_BYTES] for at in range(0, len(data), READ_BYTES)]
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, read in WAYS.items():
                found[way].append(_measure(read, reads, requests))
        ours, theirs = (statistics.median(found[way]) for way in WAYS)
        print(f"| {name} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |", flush=True)
    return 0


def _measure(read: Callable[[list[bytes], int], None], reads: list[bytes], requests: int) -> float:
    """Microseconds per request."""
    count = 0
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < SECONDS:
        read(reads, requests)
        count += requests
    return elapsed / count * 1e6


if __name__ == "__main__":
    sys.exit(main())
