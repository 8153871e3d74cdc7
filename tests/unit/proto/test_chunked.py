"""starman.proto.chunked on its own: what `decode` returns, what it leaves, and that it never looks behind the end of a
body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.errors import ProtocolError
from starman.proto.chunked import ChunkedDecoder
from starman.proto.events import Limits
from tests.unit.proto.feeding import NO_LIMITS, cut_at, decode_chunked, every_cut, one_by_one
from tests.unit.proto.strategies import ChunkedBody, chunked_bodies

BODY = b'4;a="b"\r\nwiki\r\n5\r\npedia\r\n0\r\nA: b\r\n\r\n'


def decode(pieces: list[bytes], limits: Limits = NO_LIMITS) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """The data and the trailers of one body received in `pieces`, and the bytes behind it. The body has to be
    complete."""
    decoded = decode_chunked(pieces, limits)
    assert decoded.complete
    return decoded.data, decoded.trailers, decoded.rest


def test_one_piece_of_data_at_a_time() -> None:
    decoder = ChunkedDecoder(Limits())
    assert decoder.decode(BODY, 0) == (b"wiki", 13, False)
    assert decoder.decode(BODY, 13) == (b"pedia", 25, False)
    assert decoder.decode(BODY, 25) == (b"", len(BODY), True)
    assert decoder.trailers == [(b"A", b"b")]


def test_small_chunks_come_together_and_others_as_they_are() -> None:
    small, large = b"1\r\nx\r\n" * 200, b"2000\r\n" + b"y" * 8192 + b"\r\n"
    data = small + large + small + b"1;a\r\nz\r\n" + small[:-1]
    decoder = ChunkedDecoder(Limits())
    at, pieces = 0, []
    while True:
        piece, at, complete = decoder.decode(data, at)
        assert not complete
        if not piece:
            break
        pieces.append(piece)
    assert pieces == [b"x" * 200, b"y" * 8192, b"x" * 200, b"z", b"x" * 199, b"x"]


def test_a_piece_is_short_work_however_small_its_chunks() -> None:
    decoder = ChunkedDecoder(Limits())
    data = b"1\r\nx\r\n" * 1000
    assert [decoder.decode(data, at * 6)[0] for at in (0, 256, 512, 768)] == [b"x" * 256] * 3 + [b"x" * 232]


def test_small_chunks_together_keep_the_limit_to_the_byte() -> None:
    decoder = ChunkedDecoder(Limits(body_bytes=200))
    data = b"1\r\nx\r\n" * 201
    assert decoder.decode(data, 0) == (b"x" * 200, 1200, False)
    with pytest.raises(ProtocolError) as error:
        decoder.decode(data, 1200)
    assert error.value.status == 413


def test_a_position_in_the_middle_of_a_buffer() -> None:
    assert ChunkedDecoder(Limits()).decode(b"behind me" + BODY, 9) == (b"wiki", 22, False)


def test_what_is_not_used_is_to_be_fed_again() -> None:
    decoder = ChunkedDecoder(Limits())
    assert decoder.decode(b"", 0) == (b"", 0, False)
    assert decoder.decode(b"5", 0) == (b"", 0, False)
    assert decoder.decode(b"5\r", 0) == (b"", 0, False)
    assert decoder.decode(b"5\r\n", 0) == (b"", 3, False)
    assert decoder.decode(b"hel", 0) == (b"hel", 3, False)
    assert decoder.decode(b"lo\r", 0) == (b"lo", 2, False)
    assert decoder.decode(b"\r", 0) == (b"", 0, False)
    assert decoder.decode(b"\r\n0\r\n\r", 0) == (b"", 5, False)
    assert decoder.decode(b"\r\nGET", 0) == (b"", 2, True)


@pytest.mark.parametrize("behind", [b"", b"\r\n", b"0\r\n\r\n", BODY, b"\0", b"GET / HTTP/1.1\r\n"])
def test_it_stops_at_the_end_of_the_body(behind: bytes) -> None:
    data = BODY + behind
    expected = (b"wikipedia", [(b"A", b"b")], behind)
    assert decode([data]) == decode(one_by_one(data)) == expected
    for pieces in every_cut(data):
        assert decode(pieces) == expected


@given(chunked_bodies(), st.binary(max_size=8), st.lists(st.integers(0, 400), max_size=5))
def test_what_was_written_is_what_is_decoded(body: ChunkedBody, behind: bytes, positions: list[int]) -> None:
    data = body.encoded + behind
    expected = (body.data, body.trailers, behind)
    assert decode([data]) == expected
    assert decode(one_by_one(data)) == expected
    assert decode(cut_at(data, positions)) == expected


@given(st.binary(max_size=60).map(lambda data: data.replace(b"g", b"\r\n").replace(b"h", b"0\r\n").replace(b"i", b";")))
def test_any_bytes_are_decoded_refused_or_waited_for(data: bytes) -> None:
    def judge(pieces: list[bytes]) -> int | str:
        try:
            return "complete" if decode_chunked(pieces).complete else "unfinished"
        except ProtocolError as error:
            return error.status

    judgement = judge([data])
    assert judgement in (400, 413, 431, "unfinished", "complete")
    assert judge(one_by_one(data)) == judgement


@given(chunked_bodies())
def test_limits_count_the_data_and_the_extra_of_a_body(body: ChunkedBody) -> None:
    """At its own size every body passes; one byte less, and none does."""
    exact = Limits(body_bytes=len(body.data), extra_bytes=body.extra_bytes, fields=len(body.trailers))
    assert decode([body.encoded], exact)[0] == body.data
    assert decode(one_by_one(body.encoded), exact)[0] == body.data
    if len(body.data) > 1:
        assert refused(body, Limits(body_bytes=len(body.data) - 1)) == 413
    if body.extra_bytes:
        assert refused(body, Limits(extra_bytes=body.extra_bytes - 1)) in (400, 431)
    if body.trailers:
        assert refused(body, Limits(fields=len(body.trailers) - 1)) == 431


def refused(body: ChunkedBody, limits: Limits) -> int:
    statuses = set()
    for pieces in ([body.encoded], one_by_one(body.encoded)):
        with pytest.raises(ProtocolError) as caught:
            decode(pieces, limits)
        statuses.add(caught.value.status)
    (status,) = statuses
    return status
