"""The WSGI application that functional tests talk to: one function a path, each with one behaviour.

`app` is what the servers load. It uses nothing of starman, and plain PEP 3333 only. Functions that must be seen from
outside (was close() called, was the request started?) append a line to the file named by the variable TEST_EVENTS.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Body = Iterable[bytes]

TEXT = ("Content-Type", "text/plain")
MEBIBYTE = 1024 * 1024


def pattern(size: int) -> bytes:
    """`size` bytes that differ from block to block, so that a lost, doubled or swapped block shows."""
    rows = b"".join(b"%015d\n" % number for number in range(min(size, MEBIBYTE) // 16 + 1))
    return (rows * (size // len(rows) + 1))[:size]


LARGE = pattern(200_000)


def digest(data: bytes) -> bytes:
    """What /digest answers for the body `data`: its length and MD5."""
    return b"%d %s" % (len(data), hashlib.md5(data).hexdigest().encode())


def app(environ: Environ, start_response: StartResponse) -> Body:
    """Call the function named by the first segment of the path."""
    name = environ["PATH_INFO"].split("/")[1]
    function = FUNCTIONS.get(name)
    if function is None:
        start_response("404 Not Found", [TEXT, ("Content-Length", "10")])
        return [b"not found\n"]
    return function(environ, start_response)


def event(text: str) -> None:
    """Append a line to the file of events, in one write."""
    descriptor = os.open(os.environ["TEST_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


class Closing:
    """An iterable that notes its close(), and fails at block number `fail_at` (None: never)."""

    def __init__(self, blocks: Iterable[bytes], name: str, fail_at: int | None = None) -> None:
        self._blocks = iter(blocks)
        self._name = name
        self._left = fail_at

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._left is not None:
            if self._left == 0:
                raise ValueError("secret of the iterable")
            self._left -= 1
        return next(self._blocks)

    def close(self) -> None:
        event(f"close {self._name}")


def argument(environ: Environ, number: int = 2) -> str:
    """The segment of the path with this number: /name/2/3."""
    return str(environ["PATH_INFO"].split("/")[number])


def query(environ: Environ, name: str, default: str) -> str:
    """A value of the query string."""
    values: list[str] = parse_qs(environ["QUERY_STRING"]).get(name, [default])
    return values[0]


def hello(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT, ("Content-Length", "6")])
    return [b"hello\n"]


def pid(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    return [str(os.getpid()).encode()]


def show_environ(environ: Environ, start_response: StartResponse) -> Body:
    known: dict[str, Any] = {
        name: value if isinstance(value, str | bool | int | None) else repr(value) for name, value in environ.items()
    }
    known["wsgi.version"] = list(environ["wsgi.version"])
    body = json.dumps(known).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def echo(environ: Environ, start_response: StartResponse) -> Body:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


def show_digest(environ: Environ, start_response: StartResponse) -> Body:
    md5, size = hashlib.md5(), 0
    while block := environ["wsgi.input"].read(65536):
        md5.update(block)
        size += len(block)
    start_response("200 OK", [TEXT, ("X-Body-Bytes", environ.get("CONTENT_LENGTH", ""))])
    return [b"%d %s" % (size, md5.hexdigest().encode())]


def read_twice(environ: Environ, start_response: StartResponse) -> Body:
    stream = environ["wsgi.input"]
    first = stream.readline()
    rest = b"".join(stream)
    stream.seek(0)
    again = stream.read()
    whole = first + rest == again and stream.read() == stream.read(5) == stream.readline() == b""
    start_response("200 OK", [TEXT])
    return [b"same" if whole else b"different"]


def read_lines(environ: Environ, start_response: StartResponse) -> Body:
    stream = environ["wsgi.input"]
    parts = [stream.readline(4), stream.readline(), *stream.readlines(1), stream.read(None)]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([part.decode() for part in parts]).encode()]


def size(environ: Environ, start_response: StartResponse) -> Body:
    body = pattern(int(argument(environ)))
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def large(environ: Environ, start_response: StartResponse) -> Body:
    """As /size, but takes no time."""
    start_response("200 OK", [TEXT, ("Content-Length", str(len(LARGE)))])
    return [LARGE]


def stream(environ: Environ, start_response: StartResponse) -> Body:
    body = pattern(int(argument(environ)))
    step = int(query(environ, "step", "1000"))
    start_response("200 OK", [TEXT])
    yield b""
    for offset in range(0, len(body), step):
        yield body[offset : offset + step]
        yield b""


def slow(environ: Environ, start_response: StartResponse) -> Body:
    name = query(environ, "name", "")
    if name:
        event(f"start {name}")
    time.sleep(float(argument(environ)))
    body = f"slow {name}\n".encode()
    start_response("200 OK", [TEXT, ("Content-Length", str(len(body)))])
    return [body]


def endless(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    block = pattern(65536)

    def blocks() -> Iterator[bytes]:
        while True:
            yield block

    return Closing(blocks(), query(environ, "name", "endless"))


def nothing_yet(environ: Environ, start_response: StartResponse) -> Body:
    """/nothing-yet/NAME?count=N: N empty blocks (by default without end), 10 ms apart; then a line. Notes beginning
    and end."""
    start_response("200 OK", [TEXT])
    count = int(query(environ, "count", "1000000000"))
    name = argument(environ)

    def blocks() -> Iterator[bytes]:
        event(f"begin {name}")
        for _ in range(count):
            time.sleep(0.01)
            yield b""
        yield b"done\n"

    return Closing(blocks(), name)


def written(environ: Environ, start_response: StartResponse) -> Body:
    write = start_response("200 OK", [TEXT])
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three"]


def status(environ: Environ, start_response: StartResponse) -> Body:
    code = argument(environ)
    fields = [] if code in ("204", "304") else [TEXT]
    start_response(f"{code} Because", fields)
    return [b"body"] if query(environ, "body", "yes") == "yes" else []


def fields(environ: Environ, start_response: StartResponse) -> Body:
    sent = [TEXT, ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Latin", "caf\xe9")]
    if query(environ, "own", "no") == "yes":
        sent += [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine")]
    start_response("200 OK", sent)
    return [b"fields"]


def closing(environ: Environ, start_response: StartResponse) -> Body:
    fail_at = query(environ, "fail", "")
    blocks = [pattern(int(query(environ, "size", "100")))] * int(query(environ, "blocks", "3"))
    start_response("200 OK", [TEXT])
    return Closing(blocks, argument(environ), int(fail_at) if fail_at else None)


def wrong_length(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT, ("Content-Length", argument(environ))])
    return iter([b"01234", b"56789"])


def error_before(environ: Environ, start_response: StartResponse) -> Body:
    raise ValueError("secret of the application")


def error_after_start(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT, ("X-First", "yes")])
    raise ValueError("secret of the application")


def error_of_kind(environ: Environ, start_response: StartResponse) -> Body:
    kinds = {"exit": SystemExit(3), "interrupt": KeyboardInterrupt(), "base": BaseException("secret")}
    raise kinds[argument(environ)]


def exc_info(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT, ("X-First", "yes")])
    try:
        raise ValueError("secret of the application")
    except ValueError as error:
        start_response("502 Bad Gateway", [TEXT, ("X-Second", "yes")], (type(error), error, error.__traceback__))
    return [b"replaced"]


def exc_info_late(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    yield pattern(1000)
    try:
        raise ValueError("too late to replace")
    except ValueError as error:
        start_response("500 Late", [TEXT], (type(error), error, error.__traceback__))
    yield b"never sent"


def misuse(environ: Environ, start_response: StartResponse) -> Body:
    kind = argument(environ)
    if kind == "never":
        return [b"no start_response"]
    if kind == "none":
        start_response("200 OK", [TEXT])
        return None  # type: ignore[return-value]
    if kind == "twice":
        start_response("200 OK", [TEXT])
    sent: dict[str, tuple[str, list[tuple[str, str]]]] = {
        "split": ("200 OK", [TEXT, ("X-Split", "a\r\nX-Injected: yes")]),
        "status": ("200 OK\r\nX-Injected: yes", [TEXT]),
        "number": ("OK", [TEXT]),
        "lengths": ("200 OK", [TEXT, ("Content-Length", "3"), ("Content-Length", "5")]),
    }
    start_response(*sent.get(kind, ("200 OK", [TEXT])))
    return ["text"] if kind == "text" else [b"bytes"]  # type: ignore[list-item]


class NotingFile(io.FileIO):
    """A real file that notes its close()."""

    def close(self) -> None:
        if not self.closed:
            event("close file")
        super().close()


def file(environ: Environ, start_response: StartResponse) -> Body:
    opened = NotingFile(os.environ["TEST_FILE"])
    opened.seek(int(query(environ, "offset", "0")))
    length = query(environ, "length", "")
    start_response("200 OK", [TEXT, ("Content-Length", length)] if length else [TEXT])
    return environ["wsgi.file_wrapper"](opened, 8192)  # type: ignore[no-any-return]


def file_like(environ: Environ, start_response: StartResponse) -> Body:
    """A file object without a descriptor, which has only read()."""

    class Reader:
        def __init__(self) -> None:
            self.read = io.BytesIO(pattern(50_000)).read

        def close(self) -> None:
            event("close reader")

    start_response("200 OK", [TEXT])
    return environ["wsgi.file_wrapper"](Reader())  # type: ignore[no-any-return]


def log_line(environ: Environ, start_response: StartResponse) -> Body:
    environ["wsgi.errors"].write("a line of the application\n")
    environ["wsgi.errors"].writelines(["and ", "another\n"])
    environ["wsgi.errors"].flush()
    return hello(environ, start_response)


FUNCTIONS: dict[str, Callable[[Environ, StartResponse], Body]] = {
    "hello": hello,
    "pid": pid,
    "environ": show_environ,
    "echo": echo,
    "digest": show_digest,
    "read-twice": read_twice,
    "read-lines": read_lines,
    "size": size,
    "large": large,
    "stream": stream,
    "slow": slow,
    "endless": endless,
    "nothing-yet": nothing_yet,
    "write": written,
    "status": status,
    "fields": fields,
    "closing": closing,
    "wrong-length": wrong_length,
    "error-before": error_before,
    "error-after-start": error_after_start,
    "error-of-kind": error_of_kind,
    "exc-info": exc_info,
    "exc-info-late": exc_info_late,
    "misuse": misuse,
    "file": file,
    "file-like": file_like,
    "log-line": log_line,
}
