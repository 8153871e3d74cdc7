"""Interprets a request's head: request line, target, Host, body length, persistence, Expect (RFC 9112 §3, §6, §9.3).

Stateless. `starman.proto.request` collects the head, and enforces the limits. What httptools concludes from the same
fields is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starman.errors import ProtocolError
from starman.proto.events import LONGEST_BODY, RequestHead
from starman.proto.syntax import (
    ABSOLUTE_TARGET,
    ANY_REQUEST_LINE,
    CONTENT_LENGTH,
    HOST,
    ORIGIN_REQUEST_LINE,
    TRANSFER_CODING,
    tokens,
)

_HOST: Final = b"host"
_NOTHING: Final = b""
_RELEVANT: Final = {name: name for name in (_HOST, b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade")}
_MOST_SPELLINGS: Final = 1024
_LONGEST_SPELLING: Final = 64
# The usual values of Connection, compared without parsing.
_KEEP_ALIVE: Final = [b"keep-alive"]
_CLOSE: Final = [b"close"]


# Maps a field name as received to its key in _RELEVANT or in `_noted_names`, or to b"" if the field is not relevant
# here. The values are the very objects of _RELEVANT, so that they can be compared with `is`. Each spelling is added
# once. One thread at a time, as the parser.
_spellings: Final[dict[bytes, bytes]] = {}
_noted_names: Final[set[bytes]] = set()
ANY_UNDERSCORE: Final = b"_"


def note_fields(names: Iterable[bytes]) -> None:
    """From now on, collect the fields of these names (in lower case) in `RequestHead.noted`. ANY_UNDERSCORE stands for
    every name with "_". Fields that are interpreted here cannot be noted. Not while another thread parses."""
    new = set(names) - _noted_names
    if new:
        _noted_names.update(new)
        _spellings.clear()


def _classify_name(name: bytes) -> bytes:
    lower = name.lower()
    relevant = _RELEVANT.get(lower, _NOTHING)
    if not relevant and (lower in _noted_names or (b"_" in lower and ANY_UNDERSCORE in _noted_names)):
        relevant = lower
    # Limited, so that clients cannot make the table large.
    if len(_spellings) < _MOST_SPELLINGS and len(name) <= _LONGEST_SPELLING:
        _spellings[name] = relevant
    return relevant


# Values of Host that were found valid, because a server gets the same few again and again. Limited like the spellings.
# One thread at a time. An empty Host is valid: clients send it when the target URI has no authority (RFC 9112 §3.2).
_valid_hosts: Final[set[bytes]] = {b""}


def read_request_line(buffer: bytes, at: int, end: int) -> RequestHead:
    """Return a new head with what the request line says. The line is buffer[at:end], and its CRLF follows.

    Raises ProtocolError: 400, 501 (CONNECT), 505.
    """
    match = ORIGIN_REQUEST_LINE.match(buffer, at)
    if match is None:
        return _read_other_line(buffer[at:end])
    head = RequestHead()
    head.method, head.target, head.path, head.query, head.version, minor = match.groups(b"")
    head.host = None
    head.minor = 0 if minor == b"0" else 1
    if head.method == b"CONNECT":
        raise ProtocolError(501, "CONNECT is not implemented")
    return head


def _read_other_line(line: bytes) -> RequestHead:
    """As `read_request_line`, for targets that are not in origin-form, and for malformed lines."""
    match = ANY_REQUEST_LINE.fullmatch(line)
    if match is None:
        raise malformed_request_line(line)
    head = RequestHead()
    head.method, head.target, head.version, major, minor = match.groups()
    if line == b"PRI * HTTP/2.0":  # RFC 9113 §3.4
        raise ProtocolError(400, "an HTTP/2 connection preface, but only HTTP/1.1 is supported")
    if major != b"1":
        raise ProtocolError(505, "only HTTP/1.x is supported")
    head.minor = 0 if minor == b"0" else 1
    if head.method == b"CONNECT":
        raise ProtocolError(501, "CONNECT is not implemented")
    if b"#" in head.target:  # RFC 9110 §7.1: a client does not send the fragment
        raise ProtocolError(400, "the request target contains a #, which must be sent as %23")
    _read_other_target(head)
    return head


def malformed_request_line(line: bytes) -> ProtocolError:
    """The error for a malformed request line, complete or not."""
    if line.startswith(b"\x16\x03"):  # RFC 8446 §5.1: a handshake record
        return ProtocolError(400, "a TLS handshake, but this port expects plain HTTP")
    return ProtocolError(400, "the request line is malformed")


def _read_other_target(head: RequestHead) -> None:
    """Asterisk-form and absolute-form (RFC 9112 §3.2.2, §3.2.4)."""
    if head.target == b"*":
        if head.method != b"OPTIONS":
            raise ProtocolError(400, "the target * is valid for OPTIONS only")
        head.host, head.path, head.query = None, b"", b""
        return
    match = ABSOLUTE_TARGET.fullmatch(head.target)
    if match is None:
        raise ProtocolError(400, "the request target is malformed")
    head.host, path, head.query = match.groups(b"")
    head.path = path or b"/"


def interpret_fields(head: RequestHead) -> None:
    """Set the attributes of `head` that its fields decide; `noted` also if it raises ProtocolError: 400, 417, 501."""
    host: bytes | None = None
    noted: dict[bytes, list[bytes]] | None = None
    others: dict[bytes, list[bytes]] = {}
    for name, value in head.fields:
        relevant = _spellings.get(name)
        if relevant is None:
            relevant = _classify_name(name)
        if relevant is _HOST and host is None:
            host = value
        elif not relevant:
            continue
        elif relevant in _RELEVANT:
            others.setdefault(relevant, []).append(value)
        else:
            if noted is None:
                noted = {}
            noted.setdefault(relevant, []).append(value)
    head.noted = noted
    if host not in _valid_hosts or others:
        _check_host(head, host, _HOST in others)
    # RFC 9112 §3.2.2: the host of an absolute-form target replaces Host.
    if head.host is None:
        head.host = host
    head.persistent = head.minor == 1
    head.upgrade = False
    head.body_length = 0
    head.expects_continue = False
    if others:
        _interpret_other_fields(head, others)


def _check_host(head: RequestHead, host: bytes | None, repeated: bool) -> None:
    """RFC 9112 §3.2: exactly one Host, valid or empty, also with an absolute-form target. HTTP/1.0 requests may have
    none."""
    if host is None:
        if head.minor:
            raise ProtocolError(400, "the Host field is missing")
        return
    if repeated:
        raise ProtocolError(400, "there is more than one Host field")
    if host not in _valid_hosts:
        if HOST.fullmatch(host) is None:
            raise ProtocolError(400, "the Host field is not a valid host")
        if len(_valid_hosts) < _MOST_SPELLINGS and len(host) <= _LONGEST_SPELLING:
            _valid_hosts.add(host)


def _interpret_other_fields(head: RequestHead, found: dict[bytes, list[bytes]]) -> None:
    """Interpret the fields other than Host. `found`: their values by name in lower case."""
    connection = found.get(b"connection")
    if connection in (_KEEP_ALIVE, _CLOSE):
        head.persistent = connection == _KEEP_ALIVE
    elif connection is not None:
        options = tokens(connection)
        if options is None:
            raise ProtocolError(400, "too many options in Connection")
        head.persistent = b"close" not in options and (head.minor == 1 or b"keep-alive" in options)
        head.upgrade = b"upgrade" in found and b"upgrade" in options and head.minor == 1
    lengths = found.get(b"content-length")
    if b"transfer-encoding" in found:
        _check_codings(found[b"transfer-encoding"], head.minor, lengths is not None)
        head.body_length = None
    elif lengths is not None:
        head.body_length = _read_content_length(lengths)
    if b"expect" in found:
        head.expects_continue = _expects_continue(head, found[b"expect"])


def _read_content_length(values: list[bytes]) -> int:
    """The Content-Length. RFC 9112 §6.3 allows a list of equal lengths to be accepted; it is refused here."""
    if len(values) > 1 or CONTENT_LENGTH.fullmatch(values[0]) is None:
        raise ProtocolError(400, "the Content-Length is malformed")
    digits = values[0].lstrip(b"0") or b"0"
    if len(digits) > 19 or int(digits) > LONGEST_BODY:
        raise ProtocolError(400, "the Content-Length is too large")
    return int(digits)


def _check_codings(values: list[bytes], minor: int, has_length: bool) -> None:
    """RFC 9112 §6.1: chunked must be the last coding, once. No other coding is supported."""
    if has_length:
        raise ProtocolError(400, "both Transfer-Encoding and Content-Length")
    if not minor:
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    codings = tokens(values)
    if codings is None or any(TRANSFER_CODING.fullmatch(coding) is None for coding in codings):
        raise ProtocolError(400, "the Transfer-Encoding is malformed")
    if codings[-1] != b"chunked" or codings.count(b"chunked") != 1:
        raise ProtocolError(400, "chunked must be the last transfer coding and must appear once")
    if len(codings) > 1:
        raise ProtocolError(501, "a transfer coding other than chunked is not supported")


def _expects_continue(head: RequestHead, values: list[bytes]) -> bool:
    """RFC 9110 §10.1.1: any expectation but 100-continue is refused. An HTTP/1.0 client's 100-continue is ignored."""
    expectations = tokens(values)
    if expectations is None or any(expectation not in (b"100-continue", b"") for expectation in expectations):
        raise ProtocolError(417, "only the expectation 100-continue can be met")
    return b"100-continue" in expectations and head.minor == 1 and head.body_length != 0
