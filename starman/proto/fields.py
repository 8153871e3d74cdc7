"""The field lines of a head, split by httptools (llhttp) into names and values (RFC 9112 §5).

httptools is fed the client's fields behind a constant start line: llhttp knows a fixed list of methods, forgives double spaces
and reads any target. That line is a response's, because in a request llhttp judges Transfer-Encoding and Upgrade itself, and not
as the RFC does: what fields mean, `heads` says.
"""

from __future__ import annotations

from typing import Final

import httptools

from starman.errors import ProtocolError

# 304: llhttp expects no body behind it, whatever the fields say.
_START_LINE_FOR_LLHTTP: Final = b"HTTP/1.1 304 -"


class FieldSplitter:
    """Splits heads one after the other. One thread at a time.

    fields: (name, value) in order, of the head that is being fed; white space in front of a value is gone, behind it not.
    """

    __slots__ = ("_parser", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self._parser: httptools.HttpResponseParser | None = None

    def split_head(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        """The fields of a whole head: its field lines, each with the CRLF before it, and the CRLFCRLF at its end.

        Raises ProtocolError (400). Made once, llhttp's parser takes one head after the other: to make it is half of the work.
        But it remembers, as that a connection is to be closed, and may then refuse what comes next: so its no is not final.
        """
        parser = self._parser
        fields: list[tuple[bytes, bytes]] = []
        self.fields = fields
        if parser is not None:
            try:
                parser.feed_data(_START_LINE_FOR_LLHTTP + lines)
            except httptools.HttpParserError:
                self._parser = None
            else:
                return fields
        return self._split_anew(lines)

    def drop_parser(self) -> None:
        """Let go of llhttp's parser, which leads back here: what it remembers of the last head is not to meet another."""
        self._parser = None

    def _split_anew(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        self.fields = []
        self.feed_lines(lines)
        return self.fields

    def feed_lines(self, lines: bytes) -> None:
        """The first or the next part of the field lines of one head. Raises ProtocolError (400); feed no more then."""
        parser, start = self._parser, b""
        if parser is None:
            self._parser = parser = httptools.HttpResponseParser(self)
            start = _START_LINE_FOR_LLHTTP
        try:
            parser.feed_data(start + lines)
        except httptools.HttpParserError as error:
            self._parser = None
            raise ProtocolError(400, f"a field is malformed: {error}") from None

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each field."""
        self.fields.append((name, value))
