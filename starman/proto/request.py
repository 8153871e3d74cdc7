"""Bytes of one connection in, requests out: httptools reads the fields of a head, everything it lets through is checked here.

The request line is ours alone (llhttp knows a fixed list of methods, forgives double spaces and reads any target): httptools is
fed a constant one with the client's fields behind it. Bodies are ours as well (`framing`), so nothing that follows a head can be
taken for something else: neither an Upgrade, nor a trailer, nor what follows `Connection: close`.
"""

from __future__ import annotations

from enum import Enum, auto

import httptools

from starman.errors import ProtocolError
from starman.proto.framing import ChunkedDecoder
from starman.proto.messages import EndOfBody, Limits, RequestHead
from starman.proto.syntax import (
    ABSOLUTE_TARGET,
    ANY_REQUEST_LINE,
    HOST,
    ORIGIN_REQUEST_LINE,
    TOKEN,
    UNFINISHED_REQUEST_LINE,
    tokens,
)

Event = RequestHead | bytes | EndOfBody

_REQUEST_LINE_FOR_LLHTTP = b"POST / HTTP/1.1"
_MOST_LEADING_LINES = 4

# The fields that decide about framing and persistence, in lower case. Names come in few spellings: each is looked up once.
_DECISIVE = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"))
_MOST_SPELLINGS = 1024


class _Phase(Enum):
    """What the parser waits for. HEAD → BODY or CHUNKED → HEAD; every phase → CLOSED."""

    HEAD = auto()
    BODY = auto()
    CHUNKED = auto()
    CLOSED = auto()


class RequestParser:
    """Parses the requests of one connection, in order. One thread at a time (the loop).

    `receive` bytes, then ask for `next_event` until it answers None: a head, pieces of its body as bytes, the end of the body (only
    after a head whose `body_length` is not 0), the next head, and so on.
    """

    __slots__ = (
        "_at",
        "_body_left",
        "_buffer",
        "_chunked",
        "_fed",
        "_fields",
        "_heads_parser",
        "_leading_lines",
        "_limits",
        "_line_checked",
        "_phase",
        "_scanned",
    )

    _spellings: dict[bytes, bytes] = {}

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._phase = _Phase.HEAD
        self._buffer = b""
        self._at = 0
        self._scanned = 0
        self._fed = 0
        self._leading_lines = 0
        self._line_checked = False
        self._heads_parser: httptools.HttpRequestParser | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._chunked: ChunkedDecoder | None = None
        self._body_left = 0

    def receive(self, data: bytes) -> None:
        """Take what the connection brought. After a ProtocolError, or `close`, it is thrown away."""
        if self._phase is _Phase.CLOSED:
            return
        if self._at < len(self._buffer):
            self._buffer = self._buffer[self._at :] + data
            self._scanned = max(0, self._scanned - self._at)
            self._fed = max(0, self._fed - self._at)
        else:
            self._buffer = data
            self._scanned = 0
            self._fed = 0
        self._at = 0

    def close(self) -> None:
        """Nothing more is read: the last head was not persistent, or a message was refused."""
        self._phase = _Phase.CLOSED
        self._buffer = b""
        self._at = 0

    def take_unread(self) -> bytes:
        """Give back what was received and not read, for another protocol to read; nothing more is read here."""
        unread = self._buffer[self._at :]
        self.close()
        return unread

    @property
    def unread_bytes(self) -> int:
        """How many received bytes no event has accounted for yet."""
        return len(self._buffer) - self._at

    @property
    def at_start(self) -> bool:
        """Whether the peer is between messages: nothing of the next one has come."""
        return self._phase is _Phase.CLOSED or (self._phase is _Phase.HEAD and self._at == len(self._buffer))

    @property
    def in_body(self) -> bool:
        """Whether a head has been reported whose body is not complete yet."""
        return self._phase is _Phase.BODY or self._phase is _Phase.CHUNKED

    def next_event(self) -> Event | None:
        """The next head, piece of a body or end of a body; None when more bytes are needed.

        Raises ProtocolError, with the status to answer, when the message is malformed or passes a limit; the parser is closed then.
        """
        try:
            if self._phase is _Phase.HEAD:
                return self._next_head()
            if self._phase is _Phase.BODY:
                return self._next_of_body()
            if self._phase is _Phase.CHUNKED:
                return self._next_of_chunked()
        except ProtocolError:
            self.close()
            raise
        return None

    # Bodies

    def _next_of_body(self) -> Event | None:
        if not self._body_left:
            self._phase = _Phase.HEAD
            return EndOfBody([])
        at = self._at
        data = self._buffer[at : at + self._body_left] if at or len(self._buffer) > self._body_left else self._buffer
        if not data:
            return None
        self._at = at + len(data)
        self._body_left -= len(data)
        return data

    def _next_of_chunked(self) -> Event | None:
        assert self._chunked is not None
        data, self._at, complete = self._chunked.decode(self._buffer, self._at)
        if complete:
            trailers = self._chunked.trailers
            self._chunked = None
            self._phase = _Phase.HEAD
            return EndOfBody(trailers)
        return data or None

    # Heads

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each field of a head."""
        self._fields.append((name, value))

    def _next_head(self) -> RequestHead | None:
        buffer = self._buffer
        at = self._at
        if buffer.startswith((b"\r", b"\n"), at):
            at = self._skip_leading_lines()
        if at == len(buffer):
            return None
        end = buffer.find(b"\r\n\r\n", max(at, self._scanned - 3))
        if end < 0:
            self._scanned = len(buffer)
            self._check_unfinished_head()
            return None
        end += 4
        if end - at > self._limits.head_bytes:
            self._check_line_length(buffer[at : buffer.find(b"\r\n", at)])
            raise ProtocolError(431, "the request head is longer than limit_request_head")
        match = ORIGIN_REQUEST_LINE.match(buffer, at, end)
        head = RequestHead()
        if match is not None:
            head.method, head.target, head.path, head.query, head.version, minor = match.groups(b"")
            head.host = None
            head.minor = 1 if minor != b"0" else 0
            line_end = match.end() - 2
            if head.method == b"CONNECT":
                raise ProtocolError(501, "CONNECT is not implemented")
        else:
            line_end = buffer.find(b"\r\n", at)
            self._unusual_request_line(buffer[at:line_end], head)
        if line_end - at > self._limits.line_bytes:
            raise ProtocolError(414, "the request line is longer than limit_request_line")
        self._feed(buffer[max(line_end, self._fed) : end])
        if end - at > self._limits.field_bytes:
            self._check_field_sizes(buffer[line_end + 2 : end - 4])
        self._at = end
        self._heads_parser = None
        self._line_checked = False
        self._leading_lines = 0
        head.fields = self._fields
        self._fields = []
        self._decide(head)
        return head

    def _feed(self, fields: bytes) -> None:
        """Give httptools the field lines, or the next part of them, each with the CRLF before it."""
        try:
            if self._heads_parser is None:
                self._heads_parser = httptools.HttpRequestParser(self)
                fields = _REQUEST_LINE_FOR_LLHTTP + fields
            self._heads_parser.feed_data(fields)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            raise ProtocolError(400, f"a field is malformed: {error}") from None
        if len(self._fields) > self._limits.fields:
            raise ProtocolError(431, "there are more fields than limit_request_fields")

    def _skip_leading_lines(self) -> int:
        """Pass over empty lines before a request (RFC 9112 §2.2: at least one; here four)."""
        buffer = self._buffer
        at = self._at
        while buffer.startswith(b"\r\n", at):
            self._leading_lines += 1
            at += 2
        self._at = at
        begin = buffer[at : at + 2]
        if self._leading_lines > _MOST_LEADING_LINES or begin[:1] == b"\n" or (begin[:1] == b"\r" and len(begin) > 1):
            raise ProtocolError(400, "bare line breaks or too many empty lines before the request")
        return len(buffer) if begin == b"\r" else at

    def _check_unfinished_head(self) -> None:
        """Refuse what no further byte can mend, and what grows without an end; feed httptools what there is."""
        buffer, at, limits = self._buffer, self._at, self._limits
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            self._check_line_length(buffer[at:])
            if UNFINISHED_REQUEST_LINE.fullmatch(buffer, at) is None:
                raise ProtocolError(400, "the request line is malformed")
            return
        if not self._line_checked:
            line = buffer[at:line_end]
            self._check_line_length(line)
            if ORIGIN_REQUEST_LINE.match(buffer, at) is None:
                self._unusual_request_line(line, RequestHead())
            self._line_checked = True
            self._fed = line_end
        if len(buffer) - at > limits.head_bytes:
            raise ProtocolError(431, "the request head is longer than limit_request_head")
        if len(buffer) - buffer.rfind(b"\n") - 1 > limits.field_bytes:
            raise ProtocolError(431, "a field is longer than limit_request_field_size")
        self._feed(buffer[self._fed :])
        self._fed = len(buffer)

    def _check_line_length(self, line: bytes) -> None:
        if len(line) > self._limits.line_bytes:
            if b" " not in line[: self._limits.line_bytes]:
                raise ProtocolError(400, "the method is too long")
            raise ProtocolError(414, "the request line is longer than limit_request_line")

    def _check_field_sizes(self, lines: bytes) -> None:
        if any(len(line) > self._limits.field_bytes for line in lines.split(b"\r\n")):
            raise ProtocolError(431, "a field is longer than limit_request_field_size")

    def _unusual_request_line(self, line: bytes, head: RequestHead) -> None:
        """A request line that is not in origin-form: one of the other forms, or what is wrong with it (RFC 9112 §3.2)."""
        self._check_line_length(line)
        match = ANY_REQUEST_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "the request line is malformed")
        method, target, version, major, minor = match.groups()
        if major != b"1":
            raise ProtocolError(505, "only HTTP/1.x is spoken here")
        if method == b"CONNECT":
            raise ProtocolError(501, "CONNECT is not implemented")
        head.method, head.target, head.version = method, target, version
        head.minor = 1 if minor != b"0" else 0
        if target == b"*":
            if method != b"OPTIONS":
                raise ProtocolError(400, "the target * is for OPTIONS only")
            head.host, head.path, head.query = None, b"", b""
            return
        absolute = ABSOLUTE_TARGET.fullmatch(target)
        if absolute is None:
            raise ProtocolError(400, "the request target is malformed")
        head.host, path, query = absolute.groups(b"")
        if not _port_is_valid(head.host):
            raise ProtocolError(400, "the request target is malformed")
        head.path = path or b"/"
        head.query = query

    def _decide(self, head: RequestHead) -> None:
        """Framing and persistence, from the fields (RFC 9112 §6.3, §9.3). One pass; fields keep their order."""
        hosts: list[bytes] = []
        lengths: list[bytes] = []
        codings: list[bytes] = []
        connection: list[bytes] = []
        expectations: list[bytes] = []
        head.upgrade = False
        fields = head.fields
        spellings = self._spellings
        for index, (name, value) in enumerate(fields):
            if value[-1:] in b"\t ":
                value = value.rstrip(b"\t ")
                fields[index] = (name, value)
            known = spellings.get(name)
            if known is None:
                known = _learn(name, spellings)
            if not known:
                continue
            if known == b"host":
                hosts.append(value)
            elif known == b"connection":
                connection.append(value)
            elif known == b"content-length":
                lengths.append(value)
            elif known == b"transfer-encoding":
                codings.append(value)
            elif known == b"expect":
                expectations.append(value)
            else:
                head.upgrade = True
        if len(hosts) == 1:
            host = hosts[0]
            if HOST.fullmatch(host) is None or not _port_is_valid(host):
                raise ProtocolError(400, "the Host field is not a valid host")
            if head.host is None:
                head.host = host
        elif hosts:
            raise ProtocolError(400, "there is more than one Host field")
        elif head.minor:
            raise ProtocolError(400, "the Host field is missing")
        head.persistent = head.minor == 1
        if connection:
            options = tokens(connection)
            head.persistent = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
            head.upgrade = head.upgrade and b"upgrade" in options and head.minor == 1
        else:
            head.upgrade = False
        head.body_length = 0
        head.expects_continue = False
        if codings:
            self._chunked = ChunkedDecoder(self._limits)
            _check_codings(tokens(codings), head.minor, bool(lengths))
            head.body_length = None
            self._phase = _Phase.CHUNKED
        elif lengths:
            head.body_length = self._body_left = _length(lengths)
            if 0 < self._limits.body_bytes < self._body_left:
                raise ProtocolError(413, "the body is longer than max_body")
            if self._body_left:
                self._phase = _Phase.BODY
        if expectations:
            self._expect(tokens(expectations), head)

    def _expect(self, expectations: list[bytes], head: RequestHead) -> None:
        """RFC 9110 §10.1.1: an expectation other than 100-continue cannot be met; a 1.0 client's is ignored."""
        if any(expectation != b"100-continue" for expectation in expectations):
            raise ProtocolError(417, "only the expectation 100-continue can be met")
        head.expects_continue = head.minor == 1 and head.body_length != 0


def _learn(name: bytes, spellings: dict[bytes, bytes]) -> bytes:
    """Which decisive field this spelling is, or b"". The table stops growing before a client can make it large."""
    lower = name.lower()
    if lower not in _DECISIVE:
        lower = b""
    if len(spellings) < _MOST_SPELLINGS and len(name) <= 64:
        spellings[name] = lower
    return lower


def _length(values: list[bytes]) -> int:
    """RFC 9112 §6.2: Content-Length = 1*DIGIT. Once only: a list of equal ones may be accepted, and is not, as llhttp has it."""
    if len(values) != 1 or not values[0].isdigit():
        raise ProtocolError(400, "the Content-Length is malformed")
    digits = values[0].lstrip(b"0") or b"0"
    if len(digits) > 19:
        raise ProtocolError(400, "the Content-Length is too large")
    length = int(digits)
    if length >= 1 << 63:
        raise ProtocolError(400, "the Content-Length is too large")
    return length


def _check_codings(codings: list[bytes], minor: int, has_length: bool) -> None:
    """RFC 9112 §6.1: chunked is the last coding, once, and the only one we know."""
    if has_length:
        raise ProtocolError(400, "both Transfer-Encoding and Content-Length")
    if not minor:
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    if any(TOKEN.fullmatch(coding) is None for coding in codings):
        raise ProtocolError(400, "the Transfer-Encoding is malformed")
    if codings[-1] != b"chunked" or codings.count(b"chunked") != 1:
        raise ProtocolError(400, "chunked is not the last Transfer-Encoding, once")
    if len(codings) > 1:
        raise ProtocolError(501, "a transfer coding other than chunked")


def _port_is_valid(host: bytes) -> bool:
    """Whether what follows the last colon is no port above 65535. `host` matches HOST."""
    port = host.rpartition(b":")[2]
    return b"]" in port or not port.isdigit() or b":" not in host or int(port) <= 65535
