"""Bytes of one connection in, requests out: httptools splits the fields of a head, everything it lets through is checked.

httptools is fed the client's fields behind a constant start line: llhttp knows a fixed list of methods, forgives double spaces
and reads any target. That line is a response's, because in a request llhttp judges Transfer-Encoding and Upgrade itself, and not
as the RFC does. Bodies are ours as well (`framing`), so nothing that follows a head can be taken for something else: neither an
Upgrade, nor a trailer, nor what follows `Connection: close`.
"""

from __future__ import annotations

from enum import Enum, auto

import httptools

from starman.errors import ProtocolError
from starman.proto.framing import ChunkedDecoder
from starman.proto.heads import decide, malformed_request_line, read_request_line
from starman.proto.messages import EndOfBody, Limits, RequestHead
from starman.proto.syntax import UNFINISHED_REQUEST_LINE

Event = RequestHead | bytes | EndOfBody

# 304: llhttp expects no body behind it, whatever the fields say.
_START_LINE_FOR_LLHTTP = b"HTTP/1.1 304 -"
_MOST_LEADING_LINES = 4
_LINE_BREAKS = b"\r\n"


class _Phase(Enum):
    """What the parser waits for. HEAD → BODY or CHUNKED → HEAD; every phase → CLOSED."""

    HEAD = auto()
    BODY = auto()
    CHUNKED = auto()
    CLOSED = auto()


# As globals: an attribute of an Enum class costs 0.24 µs on 3.11.
_HEAD, _BODY, _CHUNKED, _CLOSED = _Phase


class RequestParser:
    """Parses the requests of one connection, in order. One thread at a time (the loop).

    `receive` bytes, then ask for `next_event` until it answers None: a head, pieces of its body as bytes, the end of the body
    (only after a head whose `body_length` is not 0), the next head, and so on.
    """

    __slots__ = (
        "_at",
        "_body_left",
        "_buffer",
        "_chunked",
        "_fields",
        "_fields_parser",
        "_head",
        "_leading_lines",
        "_limits",
        "_phase",
        "_seen",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._phase = _HEAD
        self._buffer = b""
        self._at = 0
        self._body_left = 0
        self._chunked: ChunkedDecoder | None = None
        self._leading_lines = 0
        # Of a head that is not complete yet: its request line, its fields, and how many bytes of it were looked at.
        self._head: RequestHead | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._fields_parser: httptools.HttpResponseParser | None = None
        self._seen = 0

    def receive(self, data: bytes) -> None:
        """Take what the connection brought. After a ProtocolError, or `close`, it is thrown away."""
        if self._phase is _CLOSED:
            return
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def close(self) -> None:
        """Nothing more is read: the last head was not persistent, or a message was refused."""
        if self._phase is _CLOSED:
            return
        self._phase = _CLOSED
        self._buffer = b""
        self._at = 0
        self._head = self._fields_parser = self._chunked = None
        self._fields = []

    def pass_over(self, count: int) -> None:
        """So many bytes of the body have come another way, in front of all that `receive` brings: no event tells of them.

        Only of a body whose length is known, no more than is missing of it, and when no event is due.
        """
        self._body_left -= count

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
        return self._phase is _CLOSED or (self._phase is _HEAD and self._at == len(self._buffer))

    @property
    def closed(self) -> bool:
        """Whether nothing more is read: see `close`."""
        return self._phase is _CLOSED

    def next_event(self) -> Event | None:
        """The next head, piece of a body or end of a body; None when more bytes are needed.

        Raises ProtocolError, with the status to answer, for a malformed message or one beyond a limit; the parser is then closed.
        """
        try:
            if self._phase is _HEAD:
                return self._next_head() if self._at < len(self._buffer) else None
            if self._phase is _BODY:
                return self._next_of_body()
            if self._phase is _CHUNKED:
                return self._next_of_chunked()
        except ProtocolError as error:
            error.to_head = self._phase is _HEAD and self._buffer.startswith(b"HEAD ", self._at)
            self.close()
            raise
        return None

    # Bodies

    def _next_of_body(self) -> Event | None:
        if not self._body_left:
            self._phase = _HEAD
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
            self._phase = _HEAD
            return EndOfBody(trailers)
        return data or None

    # Heads

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each field of a head. White space in front of the value is gone, behind it not."""
        self._fields.append((name, value))

    def _next_head(self) -> RequestHead | None:
        buffer, at = self._buffer, self._at
        if buffer[at] in _LINE_BREAKS:
            if not self._skip_leading_lines():
                return None
            at = self._at
        seen = self._seen
        end = buffer.find(b"\r\n\r\n", at + seen - 3 if seen > 3 else at) + 4
        if end < 4:
            self._read_unfinished_head()
            return None
        head, unfed = self._head, at + seen
        if head is None:
            unfed = buffer.find(b"\r\n", at)
            if unfed - at > self._limits.line_bytes:
                self._check_line_length(buffer[at:unfed])
            head = read_request_line(buffer, at, unfed)
        if end - at > self._limits.unmeasured_bytes:
            self._check_sizes(buffer.find(b"\r\n", at) + 2, end)
        self._feed(buffer[unfed:end])
        head.fields = self._fields
        if buffer.find(b" \r\n", at, end) >= 0 or buffer.find(b"\t\r\n", at, end) >= 0:
            head.fields = [(name, value.rstrip(b"\t ")) for name, value in head.fields]
        decide(head)
        if head.body_length != 0:
            self._begin_body(head.body_length)
        self._at = end
        self._seen = self._leading_lines = 0
        self._head = self._fields_parser = None
        self._fields = []
        return head

    def _begin_body(self, length: int | None) -> None:
        if length is None:
            self._chunked = ChunkedDecoder(self._limits)
            self._phase = _CHUNKED
            return
        if 0 < self._limits.body_bytes < length:
            raise ProtocolError(413, "the body is longer than max_body")
        self._body_left = length
        self._phase = _BODY

    def _skip_leading_lines(self) -> bool:
        """Pass over empty lines before a request (RFC 9112 §2.2: at least one; here four). Whether its first byte is there."""
        buffer, at = self._buffer, self._at
        while buffer.startswith(b"\r\n", at):
            self._leading_lines += 1
            at += 2
        self._at = at
        following = buffer[at : at + 2]
        if self._leading_lines > _MOST_LEADING_LINES or (following != b"\r" and following.startswith((b"\r", b"\n"))):
            raise ProtocolError(400, "bare line breaks or too many empty lines before the request")
        return following not in (b"", b"\r")

    def _read_unfinished_head(self) -> None:
        """Read what there is of a head, to refuse at once what no further byte can mend, and what grows without an end."""
        buffer, at = self._buffer, self._at
        unfed = at + self._seen
        if self._head is None:
            unfed = buffer.find(b"\r\n", at)
            if unfed >= 0:
                self._check_line_length(buffer[at:unfed])
                self._head = read_request_line(buffer, at, unfed)
        self._seen = len(buffer) - at
        if self._head is None:
            line = buffer[at:]
            self._check_line_length(line)
            if UNFINISHED_REQUEST_LINE.fullmatch(line) is None:
                raise malformed_request_line(line)
            return
        self._check_sizes(buffer.rfind(b"\n", at, unfed + 2) + 1, len(buffer))
        self._feed(buffer[unfed:])

    def _check_line_length(self, line: bytes) -> None:
        """`line` may be unfinished. What is wrong with its beginning is said before its length is."""
        limit = self._limits.line_bytes
        if len(line) <= limit or (len(line) == limit + 1 and line.endswith(b"\r")):
            return
        if UNFINISHED_REQUEST_LINE.fullmatch(line, 0, limit) is None:
            raise malformed_request_line(line)
        if b" " not in line[:limit]:
            raise ProtocolError(400, "the method is too long")
        raise ProtocolError(414, "the request line is longer than limit_request_line")

    def _check_sizes(self, fields_at: int, end: int) -> None:
        """The size of the head, which ends at `end` or has come so far, and of those of its fields that begin at `fields_at`."""
        if end - self._at > self._limits.head_bytes:
            raise ProtocolError(431, "the request head is longer than limit_request_head")
        lines = self._buffer[fields_at:end].removesuffix(b"\r").split(b"\r\n")
        if any(len(line) > self._limits.field_bytes for line in lines):
            raise ProtocolError(431, "a field is longer than limit_request_field_size")

    def _feed(self, fields: bytes) -> None:
        """Give httptools the field lines, or the next part of them, each with the CRLF before it."""
        try:
            if self._fields_parser is None:
                self._fields_parser = httptools.HttpResponseParser(self)
                fields = _START_LINE_FOR_LLHTTP + fields
            self._fields_parser.feed_data(fields)
        except httptools.HttpParserError as error:
            raise ProtocolError(400, f"a field is malformed: {error}") from None
        if len(self._fields) > self._limits.fields:
            raise ProtocolError(431, "there are more fields than limit_request_fields")
