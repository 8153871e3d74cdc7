"""Splits the field lines of a head (RFC 9112 §5) into names and values, with httptools (llhttp).

llhttp gets a constant start line instead of the client's: llhttp accepts a fixed list of methods only, double spaces,
and any target. The constant line is that of a response, because in a request llhttp interprets Transfer-Encoding and
Upgrade itself, and not as the RFC says. The meaning of fields is decided in `starman.proto.heads`.
"""

from __future__ import annotations

from typing import Final

import httptools

from starman.errors import ProtocolError

# After a 304, llhttp expects no body, whatever the fields say.
_START_LINE_FOR_LLHTTP: Final = b"HTTP/1.1 304 -"


class FieldSplitter:
    """Splits one head after the other. One thread at a time.

    fields: (name, value) of the current head, in order. White space before a value is removed, white space after it
    is not.
    """

    __slots__ = ("_parser", "fields")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self._parser: httptools.HttpResponseParser | None = None

    def split_head(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        """Return the fields of a complete head. `lines`: the field lines, each after a CRLF, and the CRLFCRLF at the
        end.

        Raises ProtocolError (400). Creating llhttp's parser is half of the work, so one parser splits many heads. It
        keeps state, for example that the connection closes, and may refuse a valid next head. So a refused head is
        split once more with a new parser.
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
        """Drop llhttp's parser, so that its state does not affect another head, and the reference cycle with it is
        broken."""
        self._parser = None

    def _split_anew(self, lines: bytes) -> list[tuple[bytes, bytes]]:
        self.fields = []
        self.feed_lines(lines)
        return self.fields

    def feed_lines(self, lines: bytes) -> None:
        """Split the first or the next part of the field lines of one head. Raises ProtocolError (400): then pass no
        more."""
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
