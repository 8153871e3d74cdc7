"""hypothesis strategies that write requests: valid ones, with what must be read from them, and broken ones.

They write from the ABNF of RFC 9110 and RFC 9112, and share nothing with starman.proto.syntax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

_TCHARS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_UNRESERVED = b"abcXYZ019-._~"
_TOLERATED = b'"<>[]\\^`{|}%'  # beyond RFC 3986, in paths and queries: real clients send them raw
_SUB_DELIMS = b"!$&'()*+,;="
_FIELD_CHARS = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
_FRAMING = {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"}


def _bytes_of(alphabet: bytes, min_size: int = 0, max_size: int = 8) -> st.SearchStrategy[bytes]:
    return st.lists(st.sampled_from(alphabet), min_size=min_size, max_size=max_size).map(bytes)


def _encoded(alphabet: bytes, min_size: int = 0, max_size: int = 6) -> st.SearchStrategy[bytes]:
    """Characters of `alphabet` and percent-encoded ones."""
    percent = st.integers(0, 255).map(lambda byte: b"%%%02x" % byte) | st.integers(0, 255).map(lambda byte: b"%%%02X" % byte)
    one = st.sampled_from([bytes([byte]) for byte in alphabet])
    return st.lists(one | one | one | percent, min_size=min_size, max_size=max_size).map(b"".join)


TOKENS = _bytes_of(_TCHARS, 1)
OWS = st.sampled_from([b"", b" ", b"  ", b"\t", b" \t "])
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD"]) | TOKENS.filter(lambda name: name != b"CONNECT")
OPTIONS = TOKENS.filter(lambda option: option.lower() not in (b"close", b"keep-alive", b"upgrade"))
VALUES = _bytes_of(_FIELD_CHARS, max_size=12).map(lambda value: value.strip(b" \t"))
_SEGMENTS = _encoded(_UNRESERVED + _SUB_DELIMS + b":@" + _TOLERATED)
PATHS = st.lists(_SEGMENTS, min_size=1, max_size=3).map(lambda parts: b"".join(b"/" + part for part in parts))
QUERIES = _encoded(_UNRESERVED + _SUB_DELIMS + b":@/?" + _TOLERATED)


@st.composite
def hosts(draw: st.DrawFn) -> bytes:
    """uri-host [ ":" port ], not empty."""
    name = draw(
        _encoded(_UNRESERVED + _SUB_DELIMS, 1)
        | st.ip_addresses(v=4).map(lambda address: str(address).encode())
        | st.ip_addresses(v=6).map(lambda address: b"[%b]" % str(address).encode())
        | st.ip_addresses(v=6).map(lambda address: b"[%b]" % address.exploded.upper().encode())
    )
    port = draw(st.just(b"") | st.just(b":") | st.integers(0, 65535).map(lambda port: b":%d" % port))
    return name + port


@st.composite
def fields(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A field that decides nothing."""
    return draw(TOKENS.filter(lambda name: name.lower() not in _FRAMING)), draw(VALUES)


@st.composite
def _cased(draw: st.DrawFn, name: bytes) -> bytes:
    return draw(st.sampled_from([name, name.lower(), name.upper(), name.swapcase()]))


@dataclass
class ChunkedBody:
    """A chunked body as it is sent, its data, its trailers, and how many bytes of it are extensions and trailers."""

    encoded: bytes
    data: bytes
    trailers: list[tuple[bytes, bytes]]
    extra_bytes: int


@st.composite
def _quoted_strings(draw: st.DrawFn) -> bytes:
    pieces = draw(st.lists(st.sampled_from([bytes([byte]) for byte in _FIELD_CHARS]), max_size=5))
    return b'"%b"' % b"".join(b"\\" + piece if piece in (b'"', b"\\") or draw(st.booleans()) else piece for piece in pieces)


@st.composite
def _extensions(draw: st.DrawFn) -> bytes:
    written = b""
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        written += draw(OWS) + b";" + draw(OWS) + draw(TOKENS)
        if draw(st.booleans()):
            written += draw(OWS) + b"=" + draw(OWS) + draw(TOKENS | _quoted_strings())
    return written


@st.composite
def chunked_bodies(draw: st.DrawFn) -> ChunkedBody:
    """Any chunked body (RFC 9112 §7.1)."""
    encoded = data = b""
    extra_bytes = 0
    for piece in [*draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3)), b""]:
        size = b"%x" % len(piece) if draw(st.booleans()) else b"%0*X" % (draw(st.integers(1, 16)), len(piece))
        extension = draw(_extensions())
        encoded += size + extension + b"\r\n" + (piece + b"\r\n" if piece else b"")
        data += piece
        extra_bytes += len(extension)
    trailers = draw(st.lists(st.tuples(TOKENS, VALUES), max_size=2))
    for name, value in trailers:
        line = name + b":" + draw(OWS) + value + draw(OWS) + b"\r\n"
        encoded += line
        extra_bytes += len(line)
    return ChunkedBody(encoded + b"\r\n", data, trailers, extra_bytes)


@dataclass
class Message:
    """A request as it is sent, and what has to be read from it."""

    data: bytes
    head: dict[str, Any]
    body: bytes
    trailers: list[tuple[bytes, bytes]]


@st.composite
def _targets(draw: st.DrawFn, head: dict[str, Any]) -> bytes:
    path, query = draw(PATHS), draw(st.none() | QUERIES)
    head |= {"path": path, "query": query or b"", "host": None}
    suffix = b"" if query is None else b"?" + query
    form = draw(st.sampled_from(["origin", "origin", "absolute", "bare absolute", "asterisk"]))
    if form == "origin":
        return path + suffix
    if form == "asterisk":
        head |= {"method": b"OPTIONS", "path": b"", "query": b""}
        return b"*"
    head["host"] = host = draw(hosts())
    if form == "bare absolute":
        head["path"], path = b"/", b""
    return draw(st.sampled_from([b"http://", b"HTTP://", b"https://"])) + host + path + suffix


@st.composite
def messages(draw: st.DrawFn, persistent: bool | None = None) -> Message:
    """Any valid request. `persistent` whether the connection outlives it; None leaves it open."""
    head: dict[str, Any] = {"method": draw(METHODS)}
    head["target"] = draw(_targets(head))
    minor = draw(st.sampled_from([0, 1, 1, 1, 2, 9]))
    head |= {"version": b"HTTP/1.%d" % minor, "minor": min(minor, 1)}
    lines = draw(st.lists(fields(), max_size=3))
    if minor or draw(st.booleans()):
        host = draw(hosts() | st.just(b""))
        head["host"] = host if head["host"] is None else head["host"]
        lines.append((draw(_cased(b"Host")), host))
    head["persistent"] = draw(st.booleans()) if persistent is None else persistent
    options = draw(st.lists(OPTIONS, max_size=2))
    if head["persistent"] is not bool(minor):
        options.append(draw(_cased(b"close" if minor else b"keep-alive")))
    upgrades = draw(st.booleans())
    if upgrades:
        options.append(b"Upgrade")
        lines.append((b"Upgrade", b"h2c"))
    head["upgrade"] = upgrades and minor > 0
    options = draw(st.permutations(options))
    if options:
        at = draw(st.integers(0, len(options)))
        lines += [(b"Connection", b" ,\t".join(some)) for some in (options[:at], options[at:]) if some]
    body, trailers, encoded = b"", [], b""
    framing = draw(st.sampled_from(["none", "length", "chunked"] if minor else ["none", "length"]))
    head["body_length"] = 0
    if framing == "length":
        encoded = body = draw(st.binary(max_size=30))
        head["body_length"] = len(body)
        lines.append((draw(_cased(b"Content-Length")), b"0" * draw(st.integers(0, 3)) + b"%d" % len(body)))
    elif framing == "chunked":
        chunked = draw(chunked_bodies())
        encoded, body, trailers = chunked.encoded, chunked.data, chunked.trailers
        head["body_length"] = None
        lines.append((draw(_cased(b"Transfer-Encoding")), draw(_cased(b"chunked"))))
    expects = draw(st.booleans())
    if expects:
        lines.append((b"Expect", draw(_cased(b"100-continue"))))
    head["expects_continue"] = expects and minor > 0 and head["body_length"] != 0
    head["fields"] = draw(st.permutations(lines))
    written = b"".join(name + b":" + draw(OWS) + value + draw(OWS) + b"\r\n" for name, value in head["fields"])
    line = b"\r\n" * draw(st.sampled_from([0, 0, 0, 1, 4])) + b" ".join([head["method"], head["target"], head["version"]])
    return Message(line + b"\r\n" + written + b"\r\n" + encoded, head, body, trailers)


# What attackers write in the wrong place.
# fmt: off (one value to a line would make this table very long)
_POISONS = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"\r\n\r\n",
        b"\n\n",
        b"\0",
        b" ",
        b"\t",
        b"  ",
        b":",
        b";",
        b",",
        b"/",
        b"%",
        b"*",
        b"0",
        b"-",
        b"+",
        b"\x0b",
        b"\x7f",
        b"\x80",
        b"\xff",
        b"0\r\n\r\n",
        b"1\r\n",
        b"HTTP/1.1",
        b"HTTP/1.0",
        b"HTTP/2.0",
        b"\r\n ",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nContent-Length: 3",
        b"\r\nContent-Length: 0\r\n",
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding: identity",
        b"\r\nHost: b",
        b"\r\nConnection: close",
        b"\r\nExpect: x",
        b"chunked",
        b"close",
    ]
)
# fmt: on


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A valid request or two with a few bytes changed: most are broken now, some are not."""
    data = b"".join(message.data for message in draw(st.lists(messages(), min_size=1, max_size=2)))
    for _ in range(draw(st.integers(1, 3))):
        # Most places of interest are near a line break.
        breaks = [at for at in range(len(data)) if data[at : at + 1] in b"\r\n :;,"]
        at = draw(st.sampled_from([*breaks, 0])) if draw(st.booleans()) else draw(st.integers(0, len(data)))
        end = at + draw(st.sampled_from([0, 0, 1, 1, 2, 5]))
        put = draw(st.just(b"") | st.just(data[at:end] * 2) | _POISONS | _POISONS | st.binary(max_size=2))
        data = data[:at] + put + data[end:]
    return data
