"""starman.proto.heads.note_fields: which fields are collected in RequestHead.noted."""

from __future__ import annotations

from starman.proto.events import Limits, RequestHead
from starman.proto.heads import ANY_UNDERSCORE, note_fields
from starman.proto.request import RequestParser


def noted(*lines: bytes) -> dict[bytes, list[bytes]] | None:
    parser = RequestParser(Limits())
    parser.receive_data(b"\r\n".join([b"GET / HTTP/1.1", b"Host: a", *lines, b"", b""]))
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    return head.noted


def test_fields_that_nothing_reads_are_not_noted() -> None:
    assert noted() is None
    assert noted(b"X-Not-Noted: a", b"Cookie: b") is None


def test_all_lines_of_all_spellings_are_noted_from_now_on() -> None:
    lines = (b"X-Test-Noted: a", b"x-test-NOTED:  b ", b"X-Test-Noted:")
    assert noted(*lines) is None  # these spellings are classified now
    note_fields([b"x-test-noted"])
    assert noted(*lines, b"X-Test-Noted-Too: c") == {b"x-test-noted": [b"a", b"b", b""]}
    long = b"x-test-" + b"long" * 100
    note_fields([long])
    assert noted(long.upper() + b": a") == {long: [b"a"]}


def test_fields_of_the_message_keep_their_meaning() -> None:
    note_fields([b"connection", b"content-length", b"host"])
    assert noted(b"Connection: close", b"Content-Length: 0") is None


def test_names_with_an_underscore() -> None:
    note_fields([ANY_UNDERSCORE])
    assert noted(b"A_b: c", b"A-b: d") == {b"a_b": [b"c"]}
