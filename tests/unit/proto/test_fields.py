"""starman.proto.fields: what one splitter says of a head does not depend on the heads before it."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.errors import ProtocolError
from starman.proto.events import Limits
from starman.proto.fields import FieldSplitter
from starman.proto.request import RequestParser

Fields = list[tuple[bytes, bytes]]

# What llhttp remembers or judges by itself, and what it refuses.
LINES = [
    *(b"Host: a", b"A: b", b"A:  b \t", b"A:", b"Connection: close", b"Connection: keep-alive", b"Proxy-Connection: close"),
    *(b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 7"),
    *(b"Content-Length: x", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", b"Trailer: A", b"A\x00: b", b"A : b"),
    *(b" folded", b"A: \x01", b"no colon", b": no name", b"A: b\nB: c", b"A: b\rB: c", b"A" * 300 + b": " + b"b" * 300),
]
lines = st.sampled_from(LINES) | st.binary(max_size=12).filter(lambda line: b"\r\n" not in line and line != b"")
heads = st.lists(lines, max_size=4).map(lambda some: b"".join(b"\r\n" + line for line in some) + b"\r\n\r\n")


def outcome(splitter: FieldSplitter, head: bytes) -> Fields | None:
    try:
        return splitter.split_head(head)
    except ProtocolError:
        return None


@given(st.lists(heads, min_size=1, max_size=8), st.booleans())
def test_a_splitter_that_has_split_says_the_same_as_a_new_one(written: list[bytes], forgets: bool) -> None:
    used = FieldSplitter()
    for head in written:
        assert outcome(used, head) == outcome(FieldSplitter(), head)
        if forgets:
            used.drop_parser()


@pytest.mark.parametrize("before", LINES)
@pytest.mark.parametrize("line", LINES)
def test_every_line_behind_every_other(before: bytes, line: bytes) -> None:
    used = FieldSplitter()
    first, head = b"\r\n" + before + b"\r\n\r\n", b"\r\nHost: a\r\n" + line + b"\r\n\r\n"
    assert outcome(used, first) == outcome(FieldSplitter(), first)
    for _ in range(2):
        assert outcome(used, head) == outcome(FieldSplitter(), head)


def test_what_was_split_is_not_changed_by_what_comes_next() -> None:
    used = FieldSplitter()
    fields = used.split_head(b"\r\nA: b\r\n\r\n")
    used.split_head(b"\r\nC: d\r\nE: f\r\n\r\n")
    outcome(used, b"\r\nbroken\r\n\r\n")
    assert fields == [(b"A", b"b")]


def test_a_head_in_parts() -> None:
    splitter = FieldSplitter()
    for part in (b"\r\nHo", b"st:", b" a", b"\r\nB: c\r", b"\n\r\n"):
        splitter.feed_lines(part)
    assert splitter.fields == [(b"Host", b"a"), (b"B", b"c")]
    with pytest.raises(ProtocolError) as caught:
        FieldSplitter().feed_lines(b"\r\nA\x00")
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        (b"", True),
        (b"Content-Length: 0\r\n", True),
        (b"Content-Length: 5\r\n", False),
        (b"Transfer-Encoding: chunked\r\n", False),
        (b"Connection: close\r\n", False),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", False),
        (b"A\x00: b\r\n", False),
    ],
)
def test_only_a_plain_head_leaves_its_parser_to_the_next_client(line: bytes, kept: bool) -> None:
    shared = FieldSplitter()
    for _ in range(2):
        parser = RequestParser(Limits(), shared)
        parser.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n")
        try:
            parser.next_event()
        except ProtocolError:
            assert not kept
        assert (shared._parser is not None) is kept


@pytest.mark.parametrize("end", [b": b\r\n\r\n", b"\x00", None])
def test_a_head_in_parts_leaves_nothing_to_the_garbage_collector(end: bytes | None) -> None:
    shared = FieldSplitter()
    gc.collect()
    gc.disable()
    try:
        parser = RequestParser(Limits(), shared)
        for part in (b"GET / HTTP/1.1\r\nHost: a\r\n", b"A"):
            parser.receive_data(part)
            assert parser.next_event() is None
        try:
            if end is None:
                parser.close()
            else:
                parser.receive_data(end)
                assert parser.next_event() is not None
        except ProtocolError:
            pass
        del parser
        assert not [found for found in gc.get_objects() if type(found) is FieldSplitter and found is not shared]
    finally:
        gc.enable()
