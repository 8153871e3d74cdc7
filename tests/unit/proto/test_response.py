"""starman.proto.response: how each response is framed, and that no application can break it."""

from __future__ import annotations

from enum import Enum
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.proto.response import (
    LAST_CHUNK,
    REASONS,
    BodyFraming,
    DateLines,
    RequestFacts,
    ResponseHead,
    chunk,
    interim,
    refusal,
)
from starman.proto.response import _spellings as spellings

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
DATE_LINES = DateLines(DATE.decode(), "starman")
GET_1_1 = RequestFacts(1, False)


def finish(status: str = "200 OK", *fields: tuple[str, str], known_length: int | None = None) -> list[bytes]:
    """The lines of a head in answer to a persistent GET by 1.1."""
    data, _, _ = ResponseHead(status, fields).finish(GET_1_1, known_length, True, DATE_LINES)
    assert data.endswith(b"\r\n\r\n")
    return data[:-4].split(b"\r\n")


# BodyFraming: minor version, HEAD, status, Content-Length by the application, length known to us, wish to persist →
# framing, Content-Length sent, whether Transfer-Encoding is sent, Connection sent.


def expected_framing(
    minor: int, is_head: bool, code: int, said: int | None, known: int | None
) -> tuple[BodyFraming, int | None, bool]:
    """RFC 9112 §6.3 and RFC 9110 §8.6, as a reader would decide: framing, Content-Length, whether it ends the
    connection."""
    if code in (204, 205, 304) or is_head:
        return BodyFraming.NO_BODY, {204: None, 205: 0}.get(code, said), False
    if said is not None or known is not None:
        return BodyFraming.CONTENT_LENGTH, known if said is None else said, False
    return (BodyFraming.CHUNKED, None, False) if minor else (BodyFraming.CLOSE_DELIMITED, None, True)


@pytest.mark.parametrize("minor", [0, 1])
@pytest.mark.parametrize("is_head", [False, True])
@pytest.mark.parametrize("code", [200, 204, 205, 304, 404])
@pytest.mark.parametrize("said", [None, 0, 5])
@pytest.mark.parametrize("known", [None, 0, 7])
@pytest.mark.parametrize("persistent", [False, True])
def test_framing(minor: int, is_head: bool, code: int, said: int | None, known: int | None, persistent: bool) -> None:
    head = ResponseHead(f"{code} X", [] if said is None else [("Content-Length", str(said))])
    data, framing, kept = head.finish(RequestFacts(minor, is_head), known, persistent, DATE_LINES)
    expected, length, ends = expected_framing(minor, is_head, code, said, known)
    assert (framing, kept) == (expected, persistent and not ends)
    lines = data.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 %d X" % code
    assert [line for line in lines if line.startswith(b"Content-Length")] == (
        [] if length is None else [b"Content-Length: %d" % length]
    )
    assert (b"Transfer-Encoding: chunked" in lines) is (framing is BodyFraming.CHUNKED)
    connection = [line for line in lines if line.startswith(b"Connection")]
    assert connection == ([b"Connection: close"] if not kept else [] if minor else [b"Connection: keep-alive"])
    check_by_h11(data, framing, length, is_head)


def check_by_h11(data: bytes, framing: BodyFraming, length: int | None, is_head: bool) -> None:
    """A client frames the response as we do, and stands before the next one where we do."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="HEAD" if is_head else "GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    body = {
        BodyFraming.NO_BODY: b"",
        BodyFraming.CONTENT_LENGTH: b"b" * (length or 0),
        BodyFraming.CHUNKED: chunk(b"bcd") + chunk(b"e") + LAST_CHUNK,
        BodyFraming.CLOSE_DELIMITED: b"bcd",
    }[framing]
    client.receive_data(data + body)
    if framing is BodyFraming.CLOSE_DELIMITED:
        client.receive_data(b"")
    events = [client.next_event()]
    while not isinstance(events[-1], h11.EndOfMessage):
        assert events[-1] is not h11.NEED_DATA
        events.append(client.next_event())
    received = b"".join(bytes(event.data) for event in events if isinstance(event, h11.Data))
    assert received == {BodyFraming.CHUNKED: b"bcde"}.get(framing, body)
    assert client.trailing_data[0] == b""


@pytest.mark.parametrize("value", ["close", "Close", "x, CLOSE", "close,x", " close\t"])
def test_an_application_may_close_the_connection(value: str) -> None:
    lines = finish("200 OK", ("Connection", value), ("Content-Length", "0"))
    assert lines.count(b"Connection: close") == 1
    _, _, kept = ResponseHead("200 OK", [("Connection", value)]).finish(GET_1_1, 0, True, DATE_LINES)
    assert not kept


@pytest.mark.parametrize("value", ["keep-alive", "upgrade", "closed", "", "x"])
def test_it_can_do_nothing_else_with_it(value: str) -> None:
    assert finish("200 OK", ("Connection", value), known_length=0) == finish(known_length=0)


@pytest.mark.parametrize(
    "name", ["Connection", "Keep-Alive", "Proxy-Connection", "TE", "Trailer", "Transfer-Encoding", "Upgrade"]
)
@pytest.mark.parametrize("value", ["chunked", "identity", "x", ""])
def test_hop_by_hop_fields_are_not_passed_on(name: str, value: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        assert finish("200 OK", (spelling, value), ("Content-Length", "3")) == finish("200 OK", ("Content-Length", "3"))


def test_the_status_line() -> None:
    assert finish("200 OK")[0] == b"HTTP/1.1 200 OK"
    assert finish("404 Not  Found \x80\xff\t!")[0] == b"HTTP/1.1 404 Not  Found \x80\xff\t!"
    # RFC 9112 §4: the space stays where the reason phrase is missing.
    assert finish("299 ")[0] == b"HTTP/1.1 299 "
    assert finish("299")[0] == b"HTTP/1.1 299 "


def test_fields_keep_their_order_spelling_and_repetition() -> None:
    fields = [("Set-Cookie", "b"), ("X", ""), ("set-cookie", " a "), ("Set-Cookie", "b"), ("Y", "\xe9\t\x80")]
    assert finish("200 OK", *fields, known_length=0)[1:6] == [
        b"Set-Cookie: b", b"X: ", b"set-cookie:  a ", b"Set-Cookie: b", b"Y: \xe9\t\x80",
    ]  # fmt: skip


def test_date_and_server_of_the_application_win() -> None:
    assert finish(known_length=0)[-2:] == [b"Server: starman", b"Date: " + DATE]
    assert finish("200 OK", ("date", "x"), known_length=0)[1:] == [b"date: x", b"Content-Length: 0", b"Server: starman"]
    assert finish("200 OK", ("SERVER", "x"), known_length=0)[1:] == [b"SERVER: x", b"Content-Length: 0", b"Date: " + DATE]
    assert finish("200 OK", ("Date", "x"), ("Server", "y"), known_length=0)[1:] == [
        b"Date: x",
        b"Server: y",
        b"Content-Length: 0",
    ]


def test_no_server_field() -> None:
    data, _, _ = ResponseHead("200 OK", []).finish(GET_1_1, 0, True, DateLines(DATE.decode(), ""))
    assert data == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nDate: " + DATE + b"\r\n\r\n"


def test_a_str_subclass_is_a_str() -> None:
    class Text(str):
        __slots__ = ()

    assert finish(Text("200 OK"), (Text("A"), Text("b")), (Text("Content-Length"), Text("1"))) == finish(
        "200 OK", ("A", "b"), ("Content-Length", "1")
    )


class Names(str, Enum):  # noqa: UP042 - StrEnum would be formatted as its value, and this is not
    NAME = "X-Kind"
    JSON = "application/json"


def test_a_str_of_an_enum_is_its_value_and_not_its_name() -> None:
    lines = finish("200 OK", (Names.NAME, Names.JSON), ("Content-Length", "1"))
    assert lines == finish("200 OK", ("X-Kind", "application/json"), ("Content-Length", "1"))


@pytest.mark.parametrize("value", ["5", "0", "0005", " 5\t", "9" * 19])
def test_content_lengths(value: str) -> None:
    assert ResponseHead("200 OK", [("content-LENGTH", value)]).content_length == int(value)


# fmt: off (one value to a line would make these tables very long)
NO_LENGTHS = [
    "",
    " ",
    "-1",
    "+1",
    "1.0",
    "0x1",
    "1,1",
    "1, 1",
    "1 1",
    "a",
    "\u0665",
    "\xb2",
    "1_0",
    "9" * 20,
    "1\r\n",
    "1\0",
    "\x0b1",
]
NO_STATUSES = [
    "",
    "OK",
    "20",
    "2000 OK",
    "20x OK",
    " 200 OK",
    "200  OK\r\n",
    "200\tOK",
    "200OK",
    "100 Continue",
    "101 Switching Protocols",
    "199 X",
    "099 X",
    "200 OK\r\nA: b",
    "200 OK\n",
    "200 O\rK",
    "200 O\0K",
    "200 \x7f",
    "200 \x1b",
    "200 \u20ac",
    "\u0662\u0660\u0660 OK",
    "-200 OK",
    "+20 OK",
]
NO_NAMES = [
    "",
    "A B",
    "A:",
    ":",
    "A\r\n",
    "A\nB",
    "A\0",
    "\r\nA",
    "\xc4",
    "\u20ac",
    "A/B",
    '"A"',
    " A",
    "A ",
    "A\x7f",
]
# fmt: on


@pytest.mark.parametrize("value", NO_LENGTHS)
def test_what_is_no_content_length(value: str) -> None:
    with pytest.raises(ValueError, match="Content-Length"):
        ResponseHead("200 OK", [("Content-Length", value)])


@pytest.mark.parametrize("second", ["5", "6"])
def test_two_content_lengths(second: str) -> None:
    with pytest.raises(ValueError, match="two Content-Length"):
        ResponseHead("200 OK", [("Content-Length", "5"), ("content-length", second)])


@pytest.mark.parametrize("status", NO_STATUSES)
def test_what_is_no_status(status: str) -> None:
    with pytest.raises(ValueError, match="the status must be"):
        ResponseHead(status, [])


@pytest.mark.parametrize("status", [None, b"200 OK", 200, ["200 OK"], ("200", "OK")])
def test_a_status_of_another_type(status: Any) -> None:
    with pytest.raises(TypeError, match="the status must be a str, not"):
        ResponseHead(status, [])


# Names with values that are treated in different ways: passed on, read, dropped.
NAMES = ["X", "Content-Length", "Connection", "Transfer-Encoding", "Date", "Server"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, b"a", 5, ["a"]])
def test_a_value_of_another_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError):
        ResponseHead("200 OK", [(name, value)])


@pytest.mark.parametrize("name", [None, b"X", 5, ["X"], ("X",)])
def test_a_name_of_another_type(name: Any) -> None:
    with pytest.raises(TypeError):
        ResponseHead("200 OK", [(name, "a")])


@pytest.mark.parametrize("fields", [None, 5, [None], ["X: a"], [("X",)], [("X", "a", "b")], [5]])
def test_fields_of_another_shape(fields: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ResponseHead("200 OK", fields)


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_field_name(name: str) -> None:
    for _ in range(2):  # it is not learned either
        with pytest.raises(ValueError, match="is not a field name"):
            ResponseHead("200 OK", [(name, "a")])


@pytest.mark.parametrize("poison", ["\r", "\n", "\r\n", "\r\nA: b", "\n\n", "\0", "\r\n\r\nHTTP/1.1 200 OK"])
@pytest.mark.parametrize("value", ["{}", "a{}", "{}a", "a{}b"])
def test_a_value_cannot_break_out(poison: str, value: str) -> None:
    for name in ("X", "Date", "Server", "Set-Cookie"):
        with pytest.raises(
            ValueError, match=f"the response field {name} contains a control character: {poison[0]!r}".replace("\\", ".")
        ):
            ResponseHead("200 OK", [("A", "b"), (name, value.format(poison)), ("C", "d")])


@pytest.mark.parametrize("code", [*range(0x09), *range(0x0A, 0x20), 0x7F])
def test_no_control_character_is_in_a_value(code: int) -> None:
    """PEP 3333; RFC 9110 §5.5."""
    for value in (chr(code), f"a{chr(code)}b", f"\xe9{chr(code)}"):
        with pytest.raises(ValueError, match="the response field X contains a control character"):
            ResponseHead("200 OK", [("A", "b"), ("X", value), ("C", "d")])
        with pytest.raises(ValueError, match="control character"):
            interim(103, [("Link", value)])
    with pytest.raises(ValueError, match="the status must be"):
        ResponseHead(f"200 O{chr(code)}K", [])


def test_all_else_is_in_a_value() -> None:
    """HTAB, and obs-text: UTF-8 in latin-1's clothes has bytes from 0x80 to 0x9f."""
    value = "a\tb" + "".join(map(chr, (*range(0x20, 0x7F), *range(0x80, 0x100))))
    assert ResponseHead("200 \tO\x85K", [("X", value)]).field_lines() == b"\r\nX: " + value.encode("latin-1")


# What a 205 and a 426 need


@pytest.mark.parametrize("fields", [[], [("Content-Length", "5")]])
@pytest.mark.parametrize("is_head", [False, True])
@pytest.mark.parametrize("minor", [0, 1])
def test_a_205_has_no_content_and_says_so(fields: list[tuple[str, str]], is_head: bool, minor: int) -> None:
    """RFC 9110 §15.3.6. Unlike 204 it is not empty by itself."""
    head, framing, persistent = ResponseHead("205 Reset Content", fields).finish(
        RequestFacts(minor, is_head), 5, True, DATE_LINES
    )
    assert framing is BodyFraming.NO_BODY
    assert persistent
    assert head.count(b"Content-Length") == head.count(b"Content-Length: 0\r\n") == 1
    assert b"Transfer-Encoding" not in head


@pytest.mark.parametrize("name", ["Upgrade", "upgrade"])
def test_a_426_says_what_to_upgrade_to(name: str) -> None:
    """RFC 9110 §15.5.22, §7.8."""
    fields = [("A", "b"), (name, "TLS/1.0"), ("Connection", "Upgrade"), (name, "websocket")]
    head = ResponseHead("426 Upgrade Required", fields)
    assert head.field_lines().split(b"\r\n")[1:] == [
        b"A: b",
        b"Connection: upgrade",
        b"%b: TLS/1.0" % name.encode(),
        b"%b: websocket" % name.encode(),
    ]
    encoded, _, persistent = head.finish(RequestFacts(1, False), 0, False, DATE_LINES)
    assert encoded.count(b"\r\nConnection: ") == 2
    assert b"\r\nConnection: close\r\n" in encoded
    assert not persistent


def test_a_value_beyond_latin_1() -> None:
    with pytest.raises(ValueError, match="not latin-1: '\u20ac\u20ac'"):
        ResponseHead("200 OK", [("X", "a\u20ac\u20acb")])


REASON_PHRASES = st.text(st.characters(max_codepoint=0x200), max_size=10)
FIELDS = st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), st.text(max_size=8))


@given(REASON_PHRASES, st.lists(FIELDS, max_size=4))
def test_whatever_an_application_says_is_one_head_or_an_error(reason: str, fields: list[tuple[str, str]]) -> None:
    try:
        head = ResponseHead("200 " + reason, fields)
    except ValueError:
        return
    data, framing, _ = head.finish(GET_1_1, None, True, DATE_LINES)
    assert data.count(b"\r\n\r\n") == 1
    assert data.endswith(b"\r\n\r\n")
    assert data.count(b"\r") == data.count(b"\n") == data.count(b"\r\n")
    assert b"\0" not in data
    names = [line.partition(b":")[0].lower() for line in data[:-4].split(b"\r\n")[1:]]
    assert names.count(b"content-length") + names.count(b"transfer-encoding") == 1
    assert (b"transfer-encoding" in names) is (framing is BodyFraming.CHUNKED)


def test_an_application_cannot_make_the_table_of_spellings_large() -> None:
    for number in range(3000):
        ResponseHead("200 OK", [(f"X-{number}", "a")])
    assert len(spellings) <= 1024
    assert ResponseHead("200 OK", [("cOnTeNt-LeNgTh", "5")]).content_length == 5


def test_chunk() -> None:
    assert chunk(b"x") == b"1\r\nx\r\n"
    assert chunk(b"b" * 0x1F) == b"1f\r\n" + b"b" * 0x1F + b"\r\n"
    assert LAST_CHUNK == b"0\r\n\r\n"


@pytest.mark.parametrize("status", [400, 408, 413, 414, 417, 431, 500, 501, 503, 504, 505, 599])
def test_a_refusal_is_a_whole_response_that_ends_the_connection(status: int) -> None:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(refusal(status, "it can't \u20ac", DATE_LINES))
    response, data, end = client.next_event(), client.next_event(), client.next_event()
    assert isinstance(response, h11.Response)
    assert (response.status_code, bytes(response.reason)) == (status, REASONS.get(status, b"Error"))
    fields = dict(response.headers)
    assert fields[b"content-type"] == b"text/plain; charset=utf-8"
    assert (fields[b"connection"], fields[b"date"], fields[b"server"]) == (b"close", DATE, b"starman")
    assert isinstance(data, h11.Data)
    assert bytes(data.data).decode("utf-8") == "it can't \u20ac\n"
    assert int(fields[b"content-length"]) == len(data.data)
    assert isinstance(end, h11.EndOfMessage)
    assert client.trailing_data[0] == b""


def test_interim_responses() -> None:
    assert interim(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert interim(103, [("Link", "</a>"), ("Link", "</b>")]) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\n\r\n"


@pytest.mark.parametrize("name", ["Content-Length", "Connection", "Transfer-Encoding", "Upgrade"])
def test_an_interim_response_never_has_framing(name: str) -> None:
    """Not even an empty line more, which the next response would begin with."""
    assert interim(103, [(name, "5")]) == b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert interim(103, [(name, "5"), ("A", "b")]) == b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"


def test_an_interim_response_is_checked() -> None:
    with pytest.raises(ValueError, match="control character"):
        interim(103, [("Link", "a\r\n\r\n")])
    with pytest.raises(TypeError):
        interim(103, [("Link", b"a")])  # type: ignore[list-item]
