"""starman.proto.request and heads: every case of `cases` whole, byte by byte, cut everywhere, and with a request
behind it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from starman.errors import ProtocolError
from starman.proto import heads
from starman.proto.events import EndOfBody, Limits, RequestHead
from starman.proto.request import RequestParser
from tests.unit.proto.cases import BROKEN, REFUSED_EARLY, UNFINISHED, VALID, Valid, chunked, get, post
from tests.unit.proto.feeding import FOLLOWING, Outcome, every_cut, feed, in_body, one_by_one, refused_after


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid(case: Valid) -> None:
    outcome = feed([case.data])
    assert outcome.status is None, outcome.reason
    (request,) = outcome.requests
    assert {name: request.head[name] for name in case.head} == case.head
    assert (request.body, tuple(request.trailers), request.complete) == (case.body, case.trailers, True)


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid_in_any_pieces(case: Valid) -> None:
    whole = feed([case.data])
    assert feed(one_by_one(case.data)) == whole
    for pieces in every_cut(case.data):
        assert feed(pieces) == whole


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid_with_bytes_behind(case: Valid) -> None:
    """The next request begins where this one ends; behind one that is not persistent, nothing is a request."""
    (request,) = feed([case.data]).requests
    (following,) = feed([FOLLOWING]).requests
    expected = Outcome([request, following] if request.head["persistent"] else [request])
    data = case.data + FOLLOWING
    assert feed([data]) == expected
    assert feed(one_by_one(data)) == expected
    for pieces in every_cut(data):
        assert feed(pieces) == expected


@pytest.mark.parametrize(("data", "status"), BROKEN.values(), ids=BROKEN)
def test_broken(data: bytes, status: int) -> None:
    """The status is the same for any pieces, and so is what is behind: never a request."""
    for tail in (b"", FOLLOWING):
        message = data + tail
        for pieces in ([message], one_by_one(message), *every_cut(message)):
            outcome = feed(pieces)
            assert outcome.status == status, outcome.reason
            assert not any(request.complete for request in outcome.requests)


@pytest.mark.parametrize(("broken", "rest"), REFUSED_EARLY.values(), ids=REFUSED_EARLY)
def test_what_cannot_be_mended_is_refused_at_once(broken: bytes, rest: bytes) -> None:
    assert refused_after(broken + rest) == len(broken)
    assert feed([broken]).status == feed([broken + rest]).status is not None


@pytest.mark.parametrize("data", UNFINISHED.values(), ids=UNFINISHED)
def test_unfinished(data: bytes) -> None:
    for pieces in ([data], one_by_one(data), *every_cut(data)):
        outcome = feed(pieces)
        assert outcome.status is None, outcome.reason
        assert not any(request.complete for request in outcome.requests)


def test_pipelined_requests_come_in_order_up_to_the_broken_one() -> None:
    chunks = chunked(b"1\r\nx\r\n0\r\nA: b\r\n\r\n")
    data = get(b"GET /1 HTTP/1.1") + chunks + get(b"GET /3 HTTP/1.1") + b"GET  /4" + FOLLOWING
    for pieces in ([data], one_by_one(data), *every_cut(data)):
        outcome = feed(pieces)
        assert [(request.head["target"], request.body) for request in outcome.requests] == [
            (b"/1", b""),
            (b"/", b"x"),
            (b"/3", b""),
        ]
        assert outcome.status == 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (get(b"GET / HTTP/1.1", b"Host: b"), "more than one Host"),
        (get(b"GET / HTTP/1.1", b"A: b\r\n c"), "a field is malformed: "),
    ],
)
def test_refusals_say_why_in_plain_ascii(data: bytes, words: str) -> None:
    reason = feed([data]).reason
    assert words in reason
    assert reason.isascii()
    assert reason.isprintable()


# Limits. Each case: what is measured in bytes (or counted), the limits of that size, and the status beyond.


def line_of(size: int) -> bytes:
    return get(b"GET /%b HTTP/1.1" % (b"a" * (size - 14)))


def field_of(size: int) -> bytes:
    return get(b"GET / HTTP/1.1", b"A: " + b"a" * (size - 3))


def fields_of(count: int) -> bytes:
    return get(b"GET / HTTP/1.1", *[b"A: b"] * (count - 1))


def head_of(size: int) -> bytes:
    head = get(b"GET / HTTP/1.1", b"A: b", b"B: ")
    return head[:-4] + b"b" * (size - len(head)) + b"\r\n\r\n"


def length_of(size: int) -> bytes:
    return post(b"Content-Length: %d" % size, body=b"b" * size)


def chunks_of(size: int) -> bytes:
    return chunked(b"1\r\nx\r\n%x;a=b\r\n%b\r\n0\r\n\r\n" % (size - 1, b"b" * (size - 1)))


def extensions_of(size: int) -> bytes:
    return chunked(b"1;abc\r\nx\r\n1;%b\r\ny\r\n0\r\n\r\n" % (b"a" * (size - 5)))


def long_extension_of(size: int) -> bytes:
    return chunked(b"%016x;%b\r\nx\r\n0\r\n\r\n" % (1, b"a" * (size - 1)))


def trailer_of(size: int) -> bytes:
    return chunked(b"0\r\nA:%b\r\n\r\n" % (b"b" * (size - 4)))


def trailers_of(size: int) -> bytes:
    return chunked(b"0;a\r\nA:b\r\nB:%b\r\n\r\n" % (b"b" * (size - 2 - 5 - 4)))


def trailer_count_of(count: int) -> bytes:
    return chunked(b"0\r\n" + b"A:b\r\n" * count + b"\r\n")


LIMITS = {
    "request line": (line_of, "line_bytes", 50, 414),
    "request line, the usual limit": (line_of, "line_bytes", 8190, 414),
    "fields": (fields_of, "fields", 5, 431),
    "field": (field_of, "field_bytes", 40, 431),
    "field, the usual limit": (field_of, "field_bytes", 8190, 431),
    "head": (head_of, "head_bytes", 100, 431),
    "body by length": (length_of, "body_bytes", 5, 413),
    "body by chunks": (chunks_of, "body_bytes", 5, 413),
    "extensions": (extensions_of, "extra_bytes", 40, 400),
    "an extension behind 16 digits": (long_extension_of, "extra_bytes", 40, 400),
    "trailer": (trailer_of, "extra_bytes", 40, 431),
    "extensions and trailers": (trailers_of, "extra_bytes", 40, 431),
    "trailers": (trailer_count_of, "fields", 5, 431),
}


@pytest.mark.parametrize(("message", "limit", "size", "status"), LIMITS.values(), ids=LIMITS)
def test_limits(message: Callable[[int], bytes], limit: str, size: int, status: int) -> None:
    """One below and at the limit a message is accepted, one beyond it is refused, in whatever pieces it comes."""
    limits = Limits(**{limit: size})
    for of, expected in ((size - 1, None), (size, None), (size + 1, status)):
        data = message(of)
        cuts = every_cut(data) if size < 1000 else ([data[:at], data[at:]] for at in range(len(data) - of // 100, len(data)))
        for pieces in ([data], one_by_one(data), *cuts):
            outcome = feed(pieces, limits)
            assert outcome.status == expected, outcome.reason
            assert bool([request for request in outcome.requests if request.complete]) is (expected is None)


@pytest.mark.parametrize(
    "begin",
    [b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nA: ", b"GET / HTTP/1.1\r\nA: b\r\nC"],
)
def test_a_head_without_a_line_break_is_refused_at_its_limit(begin: bytes) -> None:
    """Also where the limits of the line that is too long are wider."""
    limits = Limits(head_bytes=1000)
    data = begin + b"a" * 3000
    for pieces in ([data], [data[:1001]], one_by_one(data[:1001]), [begin, data[len(begin) :]]):
        assert feed(pieces, limits).status == 431
    assert feed([data[:1000]], limits).status is None
    assert feed(one_by_one(data[:1000]), limits).status is None


def test_a_request_line_beyond_both_limits_is_a_414() -> None:
    limits = Limits(line_bytes=500, head_bytes=1000)
    assert feed([b"GET /" + b"a" * 3000], limits).status == 414
    assert feed([b"\x16" * 3000], limits).status == 400


@pytest.mark.parametrize(
    ("endless", "status"),
    [
        (b"G" * 100_000, 400),
        (b"GET /" + b"a" * 100_000, 414),
        (b"GET / HTTP/1.1\r\n" + b"A" * 100_000, 431),
        (b"GET / HTTP/1.1\r\nA:" + b" " * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 102, 431),
        (chunked(b"0" * 1000), 400),
        (chunked(b"1;" + b"a" * 100_000), 400),
        (chunked(b'1;a="' + b"\\a" * 50_000), 400),
        (chunked(b"1;a=bcdef\r\nx\r\n" * 20_000), 400),
        (chunked(b"0\r\nA:" + b"b" * 100_000), 431),
        (chunked(b"0\r\nA:b\r\n" + b"A:b\r\n" * 5_000), 431),
        (b"\r\n" * 100, 400),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 1000, 1_000_000])
def test_what_grows_without_end_is_refused_before_it_has(endless: bytes, status: int, piece_bytes: int) -> None:
    assert feed([endless[at : at + piece_bytes] for at in range(0, len(endless), piece_bytes)]).status == status


@pytest.mark.parametrize("field_bytes", [50, 1000])
def test_head_and_field_limits_hold_whichever_is_the_smaller(field_bytes: int) -> None:
    limits = Limits(head_bytes=100, field_bytes=field_bytes)
    for size, status in ((99, None), (100, None), (101, 431)):
        data = get(b"GET / HTTP/1.1", *[b"A: b"] * 10, b"B:" + b"b" * (size - 91))
        assert len(data) == size
        assert feed([data], limits).status == feed(one_by_one(data), limits).status == status


def test_the_413_comes_with_the_head_or_with_the_chunk_that_is_too_much() -> None:
    """So it can come before 100 Continue, and before a byte more is taken."""
    limits = Limits(body_bytes=5)
    expecting = post(b"Expect: 100-continue", b"Content-Length: 6")
    assert refused_after(expecting + b"hello!", limits) == len(expecting)
    second_chunk = chunked(b"5\r\nhello\r\n1\r\n")
    assert refused_after(second_chunk + b"!\r\n0\r\n\r\n", limits) == len(second_chunk)


def test_what_is_wrong_with_the_beginning_of_a_long_line_is_said_before_its_length() -> None:
    for data in (b"GET\t/" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"a" * 9000 + b"\r\n\r\n"):
        assert feed([data]).status == feed(one_by_one(data)).status == 400


# The parser's answers about itself


def test_what_the_parser_says_of_itself() -> None:
    parser = RequestParser(Limits())

    def state() -> tuple[bool, bool, int]:
        return parser.between_messages, in_body(parser), parser.unread_bytes

    assert state() == (True, False, 0)
    parser.receive_data(b"\r\n")
    assert parser.next_event() is None
    assert state() == (True, False, 0)
    parser.receive_data(b"GET / HT")
    assert parser.next_event() is None
    assert state() == (False, False, 8)
    parser.receive_data(b"TP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n")
    assert isinstance(parser.next_event(), RequestHead)
    assert state() == (False, True, 0)
    parser.receive_data(b"xyz")
    assert parser.next_event() == b"xy"
    assert state() == (False, True, 1)
    assert isinstance(parser.next_event(), EndOfBody)
    assert state() == (False, False, 1)
    parser.close()
    assert state() == (True, False, 0)


def test_what_was_not_read_can_be_taken_by_another_protocol() -> None:
    parser = RequestParser(Limits())
    parser.receive_data(get(b"GET / HTTP/1.1", b"Connection: upgrade", b"Upgrade: x") + b"\x81\x05hello")
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    assert head.upgrade
    assert parser.take_unread() == b"\x81\x05hello"
    parser.receive_data(FOLLOWING)
    assert parser.next_event() is None
    assert parser.take_unread() == b""


def test_a_body_of_one_piece_is_passed_on_without_a_copy() -> None:
    parser = RequestParser(Limits())
    parser.receive_data(post(b"Content-Length: 5"))
    parser.next_event()
    piece = b"hello"
    parser.receive_data(piece)
    assert parser.next_event() is piece


def test_empty_lines_are_counted_for_each_request() -> None:
    data = (b"\r\n" * 3 + FOLLOWING) * 3
    for pieces in ([data], one_by_one(data)):
        outcome = feed(pieces)
        assert outcome.status is None
        assert len(outcome.requests) == 3


def test_a_client_cannot_make_the_table_of_spellings_large() -> None:
    before = len(heads._spellings)
    assert heads._classify_name(b"x" * 65) == b""
    assert len(heads._spellings) == before
    for number in range(3000):
        assert heads._classify_name(b"X-%d" % number) == b""
    assert len(heads._spellings) <= 1024
    # Full or not, what decides is found in any spelling.
    assert heads._classify_name(b"cOnNeCtIoN") == b"connection"


def test_a_field_that_is_too_long_is_refused_though_the_next_has_begun() -> None:
    parser = RequestParser(Limits())
    parser.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 9000 + b"\r\nC: ")
    with pytest.raises(ProtocolError) as caught:
        parser.next_event()
    assert caught.value.status == 431


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_refusal_knows_that_it_answers_a_head(method: bytes, whole: bool) -> None:
    data = b"\r\n" + method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    parser = RequestParser(Limits())

    def read() -> None:
        for piece in [data] if whole else [data[at : at + 1] for at in range(len(data))]:
            parser.receive_data(piece)
            parser.next_event()

    with pytest.raises(ProtocolError) as caught:
        read()
    assert caught.value.to_head is (method == b"HEAD")
