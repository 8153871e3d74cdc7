"""The WSGI application of test_raw_responses: each path breaks PEP 3333, or comes close to it.

Each function of `CASES` is called with the environ and start_response; /next behaves correctly.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Respond = Callable[[Environ, StartResponse], Any]

closed: list[str] = []


def app(environ: Environ, start_response: StartResponse) -> Any:
    """Misbehave as the path says."""
    name = environ["PATH_INFO"].removeprefix("/")
    if name == "next":
        start_response("200 OK", [("Content-Length", "5")])
        return [b"next\n"]
    if name == "closed":
        names = " ".join(closed)
        closed.clear()
        start_response("200 OK", [])
        return [names.encode()]
    return CASES[name](environ, start_response)


class Closing:
    """An iterable that notes its close(); a block that is an exception is raised."""

    def __init__(self, name: str, *blocks: Any, close_error: BaseException | None = None) -> None:
        self._name = name
        self._blocks = iter(blocks)
        self._close_error = close_error

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block: bytes = next(self._blocks)
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self) -> None:
        closed.append(self._name)
        if self._close_error is not None:
            raise self._close_error


def answer(status: Any, fields: Any, *blocks: Any) -> Respond:
    """An application that calls start_response with these arguments and returns these blocks: one block as a list,
    several as an iterable without a known length."""

    def respond(environ: Environ, start_response: StartResponse) -> Any:
        start_response(status, fields)
        return list(blocks)

    return respond


def stream(status: Any, fields: Any, *blocks: Any) -> Respond:
    """The same by a generator; a block that is an exception is raised."""

    def respond(environ: Environ, start_response: StartResponse) -> Iterable[Any]:
        start_response(status, fields)
        return Closing(environ["PATH_INFO"].removeprefix("/"), *blocks)

    return respond


def result(value: Any) -> Respond:
    """An application that starts its response properly and returns an object that is not a list of blocks."""

    def respond(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        return value

    return respond


def written(status: str, fields: list[tuple[str, str]], *blocks: Any, then: tuple[Any, ...] = ()) -> Respond:
    """An application that uses write(), and returns `then`."""

    def respond(environ: Environ, start_response: StartResponse) -> Any:
        write = start_response(status, fields)
        for block in blocks:
            if isinstance(block, BaseException):
                raise block
            write(block)
        return list(then)

    return respond


def start_twice(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [])
    start_response("404 Not Found", [])
    return [b"x"]


def start_twice_for_an_error(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [("Content-Length", "1000"), ("X-First", "yes")])
    try:
        raise ValueError("handled")
    except ValueError:
        start_response("503 Sorry", [("X-Second", "yes")], sys.exc_info())
    return [b"sorry"]


def start_for_an_error_too_late(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [("Content-Length", "10")])
    yield b"begun"
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("503 Sorry", [], sys.exc_info())
    yield b"never"


def start_late(environ: Environ, start_response: StartResponse) -> Any:
    """A generator: start_response is called with its first block (PEP 3333 allows it)."""
    start_response("200 OK", [])
    yield b"late"


def body_before_start(environ: Environ, start_response: StartResponse) -> Any:
    yield b"early"
    start_response("200 OK", [])


def no_start(environ: Environ, start_response: StartResponse) -> Any:
    return [b"x"]


def no_start_empty(environ: Environ, start_response: StartResponse) -> Any:
    return []


def fail(environ: Environ, start_response: StartResponse) -> Any:
    raise ValueError("secret")


def fail_after_start(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [("X-Never", "seen")])
    raise ValueError("secret")


def exit_in_the_middle(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [])
    yield b"begun"
    raise SystemExit(3)


def fail_in_close(environ: Environ, start_response: StartResponse) -> Any:
    start_response("200 OK", [])
    return Closing("fail-close", b"abc", close_error=ValueError("secret"))


def write_after_return(environ: Environ, start_response: StartResponse) -> Any:
    """Call write() again after the response has ended."""
    write = start_response("200 OK", [("Content-Length", "2")])

    class Late:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"ok"])

        def close(self) -> None:
            write(b"GARBAGE")

    return Late()


def hints(*fields: tuple[Any, Any]) -> Respond:
    """An application that sends early hints with these fields first."""

    def respond(environ: Environ, start_response: StartResponse) -> Any:
        environ["wsgi.early_hints"](list(fields))
        start_response("200 OK", [])
        return [b"hinted"]

    return respond


# What is no status, no field name, no value, no Content-Length.
# fmt: off
_NO_STATUSES = (
    "200 OK\r\nX-Evil: 1", "200 OK\nX-Evil: 1", "200 OK\rX-Evil: 1", "200 OK\r\n\r\nevil", "200 OK\0", "200 \u20ac",
    "200\r\n OK", "",
    "OK", "20 OK", "2000 OK", "0200 OK", "abc OK", "099 OK", " 200 OK", "200\tOK", "200OK", "-200 OK",
    "100 Continue", "101 Switching Protocols", "103 Early Hints", "199 x", "HTTP/1.1 200 OK",
)
_NO_NAMES = (
    "", " ", "X Evil", "X:Evil", "X-Evil:", " X-Evil", "X-Evil ", "X\r\nX-Evil", "X\nX-Evil", "X\rX-Evil", "X\0", "X\x7f",
    "\xc4", "\u20ac", "X\r\n\r\nevil", "X(", "X/", "X\t",
)
_NO_VALUES = (
    "a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\r\n\r\nevil", "\r\n", "a\r\n b", "a\r\n", "\na", "a\0b",
    "a\x01b", "\x1b[2J", "a\x7f", "a\x0bb",
    "\u20ac", "\ud800",
)
_NO_LENGTHS = ("", "-3", "+3", "3.0", "0x3", "3, 3", "3 3", "abc", "\u0663", "\xb3", "9" * 30, "3_0", "3;")
# fmt: on

CASES: dict[str, Respond] = {
    # lengths
    "long-list": answer("200 OK", [("Content-Length", "3")], b"abcdef"),
    "long-blocks": stream("200 OK", [("Content-Length", "3")], b"ab", b"cdef", b"gh"),
    "long-write": written("200 OK", [("Content-Length", "3")], b"abc", b"def", then=(b"ghi",)),
    "long-0": answer("200 OK", [("Content-Length", "0")], b"HTTP/1.1 200 OK\r\n\r\n"),
    "long-response-like": stream("200 OK", [("Content-Length", "2")], b"ok", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "short-list": answer("200 OK", [("Content-Length", "10")], b"abc"),
    "short-blocks": stream("200 OK", [("Content-Length", "10")], b"a", b"bc"),
    "short-write": written("200 OK", [("Content-Length", "10")], b"abc"),
    "short-empty": answer("200 OK", [("Content-Length", "10")]),
    "exact-blocks": stream("200 OK", [("Content-Length", "3")], b"", b"ab", b"", b"c", b""),
    "one-item": answer("200 OK", [], b"abc"),
    "two-items": answer("200 OK", [], b"abc", b"def"),
    "empty-list": answer("200 OK", []),
    "empty-blocks": stream("200 OK", [], b"", b"", b""),
    "chunked": stream("200 OK", [], b"abc", b"", b"def"),
    "chunked-write": written("200 OK", [], b"abc", b"", b"def", then=(b"g",)),
    "two-lengths": answer("200 OK", [("Content-Length", "3"), ("content-length", "3")], b"abc"),
    "two-other-lengths": answer("200 OK", [("Content-Length", "3"), ("Content-Length", "4")], b"abcd"),
    **{f"length-{number}": answer("200 OK", [("Content-Length", value)], b"abc") for number, value in enumerate(_NO_LENGTHS)},
    "length-of-int": answer("200 OK", [("Content-Length", 3)], b"abc"),
    "length-in-spaces": answer("200 OK", [("Content-Length", " 3 ")], b"abc"),
    # line breaks and what else is no text of a head
    **{f"status-{number}": answer(value, [], b"x") for number, value in enumerate(_NO_STATUSES)},
    "status-bytes": answer(b"200 OK", [], b"x"),
    "status-int": answer(200, [], b"x"),
    "status-none": answer(None, [], b"x"),
    **{f"name-{number}": answer("200 OK", [(name, "b")], b"x") for number, name in enumerate(_NO_NAMES)},
    "name-bytes": answer("200 OK", [(b"X", "b")], b"x"),
    "name-none": answer("200 OK", [(None, "b")], b"x"),
    **{f"value-{number}": answer("200 OK", [("X", value)], b"x") for number, value in enumerate(_NO_VALUES)},
    "value-bytes": answer("200 OK", [("X", b"b")], b"x"),
    "value-int": answer("200 OK", [("X", 1)], b"x"),
    "value-none": answer("200 OK", [("X", None)], b"x"),
    "date-break": answer("200 OK", [("Date", "a\r\nX-Evil: 1")], b"x"),
    "server-break": answer("200 OK", [("Server", "a\nX-Evil: 1")], b"x"),
    "length-break": answer("200 OK", [("Content-Length", "1\r\nX-Evil: 1")], b"x"),
    "fields-none": answer("200 OK", None, b"x"),
    "fields-str": answer("200 OK", ["X: b"], b"x"),
    "fields-triple": answer("200 OK", [("X", "b", "c")], b"x"),
    # fields about the connection
    "te": answer("200 OK", [("Transfer-Encoding", "chunked")], b"0\r\n\r\nevil"),
    "te-stream": stream("200 OK", [("Transfer-Encoding", "chunked")], b"5\r\nhello\r\n", b"0\r\n\r\n"),
    "te-and-length": answer("200 OK", [("Transfer-Encoding", "chunked"), ("Content-Length", "3")], b"abc"),
    "te-gzip": answer("200 OK", [("transfer-encoding", "gzip")], b"abc"),
    "connection-close": answer("200 OK", [("Connection", "close")], b"abc"),
    "connection-keep-alive": answer("200 OK", [("Connection", "keep-alive")], b"abc"),
    "connection-upgrade": answer("200 OK", [("Connection", "upgrade"), ("Upgrade", "websocket")], b"abc"),
    "keep-alive": answer("200 OK", [("Keep-Alive", "timeout=1000"), ("Proxy-Connection", "x"), ("TE", "x")], b"abc"),
    # failures
    "fail": fail,
    "fail-after-start": fail_after_start,
    "fail-first": stream("200 OK", [], ValueError("secret")),
    "fail-first-after-nothing": stream("200 OK", [("Content-Length", "5")], b"", ValueError("secret")),
    "fail-chunked": stream("200 OK", [], b"abc", ValueError("secret")),
    "fail-length": stream("200 OK", [("Content-Length", "10")], b"abc", ValueError("secret")),
    "fail-after-length": stream("200 OK", [("Content-Length", "3")], b"abc", ValueError("secret")),
    "fail-write": written("200 OK", [], b"abc", ValueError("secret")),
    "fail-exit": exit_in_the_middle,
    "fail-keyboard": stream("200 OK", [], KeyboardInterrupt()),
    "fail-generator-exit": stream("200 OK", [], GeneratorExit()),
    "fail-close": fail_in_close,
    "write-after-end": write_after_return,
    # the kinds of blocks
    "str": result("abc"),
    "bytes": result(b"abc"),
    "bytearray": result(bytearray(b"abc")),
    "none": result(None),
    "int": result(3),
    "dict": result({"a": 1}),
    "list-str": result(["abc"]),
    "list-none": result([None]),
    "list-int": result([3]),
    "list-bytearray": result([bytearray(b"abc")]),
    "list-memoryview": result([memoryview(b"abc")]),
    "second-str": stream("200 OK", [], b"abc", "def"),
    "second-none": stream("200 OK", [], b"abc", None),
    "write-str": written("200 OK", [], "abc"),
    # statuses without a body
    **{f"no-body-{code}": answer(f"{code} x", [("X", "b")], b"abc") for code in (204, 304)},
    **{f"no-body-{code}-length": answer(f"{code} x", [("Content-Length", "3")], b"abc") for code in (204, 304)},
    **{f"no-body-{code}-stream": stream(f"{code} x", [], b"abc", b"def") for code in (204, 304)},
    **{f"no-body-{code}-write": written(f"{code} x", [], b"abc", b"def") for code in (204, 304)},
    "205": answer("205 Reset Content", [], b""),
    "205-body": answer("205 Reset Content", [], b"abc"),
    "205-length": answer("205 Reset Content", [("Content-Length", "3")], b"abc"),
    "205-blocks": answer("205 Reset Content", [], b"abc", b"def"),
    "426": answer("426 Upgrade Required", [("Upgrade", "TLS/1.0"), ("Connection", "Upgrade")], b"abc"),
    "tab": answer("200 OK", [("X", "a\tb")], b"abc"),
    # start_response
    "start-twice": start_twice,
    "start-twice-for-an-error": start_twice_for_an_error,
    "start-for-an-error-too-late": start_for_an_error_too_late,
    "start-late": start_late,
    "body-before-start": body_before_start,
    "no-start": no_start,
    "no-start-empty": no_start_empty,
    # what is allowed
    "reason-empty": answer("200 ", [], b"abc"),
    "reason-none": answer("200", [], b"abc"),
    "reason-latin-1": answer("200 caf\xe9", [], b"abc"),
    "status-999": answer("999 x", [], b"abc"),
    "own-date": answer("200 OK", [("Date", "yesterday"), ("Server", "mine")], b"abc"),
    "latin-1": answer("200 OK", [("X", "\xe9\xff"), ("X", ""), ("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")], b"abc"),
    "huge-field": answer("200 OK", [("X", "b" * 1_000_000)], b"abc"),
    "many-fields": answer("200 OK", [("X", "b")] * 5000, b"abc"),
    "large-blocks": stream("200 OK", [], b"a" * 1_000_000, b"b" * 1_000_000),
    "hints": hints(("Link", "</a>; rel=preload")),
    "hints-break": hints(("Link", "a\r\nX-Evil: 1")),
    "hints-framing": hints(("Content-Length", "5"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("Link", "b")),
}
