"""Where a chunked body ends, and what is in it (RFC 9112 §7.1), by a strict line grammar.

llhttp's own chunked decoder accepts extensions without names, any length of them, and merges trailers into the fields;
so heads are its business, and bodies are ours.
"""

from __future__ import annotations

from enum import Enum, auto

from starman.errors import ProtocolError
from starman.proto.messages import Limits
from starman.proto.syntax import CHUNK_LINE, FIELD_LINE, UNFINISHED_CHUNK_LINE


class _Expect(Enum):
    """What the next byte belongs to."""

    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class ChunkedDecoder:
    """Decodes one chunked body. Feed it a buffer and a position; it never looks behind the end of the body.

    `trailers` is complete once `decode` has said that the body is.
    """

    __slots__ = ("_body_left", "_expect", "_extra_left", "_left", "_limited", "trailers")

    def __init__(self, limits: Limits) -> None:
        self._expect = _Expect.SIZE
        self._left = 0
        self._limited = limits.body_bytes > 0
        self._body_left = limits.body_bytes
        self._extra_left = limits.extra_bytes
        self.trailers: list[tuple[bytes, bytes]] = []

    def decode(self, buffer: bytes, at: int) -> tuple[bytes, int, bool]:
        """Decode from `buffer[at:]` up to the end of one piece of data.

        Returns (data, the position behind what was used, whether the body is complete). Without data and without an end,
        more bytes are needed: feed what was not used again, with more behind it.
        Raises ProtocolError: 400 for bad syntax, 413 when the body passes its limit, 431 for too many trailers.
        """
        while True:
            if self._expect is _Expect.DATA:
                data = buffer[at : at + self._left]
                at += len(data)
                self._left -= len(data)
                if not self._left:
                    self._expect = _Expect.DATA_END
                return data, at, False
            if self._expect is _Expect.DATA_END:
                end = buffer[at : at + 2]
                if not b"\r\n".startswith(end):
                    raise ProtocolError(400, "a chunk is longer than its size")
                if len(end) < 2:
                    return b"", at, False
                at += 2
                self._expect = _Expect.SIZE
            end_of_line = buffer.find(b"\r\n", at)
            if end_of_line < 0:
                self._check_unfinished(buffer, at)
                return b"", at, False
            if self._expect is _Expect.SIZE:
                self._size(buffer[at:end_of_line])
            elif end_of_line == at:
                self._expect = _Expect.NOTHING
                return b"", at + 2, True
            else:
                self._trailer(buffer[at:end_of_line])
            at = end_of_line + 2
            if self._expect is _Expect.DATA and at == len(buffer):
                return b"", at, False

    def _size(self, line: bytes) -> None:
        match = CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "a chunk size or extension is malformed")
        self._spend(len(line) - len(match[1]), 400, "the chunk extensions are too long")
        size = int(match[1], 16)
        if self._limited:
            self._body_left -= size
            if self._body_left < 0:
                raise ProtocolError(413, "the body is longer than max_body")
        self._left = size
        self._expect = _Expect.DATA if size else _Expect.TRAILER

    def _trailer(self, line: bytes) -> None:
        match = FIELD_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, "a trailer field is malformed")
        self._spend(len(line), 431, "the trailers are too long")
        self.trailers.append((match[1], match[2].rstrip(b"\t ")))

    def _check_unfinished(self, buffer: bytes, at: int) -> None:
        """Refuse what no further byte can mend, and what grows without an end."""
        line = buffer[at:]
        if self._expect is _Expect.SIZE:
            if UNFINISHED_CHUNK_LINE.fullmatch(line) is None:
                raise ProtocolError(400, "a chunk size or extension is malformed")
            if len(line) > self._extra_left + 16:
                raise ProtocolError(400, "the chunk extensions are too long")
        else:
            if b"\n" in line or b"\r" in line[:-1]:
                raise ProtocolError(400, "a trailer field is malformed")
            if len(line) > self._extra_left:
                raise ProtocolError(431, "the trailers are too long")

    def _spend(self, extra_bytes: int, status: int, message: str) -> None:
        self._extra_left -= extra_bytes
        if self._extra_left < 0:
            raise ProtocolError(status, message)
