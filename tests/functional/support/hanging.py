"""An application whose requests hang in various ways. Plain PEP 3333."""

from __future__ import annotations

import ctypes
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

BLOCK = bytes(65536)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    if "deadline" in query:
        environ["starman.deadline"](float(query["deadline"]) or None)
    body = PATHS[environ["PATH_INFO"]](environ, query)
    if isinstance(body, bytes):
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    start_response("200 OK", [("Content-Length", query["length"])] if "length" in query else [])
    return body


def hello(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    return threading.current_thread().name.encode()


def sleep(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    time.sleep(float(query.get("seconds", "1000")))
    return b"slept"


def lock(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    taken = threading.Lock()
    with taken:
        taken.acquire()
    return b""


def busy(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    until = time.monotonic() + float(query.get("seconds", "1000"))
    while time.monotonic() < until:
        pass
    return b"busy"


def careful(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    """Be busy, and say which exception ends that."""
    try:
        return busy(environ, query)
    except Exception:
        print("an ordinary exception", file=sys.stderr, flush=True)
        raise
    finally:
        print(f"cleaned up after {sys.exc_info()[0]}", file=sys.stderr, flush=True)


def blocked(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    ours, _theirs = socket.socketpair()
    return ours.recv(1)


def native(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    """Sleep in a C call that releases the interpreter's lock."""
    ctypes.CDLL(None).sleep(1000)
    return b""


def held(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    """Compute in a C call that holds the interpreter's lock. Unlike a sleep, no signal ends it."""
    sum(range(10**12))
    return b""


def stream(environ: dict[str, Any], query: dict[str, str]) -> Iterator[bytes]:
    for _ in range(int(query["blocks"])):
        yield BLOCK
    time.sleep(float(query.get("seconds", "0")))


def begun(environ: dict[str, Any], query: dict[str, str]) -> Iterator[bytes]:
    """Send a block, then hang."""
    yield b"begun"
    time.sleep(1000)


def events(environ: dict[str, Any], query: dict[str, str]) -> Iterator[bytes]:
    """Server-sent events, with pauses."""
    for number in range(int(query["count"])):
        time.sleep(0.2)
        yield b"data: %d\n\n" % number


def upload(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    print("the application reads /upload", file=sys.stderr, flush=True)
    body: bytes = environ["wsgi.input"].read()
    return body


def taken(environ: dict[str, Any], query: dict[str, str]) -> bytes:
    """Take the connection, and answer on it after a pause."""
    connection = environ["gunicorn.socket"]
    connection.sendall(b"taken")
    time.sleep(1.5)
    connection.sendall(b"still")
    connection.close()
    return b""


PATHS: dict[str, Callable[[dict[str, Any], dict[str, str]], bytes | Iterator[bytes]]] = {
    "/": hello,
    "/sleep": sleep,
    "/lock": lock,
    "/busy": busy,
    "/careful": careful,
    "/blocked": blocked,
    "/native": native,
    "/held": held,
    "/stream": stream,
    "/begun": begun,
    "/events": events,
    "/upload": upload,
    "/taken": taken,
}
