"""An Output that keeps what it is given, and an iterable that counts its close()."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from starman.errors import Disconnected
from starman.proto.response import DateLines, RequestFacts
from starman.wsgi.call import Call
from starman.wsgi.environ import Environ

DATE_LINES = DateLines("Sun, 06 Nov 1994 08:49:37 GMT", "fake")


class FakeOutput:
    """Takes everything, or goes (as a client does) when `sends` have been taken. Checks that nothing follows the
    last."""

    def __init__(self, persistent: bool = True, sends: int | None = None) -> None:
        self.persistent = persistent
        self.sends_left = sends
        self.sent: list[bytes] = []
        self.files: list[tuple[int, int]] = []
        self.ended = False
        self.times_asked = 0
        self.harakiris = 0
        self.silences: list[int] = []
        # Whether the wish was heard before it was asked whether to keep the connection.
        self.wished_first = False

    @property
    def data(self) -> bytes:
        return b"".join(self.sent)

    @property
    def head(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.data.partition(b"\r\n\r\n")[2]

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def field(self, name: bytes) -> bytes | None:
        values = [line.partition(b": ")[2] for line in self.head.split(b"\r\n")[1:] if line.startswith(name + b": ")]
        assert len(values) <= 1
        return values[0] if values else None

    def harakiri(self) -> None:
        self.harakiris += 1
        self.wished_first = not self.times_asked

    def may_persist(self) -> bool:
        self.times_asked += 1
        return self.persistent

    def on_empty_block(self, sent: int) -> None:
        if self.sends_left == 0:
            raise Disconnected
        self.silences.append(sent)

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        assert isinstance(data, bytes)
        data = head + data
        assert not self.ended, f"sent behind the end: {data!r}"
        assert data
        if self.sends_left is not None:
            if not self.sends_left:
                raise Disconnected
            self.sends_left -= 1
        self.sent.append(data)
        self.ended = last

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        self.send(head + os.pread(fd, count, offset), last=True)
        self.files.append((offset, count))


class Blocks:
    """An iterable that is neither list nor generator. Counts its close(), which raises `on_close` if there is one."""

    def __init__(self, *blocks: Any, on_close: BaseException | None = None) -> None:
        self.blocks = blocks
        self.on_close = on_close
        self.closed = 0
        self.taken = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self.blocks:
            self.taken += 1
            if isinstance(block, BaseException):
                raise block
            yield block

    def close(self) -> None:
        self.closed += 1
        if self.on_close is not None:
            raise self.on_close


def new_call(output: FakeOutput, minor: int = 1, head: bool = False) -> Call:
    return Call(RequestFacts(minor, head), output, DATE_LINES)


def respond(
    application: Callable[..., Any],
    output: FakeOutput | None = None,
    *,
    minor: int = 1,
    head: bool = False,
    environ: Environ | None = None,
) -> tuple[Call, FakeOutput]:
    """Run one call of `application`."""
    output = output or FakeOutput()
    call = new_call(output, minor, head)
    call.run(application, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/path"} if environ is None else environ)
    return call, output


def answering(body: Any, status: str = "200 OK", headers: list[tuple[str, str]] | None = None) -> Callable[..., Any]:
    """An application that starts a response and returns `body`."""

    def application(environ: Environ, start_response: Callable[..., Any]) -> Any:
        start_response(status, [] if headers is None else headers)
        return body

    return application
