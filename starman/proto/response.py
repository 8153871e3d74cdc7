"""Makes response heads from an application's status and fields, and decides the body's framing (RFC 9112 §6).

An application cannot break the framing: its Content-Length is enforced, its hop-by-hop fields are dropped, and a
status or field with a line break is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum, auto
from typing import Any, Final

from starman.proto.syntax import FIELD_NAME_TEXT, STATUS


class BodyFraming(Enum):
    """How the client finds the end of a response body (RFC 9112 §6.3)."""

    NO_BODY = auto()
    CONTENT_LENGTH = auto()
    CHUNKED = auto()
    CLOSE_DELIMITED = auto()


# As globals: an attribute of an Enum class costs 0.24 µs on 3.11.
NO_BODY: Final = BodyFraming.NO_BODY
CONTENT_LENGTH: Final = BodyFraming.CONTENT_LENGTH
CHUNKED: Final = BodyFraming.CHUNKED
CLOSE_DELIMITED: Final = BodyFraming.CLOSE_DELIMITED


class _FieldRole(Enum):
    """The meaning of a response field for this module."""

    PLAIN = auto()
    CONTENT_LENGTH = auto()
    CONNECTION = auto()
    HOP_BY_HOP = auto()
    UPGRADE = auto()
    DATE = auto()
    SERVER = auto()


# As globals: an attribute of an Enum class costs 0.24 µs on 3.11.
_PLAIN_FIELD: Final = _FieldRole.PLAIN
_CONTENT_LENGTH_FIELD: Final = _FieldRole.CONTENT_LENGTH
_CONNECTION_FIELD: Final = _FieldRole.CONNECTION
_HOP_BY_HOP_FIELD: Final = _FieldRole.HOP_BY_HOP
_UPGRADE_FIELD: Final = _FieldRole.UPGRADE
_DATE_FIELD: Final = _FieldRole.DATE
_SERVER_FIELD: Final = _FieldRole.SERVER


# RFC 9110 §7.6.1: the server writes the fields that describe one connection. PEP 3333 forbids them to applications.
_ROLES: Final = {
    "content-length": _CONTENT_LENGTH_FIELD,
    "connection": _CONNECTION_FIELD,
    "keep-alive": _HOP_BY_HOP_FIELD,
    "proxy-connection": _HOP_BY_HOP_FIELD,
    "te": _HOP_BY_HOP_FIELD,
    "trailer": _HOP_BY_HOP_FIELD,
    "transfer-encoding": _HOP_BY_HOP_FIELD,
    "upgrade": _UPGRADE_FIELD,
    "date": _DATE_FIELD,
    "server": _SERVER_FIELD,
}
_MOST_SPELLINGS: Final = 1024

_UPGRADE_OPTION: Final = "Connection: upgrade"

LAST_CHUNK: Final = b"0\r\n\r\n"


# Caches: the meaning of each field name, and the code and status line of each status, as the application spells them.
# Each is validated once. Any thread, without a lock: all threads store the same value for a key.
_spellings: Final[dict[object, _FieldRole]] = {}
_statuses: Final[dict[object, tuple[int, str]]] = {}


def _learn_name(name: object) -> _FieldRole:
    if not isinstance(name, str):
        raise TypeError(f"a field name must be a str, not {type(name).__name__}")
    if FIELD_NAME_TEXT.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a field name")
    role = _ROLES.get(name.lower(), _PLAIN_FIELD)
    # Limited, so that an application cannot make the table large.
    if len(_spellings) < _MOST_SPELLINGS:
        _spellings[name] = role
    return role


def _learn_status(status: object) -> tuple[int, str]:
    if not isinstance(status, str):
        raise TypeError(f"the status must be a str, not {type(status).__name__}")
    match = STATUS.fullmatch(status)
    if match is None:
        raise ValueError(f"the status must be a final status code, a space and a reason phrase, not {status!r}")
    learned = int(match[1]), f"HTTP/1.1 {match[1]} {match[2] or ''}"
    if len(_statuses) < _MOST_SPELLINGS:
        _statuses[status] = learned
    return learned


class ResponseHead:
    """The status and fields of a response, validated and encoded; `finish` adds framing, Connection, Date and Server.

    Raises TypeError or ValueError for what breaks PEP 3333 or RFC 9110 §5.5, with a message for the author of the
    application. The annotations accept any object, because compiled code would raise its own TypeError first.
    """

    __slots__ = ("_length_line", "_text", "close", "content_length", "has_date", "has_server", "status_code")

    def __init__(self, status: object, fields: Iterable[Any]) -> None:
        """`fields` are pairs of str."""
        learned = _statuses.get(status) if isinstance(status, str) else None
        self.status_code, text = learned or _learn_status(status)
        self.content_length: int | None = None
        self._length_line = ""
        self.close = False
        self.has_date = False
        self.has_server = False
        lines = [text]
        for name, value in fields:
            role = _spellings.get(name) or _learn_name(name)
            if not isinstance(value, str):
                raise TypeError(f"the value of {name} must be a str, not {type(value).__name__}")
            if role is _PLAIN_FIELD or self._note_field(role, value, lines):
                lines.append(
                    name + ": " + value
                )  # not an f-string, which would write the name of a str that is a member of an Enum
        try:
            encoded = "".join(lines).encode("latin-1")
        except UnicodeEncodeError as error:
            raise ValueError(f"a response field is not latin-1: {error.object[error.start : error.end]!r}") from None
        if encoded.translate(_WITHOUT_CONTROLS) != encoded:  # usually the same object, without a copy or comparison
            raise ValueError(_control_character(lines))
        self._text = "\r\n".join(lines)

    def _note_field(self, role: _FieldRole, value: str, lines: list[str]) -> bool:
        """Note a field with a meaning for this module. Returns whether it is sent as the application wrote it."""
        if role is _CONTENT_LENGTH_FIELD:
            if self.content_length is not None:
                raise ValueError("there are two Content-Length fields")
            digits = value.strip(" \t")
            if not (digits.isascii() and digits.isdigit()) or len(digits) > 19:
                raise ValueError(f"the Content-Length must be a number of bytes, not {value!r}")
            self.content_length = int(digits)
            # Usually the text itself: formatting the number again would take longer than everything else here.
            self._length_line = "\r\nContent-Length: " + (digits.lstrip("0") or "0" if digits[0] == "0" else digits)
            return False
        if role is _CONNECTION_FIELD:
            self.close = self.close or "close" in [option.strip(" \t").lower() for option in value.split(",")]
            return False
        if role is _UPGRADE_FIELD and self.status_code == 426:
            # RFC 9110 §15.5.22: a 426 says in Upgrade which protocol is required. §7.8: Connection has to name
            # Upgrade too.
            if _UPGRADE_OPTION not in lines:
                lines.append(_UPGRADE_OPTION)
            return True
        self.has_date = self.has_date or role is _DATE_FIELD
        self.has_server = self.has_server or role is _SERVER_FIELD
        return role is _DATE_FIELD or role is _SERVER_FIELD

    def field_lines(self) -> bytes:
        """The fields alone, without the status line, each with the CRLF before it."""
        _, line_break, lines = self._text.partition("\r\n")
        return (line_break + lines).encode("latin-1")

    def last_value(self, name: str) -> str | None:
        """The value of the last field of this name, in lower case; None if the application has set none. For the
        access log."""
        if name == "content-length":
            return None if self.content_length is None else str(self.content_length)
        found: str | None = None
        for line in self._text.split("\r\n")[1:]:
            field, _, value = line.partition(": ")
            if field.lower() == name:
                found = value
        return found

    def finish(
        self, request: RequestFacts, known_length: int | None, persistent: bool, date_lines: DateLines
    ) -> tuple[bytes, BodyFraming, bool]:
        """Return the bytes of the head, the body's framing, and whether the connection persists (RFC 9112 §6, §9.3).

        known_length: the length of the body (bytes) for a response without Content-Length; None: unknown.
        persistent: whether client and server allow the connection to persist.
        """
        code = self.status_code
        length = self.content_length
        persistent = persistent and not self.close
        own = ""
        if code in _BODILESS or request.is_head:
            framing = NO_BODY
            if code == 205:
                own = "\r\nContent-Length: 0"  # RFC 9110 §15.3.6: a 205 has no content
            elif length is not None and code != 204:
                own = self._length_line
        else:
            if length is not None:
                framing = CONTENT_LENGTH
                own = self._length_line
            elif known_length is not None:
                framing = CONTENT_LENGTH
                own = f"\r\nContent-Length: {known_length}"
            elif request.minor:
                framing = CHUNKED
                own = "\r\nTransfer-Encoding: chunked"
            else:
                framing = CLOSE_DELIMITED
                persistent = False
        if not persistent:
            own += "\r\nConnection: close"
        elif not request.minor:
            own += "\r\nConnection: keep-alive"
        if self.has_date or self.has_server:
            end = (
                ("" if self.has_server else date_lines.server_line) + ("" if self.has_date else date_lines.date_line) + "\r\n\r\n"
            )
        else:
            end = date_lines.both_and_end
        return f"{self._text}{own}{end}".encode("latin-1"), framing, persistent


_BODILESS: Final = frozenset((204, 205, 304))

# PEP 3333 ("The start_response() Callable") forbids all control characters, RFC 9110 §5.5 all but HTAB, which may
# stand within a value. Bytes from 0x80 on are obs-text, which applications use for UTF-8. For `bytes.translate`:
# every control character becomes a space.
_WITHOUT_CONTROLS: Final = bytes(0x20 if (byte < 0x20 and byte != 0x09) or byte == 0x7F else byte for byte in range(256))


def _control_character(lines: list[str]) -> str:
    """The error message for the first control character in the field lines of a head."""
    for line in lines:
        for character in line:
            if character != "\t" and (character < " " or character == "\x7f"):
                return f"the response field {line.partition(':')[0]} contains a control character: {character!r}"
    raise AssertionError("there is none")


class RequestFacts:
    """The facts of a request that decide the framing of its response: HTTP/1 minor version, and whether the method is
    HEAD."""

    __slots__ = ("is_head", "minor")

    def __init__(self, minor: int, is_head: bool) -> None:
        self.minor = minor
        self.is_head = is_head


class DateLines:
    """The Date and Server lines of one second (RFC 9110 §6.6.1, §10.2.4), each with the CRLF before it."""

    __slots__ = ("both_and_end", "date_line", "server_line")

    def __init__(self, date: str, server: str) -> None:
        """`date` is an IMF-fixdate; `server` a product in latin-1, or "" for no Server field."""
        self.server_line = f"\r\nServer: {server}" if server else ""
        self.date_line = f"\r\nDate: {date}"
        self.both_and_end = f"{self.server_line}{self.date_line}\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """`data`, not empty, as one chunk (RFC 9112 §7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# Seconds: long enough that retries do not make a shortage worse, short enough that clients hardly notice it.
_RETRY_AFTER: Final = b"\r\nRetry-After: 5"


def refusal(status: int, message: str, date_lines: DateLines, *, to_head: bool = False) -> bytes:
    """Return a complete response that refuses a request and closes the connection. A 503 has Retry-After (RFC 9110
    §10.2.3), because the shortage ends when other requests have been answered.

    to_head: whether the request is a HEAD: its response has no content (RFC 9110 §9.3.2).
    """
    body = message.encode() + b"\n"
    return b"HTTP/1.1 %d %b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d%b\r\nConnection: close%b%b" % (
        status,
        REASONS.get(status, b"Error"),
        len(body),
        _RETRY_AFTER if status == 503 else b"",
        date_lines.both_and_end.encode("latin-1"),
        b"" if to_head else body,
    )


def interim(status: int, fields: Iterable[Any] = ()) -> bytes:
    """Return an interim response: 100 Continue or 103 Early Hints (RFC 9110 §15.2, RFC 8297). Raises as ResponseHead
    does."""
    lines = ResponseHead("200 OK", fields).field_lines() if fields else b""
    return b"HTTP/1.1 %d %b%b\r\n\r\n" % (status, REASONS[status], lines)


# The statuses that starman itself sends (RFC 9110 §15, RFC 6585 §5, RFC 8297).
REASONS: Final = {
    100: b"Continue",
    103: b"Early Hints",
    400: b"Bad Request",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    417: b"Expectation Failed",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
