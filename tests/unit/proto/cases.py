"""Requests, valid and broken, with what must become of them: the table that test_request and test_against_h11 go
through."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starman.proto.events import LONGEST_BODY


@dataclass
class Valid:
    """A message, what its head says where it is not obvious, its body and its trailers."""

    data: bytes
    head: dict[str, Any]
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()


def get(line: bytes, *fields: bytes) -> bytes:
    """A head of this request line and these fields, behind a Host."""
    return b"\r\n".join([line, b"Host: a", *fields, b"", b""])


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST with these fields, behind a Host, and these bytes behind it."""
    return get(b"POST / HTTP/" + version, *fields) + body


def chunked(body: bytes, *fields: bytes) -> bytes:
    """A POST with the chunked body `body`, framing included."""
    return post(b"Transfer-Encoding: chunked", *fields, body=body)


def with_host(value: bytes) -> bytes:
    """A GET with this Host and nothing else."""
    return b"GET / HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


# fmt: off (one value to a line would make these tables very long)

# Values of Host, valid ones and others.
_HOSTS = (
    b"a.b-c_d~e",
    b"A.example:8080",
    b"a:",
    b"a:0",
    b"a:65535",
    b"a:0000065535",
    b"127.0.0.1",
    b"999.1.1.1",
    b"[::1]",
    b"[::]",
    b"[2001:db8::1]:80",
    b"[1:2:3:4:5:6:7:8]",
    b"[::ffff:1.2.3.4]",
    b"[v1f.a:b]",
    b"%41%c3",
    b"a%41:1",
    b"!$&'()*+,;=",
)
_NO_HOSTS = (
    b"a, b",
    b"a b",
    b"a/b",
    b"u@a",
    b"a:x",
    b"a\x80",
    b":80",
    b"a:80:80",
    b"a:65536",
    b"a:99999",
    b"a:-1",
    b"a:+1",
    b"a: 1",
    b"[::1",
    b"::1",
    b"[::g]",
    b"[:::]",
    b"[1:2:3:4:5:6:7:8:9]",
    b"[1::2::3]",
    b"[::1]a",
    b"[::1]:x",
    b"[fe80::1%25eth0]",
    b"[v.a]",
    b"a%",
    b"a%4",
    b"a%zz",
    b'"a"',
    b"a\\b",
    b"a#b",
    b"a?b",
    b"<a>",
    b"http://a",
    b"a^b",
    b"a|b",
    b"{a}",
)

# What a path and a query may have as it is.
_RAW_IN_QUERIES = bytes(byte for byte in range(0x21, 0x7F) if byte != ord("#"))
_RAW_IN_PATHS = _RAW_IN_QUERIES.replace(b"?", b"")

# What is no Content-Length.
_NO_LENGTHS = (
    b"",
    b"5, 5",
    b"5,6",
    b"5,",
    b"+5",
    b"-5",
    b"-0",
    b"5.0",
    b"0x5",
    b"5 5",
    b"5a",
    b"a",
    b"five",
    b"1e1",
    b"5;",
    b'"5"',
    b"\xb2",
    b"5_0",
    b"%d" % (LONGEST_BODY + 1),
    b"%d" % (2**64 - 1),
    b"%d" % 2**64,
    b"%d" % (2**64 + 5),
    b"9" * 100,
    b"0" * 30 + b"9" * 20,
)

# What is no Transfer-Encoding, and the status it deserves.
_NO_CODINGS = {
    b"": 400,
    b",": 400,
    b", chunked": 400,
    b"chunked,": 400,
    b"chunked, chunked": 400,
    b"chunked, identity": 400,
    b"identity": 400,
    b"gzip": 400,
    b"xchunked": 400,
    b"chunkedx": 400,
    b"chunked;a=b": 400,
    b"chunked;": 400,
    b"chunked gzip": 400,
    b"chun\x80ked": 400,
    b'"chunked"': 400,
    b"chunked, gzip": 400,
    b"gzip;, chunked": 400,
    b"chunked\x0b": 400,
    b"\x0bchunked": 400,
    b"\0chunked": 400,
    b"gzip, chunked": 501,
    b"identity, chunked": 501,
    b"gzip;q=1, chunked": 501,
    b'x;a="b" , chunked': 501,
    b"deflate,gzip,\tchunked": 501,
}

# What is no chunked body.
_NO_CHUNKS = (
    b"\r\n0\r\n\r\n",
    b"g\r\n",
    b"-1\r\nx\r\n",
    b"+1\r\nx\r\n",
    b"0x1\r\nx\r\n",
    b" 1\r\nx\r\n0\r\n\r\n",
    b"1 \r\nx\r\n0\r\n\r\n",
    b"1\t\r\nx\r\n0\r\n\r\n",
    b"1\nx\r\n0\r\n\r\n",
    b"1\rx\r\n0\r\n\r\n",
    b"1\r\nx\n0\r\n\r\n",
    b"1\r\nx\r0\r\n\r\n",
    b"1\r\nx0\r\n\r\n",
    b"1\r\nxy\r\n0\r\n\r\n",
    b"2\r\nx\r\n0\r\n\r\n",
    b"1;\r\nx\r\n0\r\n\r\n",
    b"1;=b\r\nx\r\n0\r\n\r\n",
    b"1;a=\r\nx\r\n0\r\n\r\n",
    b"1;a=b c\r\nx\r\n0\r\n\r\n",
    b'1;a="\r\nx\r\n0\r\n\r\n',
    b'1;a="b\r\n',
    b'1;a="b"c\r\nx\r\n',
    b"1;a b\r\nx\r\n",
    b"1;a;\r\nx\r\n",
    b"1 a\r\nx\r\n",
    b"1;a\0\r\nx\r\n",
    b"1;a\n\r\nx\r\n",
    b'1;a="\n"\r\nx\r\n',
    b'1;a="\x7f"\r\nx\r\n',
    b"1,1\r\nx\r\n",
    b"1_0\r\nx\r\n",
    b"0" * 17 + b"\r\n\r\n",
    b"1" * 17 + b"\r\nx\r\n",
    b"\xb2\r\nxx\r\n",
    b"0\r\n\n",
    b"0\n\n",
    b"0\r\n\r\r\n",
    b"0\r\n \r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\n: b\r\n\r\n",
    b"0\r\nA: b\n\r\n",
    b"0\r\nA: b\rC: d\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA: \0\r\n\r\n",
    b"0\r\nA: \x7f\r\n\r\n",
    b"0\r\n\xc4: b\r\n\r\n",
)
# fmt: on

PLAIN = {"method": b"GET", "version": b"HTTP/1.1", "minor": 1, "body_length": 0, "persistent": True}
KEPT, LAST = {"persistent": True}, {"persistent": False}
CHUNKED = {"body_length": None}

_REQUEST_LINES = {
    "plain": Valid(get(b"GET / HTTP/1.1"), {**PLAIN, "target": b"/", "path": b"/", "query": b"", "host": b"a", "upgrade": False}),
    "path and query": Valid(get(b"GET /a/b?c=d&e HTTP/1.1"), {"target": b"/a/b?c=d&e", "path": b"/a/b", "query": b"c=d&e"}),
    "empty query": Valid(get(b"GET /? HTTP/1.1"), {"path": b"/", "query": b""}),
    "question marks in the query": Valid(get(b"GET /?? HTTP/1.1"), {"path": b"/", "query": b"?"}),
    "two slashes": Valid(get(b"GET //a//b HTTP/1.1"), {"path": b"//a//b", "host": b"a"}),
    "dot segments": Valid(get(b"GET /a/../b/. HTTP/1.1"), {"path": b"/a/../b/."}),
    "percent": Valid(get(b"GET /%2F%c3%A9%00?%25 HTTP/1.1"), {"path": b"/%2F%c3%A9%00", "query": b"%25"}),
    "all of pchar": Valid(get(b"GET /-._~!$&'()*+,;=:@ HTTP/1.1"), {"path": b"/-._~!$&'()*+,;=:@"}),
    "all that is raw in a path": Valid(get(b"GET /%b HTTP/1.1" % _RAW_IN_PATHS), {"path": b"/" + _RAW_IN_PATHS, "query": b""}),
    "all that is raw in a query": Valid(get(b"GET /?%b HTTP/1.1" % _RAW_IN_QUERIES), {"path": b"/", "query": _RAW_IN_QUERIES}),
    "all that is raw, absolute": Valid(
        get(b"GET http://b/%b?%b HTTP/1.1" % (_RAW_IN_PATHS, _RAW_IN_QUERIES)),
        {"host": b"b", "path": b"/" + _RAW_IN_PATHS, "query": _RAW_IN_QUERIES},
    ),
    **{
        f"{text!r} in the path and the query": Valid(
            get(b"GET /%b?%b HTTP/1.1" % (text, text)), {"path": b"/" + text, "query": text}
        )
        for text in (b"%", b"%1", b"%zz", b"%1g", b"%%41", b"[2023]", b"\\..\\", b'"<a>"')
    },
    "extension method": Valid(get(b"PROPFIND /x HTTP/1.1"), {"method": b"PROPFIND"}),
    "any token is a method": Valid(get(b"!#$%&'*+-.^_`|~09azAZ / HTTP/1.1"), {"method": b"!#$%&'*+-.^_`|~09azAZ"}),
    "methods have cases": Valid(get(b"get / HTTP/1.1"), {"method": b"get"}),
    "asterisk": Valid(
        get(b"OPTIONS * HTTP/1.1"), {"method": b"OPTIONS", "target": b"*", "path": b"", "query": b"", "host": b"a"}
    ),
    "absolute": Valid(
        get(b"GET http://b:80/c?d HTTP/1.1"), {"host": b"b:80", "path": b"/c", "query": b"d", "target": b"http://b:80/c?d"}
    ),
    "absolute, without a path": Valid(get(b"GET http://b HTTP/1.1"), {"host": b"b", "path": b"/", "query": b""}),
    "absolute, only a query": Valid(get(b"GET http://b?q HTTP/1.1"), {"host": b"b", "path": b"/", "query": b"q"}),
    "absolute, https": Valid(get(b"GET HttpS://b/ HTTP/1.1"), {"host": b"b", "path": b"/"}),
    "absolute, IPv6": Valid(get(b"GET http://[::1]:8/ HTTP/1.1"), {"host": b"[::1]:8", "path": b"/"}),
    "1.0": Valid(b"GET / HTTP/1.0\r\n\r\n", {"version": b"HTTP/1.0", "minor": 0, "host": None, "fields": [], **LAST}),
    "1.2 is served as 1.1": Valid(get(b"GET / HTTP/1.2"), {"version": b"HTTP/1.2", "minor": 1, **KEPT}),
    "1.9 is served as 1.1": Valid(get(b"GET / HTTP/1.9"), {"version": b"HTTP/1.9", "minor": 1, **KEPT}),
    "one empty line before": Valid(b"\r\n" + get(b"GET / HTTP/1.1"), {**PLAIN}),
    "four empty lines before": Valid(b"\r\n" * 4 + get(b"GET / HTTP/1.1"), {**PLAIN}),
}

_FIELDS = {
    "white space around values": Valid(
        get(b"GET / HTTP/1.1", b"A: \t b \t ", b"C:d", b"E:", b"F: \t "),
        {"fields": [(b"Host", b"a"), (b"A", b"b"), (b"C", b"d"), (b"E", b""), (b"F", b"")]},
    ),
    "white space within values": Valid(get(b"GET / HTTP/1.1", b"A: b \t c"), {"fields": [(b"Host", b"a"), (b"A", b"b \t c")]}),
    "order and repetition": Valid(
        get(b"GET / HTTP/1.1", b"Z: 1", b"a: 2", b"Z: 3"),
        {"fields": [(b"Host", b"a"), (b"Z", b"1"), (b"a", b"2"), (b"Z", b"3")]},
    ),
    "any token is a name": Valid(
        get(b"GET / HTTP/1.1", b"!#$%&'*+-.^_`|~09azAZ: 1"),
        {"fields": [(b"Host", b"a"), (b"!#$%&'*+-.^_`|~09azAZ", b"1")]},
    ),
    "obs-text": Valid(get(b"GET / HTTP/1.1", b"A: \x80\xff\xe9"), {"fields": [(b"Host", b"a"), (b"A", b"\x80\xff\xe9")]}),
    "host in lower case": Valid(b"GET / HTTP/1.1\r\nhOST:a\r\n\r\n", {"host": b"a"}),
    "host with white space": Valid(b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", {"host": b"a"}),
    **{f"host {host!r}": Valid(with_host(host), {"host": host}) for host in _HOSTS},
    "1.0 with a host": Valid(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", {"host": b"a"}),
    "empty host": Valid(b"GET / HTTP/1.1\r\nHost:\r\n\r\n", {"host": b"", "fields": [(b"Host", b"")]}),
    "host of white space": Valid(b"GET / HTTP/1.1\r\nHost: \t \r\n\r\n", {"host": b""}),
    "empty host for 1.0": Valid(b"GET / HTTP/1.0\r\nHost:\r\n\r\n", {"host": b""}),
    "empty host for *": Valid(b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", {"host": b"", "path": b""}),
    "empty host beside absolute": Valid(b"GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", {"host": b"a"}),
}

_PERSISTENCE = {
    "close": Valid(get(b"GET / HTTP/1.1", b"Connection: close"), LAST),
    "close in any case": Valid(get(b"GET / HTTP/1.1", b"connection: CLose"), LAST),
    "close among others": Valid(get(b"GET / HTTP/1.1", b"Connection: a ,\tclose , b"), LAST),
    "close in a second field": Valid(get(b"GET / HTTP/1.1", b"Connection: a", b"Connection: close"), LAST),
    "close and keep-alive": Valid(get(b"GET / HTTP/1.1", b"Connection: keep-alive, close"), LAST),
    "not quite close": Valid(get(b"GET / HTTP/1.1", b"Connection: closed, xclose, close;q"), KEPT),
    "empty connection": Valid(get(b"GET / HTTP/1.1", b"Connection:", b"Connection: ,,"), KEPT),
    "many empty members of Connection": Valid(get(b"GET / HTTP/1.1", b"Connection: " + b"," * 98, b"Connection: close"), LAST),
    "1.0 keep-alive": Valid(get(b"GET / HTTP/1.0", b"Connection: Keep-Alive"), KEPT),
    "1.0 keep-alive and close": Valid(get(b"GET / HTTP/1.0", b"Connection: Keep-Alive", b"Connection: close"), LAST),
    "1.2 close": Valid(get(b"GET / HTTP/1.2", b"Connection: close"), LAST),
    "Proxy-Connection means nothing": Valid(get(b"GET / HTTP/1.1", b"Proxy-Connection: close"), KEPT),
    "upgrade": Valid(get(b"GET / HTTP/1.1", b"Connection: Upgrade", b"Upgrade: websocket"), {"upgrade": True, **KEPT}),
    "upgrade without Connection": Valid(get(b"GET / HTTP/1.1", b"Upgrade: websocket"), {"upgrade": False}),
    "Connection without upgrade": Valid(get(b"GET / HTTP/1.1", b"Connection: upgrade"), {"upgrade": False}),
    "upgrade by 1.0": Valid(get(b"GET / HTTP/1.0", b"Connection: Upgrade", b"Upgrade: x"), {"upgrade": False}),
}

_BODIES = {
    "length": Valid(post(b"Content-Length: 5", body=b"hello"), {"body_length": 5, **KEPT}, b"hello"),
    "length in white space": Valid(post(b"Content-Length: \t5 \t", body=b"hello"), {"body_length": 5}, b"hello"),
    "length with zeros": Valid(post(b"Content-Length: 0000000000000000000000005", body=b"hello"), {"body_length": 5}, b"hello"),
    "length 0": Valid(post(b"Content-Length: 0"), {"body_length": 0}),
    "no length": Valid(post(), {"body_length": 0}),
    "a GET may have a body": Valid(get(b"GET / HTTP/1.1", b"Content-Length: 2") + b"\r\n", {"body_length": 2}, b"\r\n"),
    "a body like a request": Valid(post(b"Content-Length: 18", body=b"GET / HTTP/1.1\r\n\r\n"), {}, b"GET / HTTP/1.1\r\n\r\n"),
    "length by 1.0": Valid(post(b"Content-Length: 1", body=b"x", version=b"1.0"), LAST, b"x"),
    "length and close": Valid(post(b"Content-Length: 1", b"Connection: close", body=b"x"), LAST, b"x"),
    "chunked": Valid(chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), {**CHUNKED, **KEPT}, b"hello world"),
    "chunked, empty": Valid(chunked(b"0\r\n\r\n"), CHUNKED),
    "chunked in any case": Valid(post(b"transfer-encoding: CHUNKed", body=b"0\r\n\r\n"), CHUNKED),
    "chunked, then a tab": Valid(post(b"Transfer-Encoding: chunked\t", body=b"0\r\n\r\n"), CHUNKED),
    "chunked by 1.2": Valid(post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.2"), CHUNKED),
    "chunk size in any case, with zeros": Valid(
        chunked(b"0a\r\n0123456789\r\n00A\r\n0123456789\r\n000\r\n\r\n"), {}, b"0123456789" * 2
    ),
    "chunk of line breaks": Valid(chunked(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), {}, b"\r\n\r\n"),
    "chunk like a last chunk": Valid(chunked(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"), {}, b"0\r\n\r\n"),
    "chunk extensions": Valid(
        chunked(b'1;a;b=c;d="e\\"; \\\\\xff"\r\nx\r\n1 ; a = b\r\ny\r\n1\t;\ta\t=\t"b"\r\nz\r\n0;last\r\n\r\n'), {}, b"xyz"
    ),
    "trailers": Valid(
        chunked(b"0\r\nA: b \t\r\nC:\r\nA:\t d\r\n\r\n"),
        {"fields": [(b"Host", b"a"), (b"Transfer-Encoding", b"chunked")]},
        trailers=((b"A", b"b"), (b"C", b""), (b"A", b"d")),
    ),
    "trailers that pose as framing": Valid(
        chunked(b"1\r\nx\r\n0\r\nContent-Length: 5\r\nHost: b\r\nConnection: close\r\n\r\n"),
        {"host": b"a", "body_length": None, **KEPT},
        b"x",
        ((b"Content-Length", b"5"), (b"Host", b"b"), (b"Connection", b"close")),
    ),
    "upgrade with a length": Valid(
        post(b"Connection: Upgrade", b"Upgrade: h2c", b"Content-Length: 18", body=b"GET / HTTP/1.1\r\n\r\n"),
        {"upgrade": True, "body_length": 18, **KEPT},
        b"GET / HTTP/1.1\r\n\r\n",
    ),
    "upgrade with chunks": Valid(
        chunked(b"1\r\nx\r\n0\r\n\r\n", b"Connection: Upgrade", b"Upgrade: h2c"), {"upgrade": True, "body_length": None}, b"x"
    ),
    "expect": Valid(post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"x"), {"expects_continue": True}, b"x"),
    "expect, chunked": Valid(chunked(b"0\r\n\r\n", b"Expect: 100-continue"), {"expects_continue": True}),
    "expect without a body": Valid(post(b"Expect: 100-continue", b"Content-Length: 0"), {"expects_continue": False}),
    "expect by 1.0": Valid(
        post(b"Expect: 100-continue", b"Content-Length: 1", body=b"x", version=b"1.0"), {"expects_continue": False}, b"x"
    ),
    "empty members of Expect": Valid(
        post(b"Expect:", b"Expect: , 100-continue", b"Content-Length: 1", body=b"x"), {"expects_continue": True}, b"x"
    ),
    "Expect without a member": Valid(post(b"Expect:", b"Content-Length: 1", body=b"x"), {"expects_continue": False}, b"x"),
}

VALID = {**_REQUEST_LINES, **_FIELDS, **_PERSISTENCE, **_BODIES}

_TLS_CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(32)) + b"\r\n\r\n"
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

# What is wrong, the message, the status. Grouped as reference texts group them: by what of a request is broken.
BROKEN: dict[str, tuple[bytes, int]] = {
    "a byte beyond ASCII in the target, and HTTP/2.0": (b"GET /\xff HTTP/2.0\r\n\r\n", 400),
    "a byte beyond ASCII in the target of CONNECT": (b"CONNECT \xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    # request line
    "double space before the target": (get(b"GET  / HTTP/1.1"), 400),
    "double space before the version": (get(b"GET /  HTTP/1.1"), 400),
    "tab for a space": (get(b"GET\t/ HTTP/1.1"), 400),
    "leading space": (get(b" GET / HTTP/1.1"), 400),
    "trailing space": (get(b"GET / HTTP/1.1 "), 400),
    "space in the target": (get(b"GET /a b HTTP/1.1"), 400),
    "no target": (get(b"GET HTTP/1.1"), 400),
    "empty target": (get(b"GET  HTTP/1.1"), 400),
    "HTTP/0.9 without a version": (b"GET /\r\n\r\n", 400),
    "only a method": (b"GET\r\n\r\n", 400),
    "method with a colon": (get(b"G:T / HTTP/1.1"), 400),
    "method with a quote": (get(b'"GET" / HTTP/1.1'), 400),
    "method of obs-text": (get(b"G\xc9T / HTTP/1.1"), 400),
    "HTTP/0.9": (get(b"GET / HTTP/0.9"), 505),
    "HTTP/2.0": (get(b"GET / HTTP/2.0"), 505),
    "HTTP/3.0": (get(b"GET / HTTP/3.0"), 505),
    "HTTP/1": (get(b"GET / HTTP/1"), 400),
    "HTTP/1.": (get(b"GET / HTTP/1."), 400),
    "HTTP/1.10": (get(b"GET / HTTP/1.10"), 400),
    "HTTP/01.1": (get(b"GET / HTTP/01.1"), 400),
    "HTTP/1,1": (get(b"GET / HTTP/1,1"), 400),
    "http/1.1": (get(b"GET / http/1.1"), 400),
    "RTSP": (get(b"GET / RTSP/1.0"), 400),
    "ICE": (get(b"SOURCE / ICE/1.0"), 400),
    "five empty lines before": (b"\r\n" * 5 + get(b"GET / HTTP/1.1"), 400),
    "bare LF before": (b"\n" + get(b"GET / HTTP/1.1"), 400),
    "bare CR before": (b"\r" + get(b"GET / HTTP/1.1"), 400),
    "CRLF and bare LF before": (b"\r\n\n" + get(b"GET / HTTP/1.1"), 400),
    "CRLF and bare CR before": (b"\r\n\r" + get(b"GET / HTTP/1.1"), 400),
    "space before, then a line": (b" \r\n" + get(b"GET / HTTP/1.1"), 400),
    "byte order mark": (b"\xef\xbb\xbf" + get(b"GET / HTTP/1.1"), 400),
    "lines end in LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "request line ends in LF": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
    "request line ends in CR": (b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400),
    "request line ends in CR CR LF": (b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400),
    "TLS": (_TLS_CLIENT_HELLO, 400),
    "HTTP/2 preface": (_HTTP2_PREFACE, 400),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", 400),
    "nothing but NUL": (b"\0" * 64 + b"\r\n\r\n", 400),
    # target
    "asterisk is for OPTIONS": (get(b"GET * HTTP/1.1"), 400),
    "asterisk and more": (get(b"OPTIONS *x HTTP/1.1"), 400),
    "no slash": (get(b"GET a HTTP/1.1"), 400),
    "authority-form": (get(b"GET a:80 HTTP/1.1"), 400),
    "absolute, no host": (get(b"GET http:///x HTTP/1.1"), 400),
    "absolute, nothing": (get(b"GET http:// HTTP/1.1"), 400),
    "absolute, only a port": (get(b"GET http://:80/ HTTP/1.1"), 400),
    "absolute, user": (get(b"GET http://u@a/ HTTP/1.1"), 400),
    "absolute, bad port": (get(b"GET http://a:65536/ HTTP/1.1"), 400),
    "absolute, bad host": (get(b"GET http://a\\b/ HTTP/1.1"), 400),
    "absolute, another scheme": (get(b"GET foo://a/ HTTP/1.1"), 400),
    "absolute, no slashes": (get(b"GET http:a HTTP/1.1"), 400),
    "CONNECT": (get(b"CONNECT a:80 HTTP/1.1"), 501),
    "CONNECT /": (get(b"CONNECT / HTTP/1.1"), 501),
    **{
        f"{bytes([byte])!r} in the {where}": (get(b"GET %b%b HTTP/1.1" % (before, bytes([byte]))), 400)
        for where, before in {
            "path": b"/",
            "query": b"/?",
            "path, absolute": b"http://a/",
            "query, absolute": b"http://a?",
        }.items()
        for byte in (*range(0x21), ord("#"), *range(0x7F, 0x100))
    },
    # fields
    "space before the colon": (get(b"GET / HTTP/1.1", b"A : b"), 400),
    "tab before the colon": (get(b"GET / HTTP/1.1", b"A\t: b"), 400),
    "no colon": (get(b"GET / HTTP/1.1", b"A"), 400),
    "no name": (get(b"GET / HTTP/1.1", b": b"), 400),
    "space in the name": (get(b"GET / HTTP/1.1", b"A B: c"), 400),
    "name with obs-text": (get(b"GET / HTTP/1.1", b"\xc4: c"), 400),
    "name with a slash": (get(b"GET / HTTP/1.1", b"A/B: c"), 400),
    "name with NUL": (get(b"GET / HTTP/1.1", b"A\0: c"), 400),
    "white space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    "obs-fold": (get(b"GET / HTTP/1.1", b"A: b\r\n c"), 400),
    "obs-fold by a tab": (get(b"GET / HTTP/1.1", b"A: b\r\n\tc"), 400),
    "obs-fold of nothing": (get(b"GET / HTTP/1.1", b"A: b\r\n "), 400),
    "obs-fold in an empty value": (get(b"GET / HTTP/1.1", b"A:\r\n b"), 400),
    "field ends in LF": (b"GET / HTTP/1.1\r\nHost: a\nB: c\r\n\r\n", 400),
    "field ends in CR": (b"GET / HTTP/1.1\r\nHost: a\rB: c\r\n\r\n", 400),
    "head ends in LF LF": (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
    "head ends in CRLF LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "head ends in CRLF CR CR LF": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n", 400),
    **{
        f"{bytes([byte])!r} in a value": (get(b"GET / HTTP/1.1", b"A: b%bc" % bytes([byte])), 400)
        for byte in b"\0\x01\x08\x0b\x0c\r\n\x1b\x1f\x7f"
    },
    # Host
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "no host for 1.2": (b"GET / HTTP/1.2\r\nA: b\r\n\r\n", 400),
    "no host beside absolute": (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    "bad host beside absolute": (b"GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n", 400),
    "two hosts": (get(b"GET / HTTP/1.1", b"Host: b"), 400),
    "the same host twice": (get(b"GET / HTTP/1.1", b"Host: a"), 400),
    "two hosts for 1.0": (get(b"GET / HTTP/1.0", b"host: b"), 400),
    **{f"host {host!r}": (with_host(host), 400) for host in _NO_HOSTS},
    "two hosts, the first empty": (b"GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n\r\n", 400),
    "two hosts, the second empty": (get(b"GET / HTTP/1.1", b"Host:"), 400),
    "two hosts, both empty": (b"GET / HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", 400),
    "two hosts, both empty, beside absolute": (b"GET http://a/ HTTP/1.1\r\nHost:\r\nHost:\r\n\r\n", 400),
    # framing
    "length and chunked": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "chunked and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), 400),
    "length 0 and chunked": (post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"), 400),
    "length and an unknown coding": (post(b"Content-Length: 5", b"Transfer-Encoding: gzip", body=b"hello"), 400),
    "chunked by 1.0": (post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n", version=b"1.0"), 400),
    "identity by 1.0": (post(b"Transfer-Encoding: identity", version=b"1.0"), 400),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400),
    "the same length twice": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400),
    **{f"length {value!r}": (post(b"Content-Length: " + value, body=b"hello"), 400) for value in _NO_LENGTHS},
    **{
        f"coding {value!r}": (post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n"), status)
        for value, status in _NO_CODINGS.items()
    },
    "codings in two fields, the last not chunked": (chunked(b"0\r\n\r\n", b"Transfer-Encoding: gzip"), 400),
    "chunked in two fields": (chunked(b"0\r\n\r\n", b"Transfer-Encoding: chunked"), 400),
    "codings in two fields, the last chunked": (
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        501,
    ),
    "chunked in a folded field": (post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n"), 400),
    "chunked behind a space": (post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), 400),
    "an expectation we do not know": (post(b"Expect: 200-ok", b"Content-Length: 1", body=b"x"), 417),
    "an expectation more": (post(b"Expect: 100-continue, x", b"Content-Length: 1", body=b"x"), 417),
    # lists without end (RFC 9110 §5.6.1.2)
    **{
        f"{name} of {member!r}": (post(b"%b: %b" % (name.encode(), member * (8000 // len(member))), body=b""), status)
        for name, status in {"Connection": 400, "Transfer-Encoding": 400, "Expect": 417}.items()
        for member in (b",", b"a,", b", ", b"close,")
    },
    "Connection in many fields": (get(b"GET / HTTP/1.1", *[b"Connection: a,b"] * 51), 400),
    # chunks
    **{f"chunks {body!r}": (chunked(body), 400) for body in _NO_CHUNKS},
    "chunk FFFFFFFFFFFFFFFF": (chunked(b"FFFFFFFFFFFFFFFF\r\n"), 413),
    "chunks that overflow together": (chunked(b"1\r\nx\r\n7FFFFFFFFFFFFFFF\r\n"), 413),
}

# Broken before their end, and beyond mending: the bytes after the last of which they are refused, and what was to
# follow.
REFUSED_EARLY: dict[str, tuple[bytes, bytes]] = {
    "TLS": (b"\x16", _TLS_CLIENT_HELLO[1:]),
    "HTTP/2 preface": (_HTTP2_PREFACE[:16], _HTTP2_PREFACE[16:]),
    "SSH": (b"SSH-2.0-OpenSSH_9.2\r", b"\n"),
    "NUL": (b"\0", b"\0\0\0"),
    "random bytes": (b"GET\x8a", b"\x01\x02\r\n\r\n"),
    "request line ends in LF": (b"GET / HTTP/1.1\n", b"Host: a\n\n"),
    "request line ends in CR": (b"GET / HTTP/1.1\rH", b"ost: a\r\n\r\n"),
    "double space": (b"GET  ", b"/ HTTP/1.1\r\n\r\n"),
    "leading space": (b" ", b"GET / HTTP/1.1\r\n\r\n"),
    "no version": (b"GET /\r", b"\n"),
    "another protocol": (b"GET / R", b"TSP/1.0\r\n\r\n"),
    "bad target": (b"GET /# HTTP/1.1\r\n", b"Host: a\r\n\r\n"),
    "HTTP/2.0": (b"GET / HTTP/2.0\r\n", b"Host: a\r\n\r\n"),
    "a fifth empty line": (b"\r\n" * 5, b"\r\n"),
    "bare LF before": (b"\n", b"GET / HTTP/1.1\r\n"),
    "bare CR before": (b"\rG", b"ET / HTTP/1.1\r\n"),
    "field ends in LF": (b"GET / HTTP/1.1\r\nHost: a\n", b"\n"),
    "field ends in CR": (b"GET / HTTP/1.1\r\nHost: a\rB", b": c\r\n\r\n"),
    "no colon": (b"GET / HTTP/1.1\r\nHost\r", b"\n\r\n"),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost ", b": a\r\n\r\n"),
    "obs-fold": (b"GET / HTTP/1.1\r\nHost: a\r\n ", b"b\r\n\r\n"),
    "NUL in a value": (b"GET / HTTP/1.1\r\nHost: \0", b"\r\n\r\n"),
    "bad chunk size": (chunked(b"5x"), b"\r\n"),
    "17 digits of chunk size": (chunked(b"0" * 17), b"\r\n"),
    "chunk size ends in LF": (chunked(b"1\n"), b"x\r\n"),
    "chunk too long": (chunked(b"1\r\nxy"), b"\r\n"),
    "chunk ends in LF": (chunked(b"1\r\nx\n"), b"0\r\n\r\n"),
    "trailers end in LF": (chunked(b"0\r\n\n"), b"\r\n"),
    "obs-fold in the trailers": (chunked(b"0\r\nA: b\r\n "), b"c\r\n"),
    "NUL in a trailer": (chunked(b"0\r\nA: \0"), b"\r\n\r\n"),
}

# Valid as far as they go: nothing is refused, and nothing is complete.
UNFINISHED: dict[str, bytes] = {
    "nothing": b"",
    "an empty line": b"\r\n",
    "half an empty line": b"\r\n\r",
    "half a method": b"GE",
    "half a target": b"GET /a",
    "half a version": b"GET / HTTP/1.",
    "half a line break": b"GET / HTTP/1.1\r",
    "a request line": b"GET / HTTP/1.1\r\n",
    "half a field": b"GET / HTTP/1.1\r\nHo",
    "fields without their end": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "half the end of the fields": b"GET / HTTP/1.1\r\nHost: a\r\n\r",
    "half a body": post(b"Content-Length: 5", body=b"hell"),
    "no chunk": chunked(b""),
    "half a chunk size": chunked(b"5"),
    "half a chunk line": chunked(b"5\r"),
    "half an extension": chunked(b'5;a="'),
    "half a chunk": chunked(b"5\r\nhell"),
    "a chunk without its end": chunked(b"5\r\nhello"),
    "a chunk with half its end": chunked(b"5\r\nhello\r"),
    "no last chunk": chunked(b"5\r\nhello\r\n"),
    "trailers without their end": chunked(b"0\r\nA: b\r\n"),
    "trailers with half their end": chunked(b"0\r\n\r"),
    "the longest length": post(b"Content-Length: %d" % LONGEST_BODY, body=b"x"),
    "the longest chunk": chunked(b"7FFFFFFFFFFFFFFF\r\nx"),
}
