"""An application with faults of every kind. Its responses carry the tag of the request.

The path is /KIND/TAG/SIZE. A client can then compare each byte of its response with its request: a byte of another
client's response has another tag. Plain PEP 3333, nothing of starman.
"""

from __future__ import annotations

import gc
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Body = Iterable[bytes]

SECRET = "a fault that is meant"

# What lives as long as a connection or a request, by the names of its classes.
SHORT_LIVED = {
    *("Connection", "Handshake", "TlsTransport", "Session", "RequestParser", "Writer", "SendQueue", "Progress", "Upload"),
    *("Exchange", "RequestBody", "RequestHead", "Call", "FileRange"),
}


def marked(tag: str, size: int) -> bytes:
    """`size` bytes, in rows that hold the tag and their number."""
    rows = b"".join(b"<%s> %06d\n" % (tag.encode(), number) for number in range(size // 16 + 1))
    return rows[:size]


def app(environ: Environ, start_response: StartResponse) -> Body:
    """Call the function named by the first segment of the path."""
    _, kind, tag, size = environ["PATH_INFO"].split("/")
    return FUNCTIONS[kind](environ, start_response, marked(tag, int(size)))


def whole(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def nap(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    time.sleep(random.random() * 0.05)
    return whole(environ, start_response, body)


def stream(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [])
    return blocks(body)


def blocks(body: bytes) -> Iterator[bytes]:
    """The body in pieces of many sizes, with delays."""
    at = 0
    while at < len(body):
        step = random.choice([100, 5000, 50_000])
        yield body[at : at + step]
        at += step
        if random.random() < 0.2:
            time.sleep(0.005)


def written(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    write = start_response("200 OK", [("Content-Length", str(len(body)))])
    half = len(body) // 2
    write(body[:half])
    return [body[half:]]


def file(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    opened = tempfile.TemporaryFile()  # noqa: SIM115 - the server closes it
    opened.write(body)
    opened.seek(0)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](opened)  # type: ignore[no-any-return]


def echo(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    return whole(environ, start_response, environ["wsgi.input"].read())


def half_read(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    """Reads only a part of the body."""
    environ["wsgi.input"].read(len(body) // 2)
    return whole(environ, start_response, body)


def fail(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    raise ValueError(SECRET)


def fail_started(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    raise SystemExit(SECRET)


def fail_middle(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [])

    def broken() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        raise ValueError(SECRET)

    return broken()


def fail_close(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [("Content-Length", str(len(body)))])

    class Failing(list[bytes]):
        def close(self) -> None:
            raise ValueError(SECRET)

    return Failing([body])


def short(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body[: len(body) // 2]]


def long(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body, b"too much"]


def alive(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    """How many objects of the server there are that should not live long, as JSON."""
    gc.collect()
    names = Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing).__module__.startswith("starman."))
    return whole(environ, start_response, json.dumps({name: names[name] for name in SHORT_LIVED if names[name]}).encode())


FUNCTIONS: dict[str, Callable[[Environ, StartResponse, bytes], Body]] = {
    "whole": whole,
    "nap": nap,
    "stream": stream,
    "written": written,
    "file": file,
    "echo": echo,
    "half-read": half_read,
    "fail": fail,
    "fail-started": fail_started,
    "fail-middle": fail_middle,
    "fail-close": fail_close,
    "short": short,
    "long": long,
    "alive": alive,
}
