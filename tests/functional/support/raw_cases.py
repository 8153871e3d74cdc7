"""What test_raw sends and expects: the form of a case, and functions that build one.

The tables are `raw_refused` and `raw_served`. Each case names the section that it tests. Where an RFC leaves a
choice, the stricter one is expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Call = dict[str, Any]

# What every case is followed by. Where the case is misread, this, or a part of it, becomes something else.
FOLLOWING = b"GET /following HTTP/1.1\r\nHost: following\r\n\r\n"

# What the server of test_raw is started with: its limits (bytes, or a count), the last three as they are by default.
MOST_BODY = 1000
LINE, FIELD, HEAD, FIELDS, EXTRA = 8190, 8190, 65536, 100, 16384


@dataclass(frozen=True, slots=True)
class Case:
    """`data` makes the application see `calls`, in this order; then the rest is refused with `status` (None: it is
    not refused). `closes`: the connection ends after the last of `calls`, because of the client's fields or
    version."""

    name: str
    source: str
    data: bytes
    calls: tuple[Call, ...] = ()
    status: int | None = None
    closes: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


def bad(name: str, source: str, data: bytes, status: int = 400) -> Case:
    """A message that is refused, and never reaches the application."""
    return Case(name, source, data, (), status)


def good(name: str, source: str, data: bytes, *calls: Call, closes: bool = False) -> Case:
    """Requests that are served."""
    return Case(name, source, data, calls, None, closes)


def good_then_bad(name: str, source: str, data: bytes, *calls: Call, status: int = 400) -> Case:
    """Requests that are served, followed by bytes that are not a request, and look like their body."""
    return Case(name, source, data, calls, status)


def seen(
    method: str = "GET",
    path: str = "/case",
    query: str = "",
    body: bytes | None = None,
    protocol: str = "HTTP/1.1",
    **fields: str,
) -> Call:
    """A call as `recording` describes it: these fields and no others, except Host, which is `a` by default, and the
    length of a body, if there is one. A value "-" in `fields` removes the field."""
    known = {"HTTP_HOST": "a", **({} if body is None else {"CONTENT_LENGTH": str(len(body))}), **fields}
    return {
        "method": method,
        "path": path,
        "query": query,
        "protocol": protocol,
        "fields": {name: value for name, value in known.items() if value != "-"},
        "body": (body or b"").decode("latin-1"),
    }


SEEN_FOLLOWING = seen(path="/following", HTTP_HOST="following")


def lines(*parts: bytes) -> bytes:
    """A head of exactly these lines."""
    return b"\r\n".join([*parts, b"", b""])


def get(*fields: bytes, line: bytes = b"GET /case HTTP/1.1") -> bytes:
    """A request with Host, these fields and no body."""
    return lines(line, b"Host: a", *fields)


def target(text: bytes, method: bytes = b"GET", *fields: bytes) -> bytes:
    """A request for this target."""
    return lines(method + b" " + text + b" HTTP/1.1", b"Host: a", *fields)


def host(value: bytes) -> bytes:
    """A request with this Host."""
    return lines(b"GET /case HTTP/1.1", b"Host: " + value)


def post(*fields: bytes, body: bytes = b"hello", version: bytes = b"1.1") -> bytes:
    """A request with Host, these fields and this body, whatever the fields say."""
    return lines(b"POST /case HTTP/" + version, b"Host: a", *fields) + body


def length(value: bytes) -> bytes:
    """A body of five bytes, with this Content-Length."""
    return post(b"Content-Length: " + value)


def coding(value: bytes, body: bytes = b"0\r\n\r\n") -> bytes:
    """An empty chunked body, with this Transfer-Encoding."""
    return post(b"Transfer-Encoding: " + value, body=body)


def chunks(body: bytes, *fields: bytes) -> bytes:
    """A body in chunks, given with its framing."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)
