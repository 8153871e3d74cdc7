"""Without threads a client is sent what it is sent with them, byte for byte, whatever the application does."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.running import Running

pytestmark = pytest.mark.usefixtures("fast")

BLOCK_BYTES = 65_536
BLOCKS = 20


def block(number: int) -> bytes:
    return b"%08d" % number * (BLOCK_BYTES // 8)


class Noting:
    """An iterable of many blocks that notes its close(), and may fail in it."""

    def __init__(self, notes: list[str], error: Exception | None = None) -> None:
        self._notes, self._error = notes, error

    def __iter__(self) -> Iterator[bytes]:
        return map(block, range(BLOCKS))

    def close(self) -> None:
        self._notes.append("closed")
        if self._error is not None:
            raise self._error


class Application:
    """A method a path. notes: what was closed."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return getattr(self, environ["PATH_INFO"][1:])(environ, start_response)

    def last(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [b"last"]

    def length(self, environ: Any, start_response: Any, announced: int = BLOCKS * BLOCK_BYTES) -> Any:
        start_response("200 OK", [("Content-Length", str(announced))])
        return Noting(self.notes)

    def excess(self, environ: Any, start_response: Any) -> Any:
        return self.length(environ, start_response, 15 * BLOCK_BYTES + 5)

    def shortfall(self, environ: Any, start_response: Any) -> Any:
        return self.length(environ, start_response, BLOCKS * BLOCK_BYTES + 1)

    def chunked(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Noting(self.notes)

    def without_content(self, environ: Any, start_response: Any) -> Any:
        start_response("204 No Content", [])
        return Noting(self.notes)

    def failing_close(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Noting(self.notes, ValueError("on purpose"))

    def empty_blocks(self, environ: Any, start_response: Any) -> Any:
        """Longer than the longest piece without a byte, before its head is known and after."""
        for number in range(BLOCKS):
            until = time.monotonic() + 0.002
            while time.monotonic() < until:
                yield b""
            if not number:
                start_response("200 OK", [])
            yield block(number)

    def only_empty_blocks(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return (b"" for _ in range(20_000))

    def failing(self, environ: Any, start_response: Any) -> Any:
        yield from self.chunked(environ, start_response)
        raise ValueError("on purpose")

    def failing_first(self, environ: Any, start_response: Any) -> Any:
        yield from [b""] * 20_000
        raise ValueError("on purpose")

    def no_bytes(self, environ: Any, start_response: Any) -> Any:
        yield from self.chunked(environ, start_response)
        yield "text"

    def written_between(self, environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        for number in range(BLOCKS):
            write(block(number)[::-1])
            yield block(number)

    def written_at_the_end(self, environ: Any, start_response: Any) -> Any:
        """By close(), behind a block that breaks it off."""
        write = start_response("200 OK", [])

        class Writing(Noting):
            def __iter__(self) -> Iterator[Any]:
                return iter([b"first", "text"])

            def close(self) -> None:
                super().close()
                for number in range(BLOCKS):
                    write(block(number))

        return Writing(self.notes)

    def written_before(self, environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        for number in range(BLOCKS):
            write(block(number))
        return Noting(self.notes)

    def hints(self, environ: Any, start_response: Any) -> Any:
        for _ in range(3):
            environ["wsgi.early_hints"]([("Link", "<" + "x" * 60_000 + ">")])
        return self.chunked(environ, start_response)

    def many(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return [block(number) for number in range(BLOCKS)]

    def file_like(self, environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](BytesIO(b"".join(map(block, range(BLOCKS)))), 50_000)


NAMES = [name for name in vars(Application) if name[0] != "_" and name != "last"]


def outcome(request: bytes, log: Path, **settings: Any) -> tuple[list[str], bytes, list[str]]:
    """What a request and one that is pipelined behind it bring: what was closed, what was sent, and what is logged."""
    application = Application()
    with Running(application, access_log=str(log), response_buffer=0, **settings) as running:
        running._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        with running.client(16_384) as client, running.client() as other:
            client.send(request + b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            other.get("/last")  # so the first has begun
            sent = everything(client.socket)
        running.drain()  # a cut would not wait for the threads that log the last
        running.join()
    lines = [re.sub(r"\[[^]]*\]", "[then]", line) for line in log.read_text().splitlines()]
    return application.notes, re.sub(rb"Date: [^\r]*", b"Date: then", sent), sorted(lines)


def everything(sock: socket.socket) -> bytes:
    """All that comes; only how it ended if that was a reset, which may overtake the last of it."""
    data = bytearray()
    try:
        while received := sock.recv(65_536):
            data += received
    except ConnectionResetError:
        return b"a reset"
    return bytes(data)


REQUESTS = {
    "1.1": b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "head": b"HEAD /%s HTTP/1.1\r\nHost: x\r\n\r\n",
    "post": b"POST /%s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
    "1.0": b"GET /%s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
}


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("name", NAMES)
def test_the_outcome_is_as_with_threads(name: str, kind: str, tmp_path: Path) -> None:
    request = REQUESTS[kind] % name.encode()
    with_threads = outcome(request, tmp_path / "threads.log", threads=2)
    assert outcome(request, tmp_path / "inline.log", in_loop=True) == with_threads
