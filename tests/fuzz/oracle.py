"""Checks one input against properties that hold for any bytes. Without atheris.

`request` and `chunked` take one input each, and raise AssertionError if a property does not hold: only
ProtocolError is raised; every split of the input gives the same events; no body is longer than declared; the
decoded data is what a simple reading of the same bytes gives.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from starman.errors import ProtocolError
from starman.proto.events import Limits
from tests.unit.proto.feeding import STATUSES, Decoded, Outcome, cut_at, decode_chunked, feed, one_by_one

# Inputs that are kept, one folder an oracle; words for libFuzzer; and where what it finds goes.
CORPUS = Path(__file__).parent / "corpus"
DICTIONARY = Path(__file__).parent / "http.dict"
FOUND = Path(os.environ.get("FUZZ_FOUND") or Path(__file__).resolve().parents[2] / "build" / "fuzz")

# The limits as they are by default but for the body's, and others that a short input can reach.
USUAL = Limits(body_bytes=1 << 20)
TIGHT = Limits(line_bytes=40, fields=4, field_bytes=40, head_bytes=120, body_bytes=24, extra_bytes=24)

# Longer inputs find nothing that these do not, and are slow to feed byte by byte.
LONGEST_INPUT = 2048

# Refusals for size. A message that is both malformed and too long may be refused for either, whichever shows first.
_SIZES = {413, 414, 431}


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """`data` byte by byte, and in pieces that depend on nothing but `data`."""
    yield one_by_one(data)
    choice = random.Random(zlib.crc32(data))
    for count in (1, 2, 5):
        yield cut_at(data, [choice.randrange(len(data) + 1) for _ in range(count)])


def request(data: bytes) -> None:
    """`data` is all that a connection receives."""
    for limits in (USUAL, TIGHT):
        whole = feed([data], limits)
        _check_requests(whole, limits)
        for pieces in cuts(data):
            _check_same(whole, feed(pieces, limits), pieces)


def _check_requests(outcome: Outcome, limits: Limits) -> None:
    assert outcome.status is None or outcome.status in STATUSES, outcome
    for number, one in enumerate(outcome.requests):
        declared = one.head["body_length"]
        assert len(one.body) <= (limits.body_bytes if declared is None else declared), one
        assert one.complete or number == len(outcome.requests) - 1, "a request behind one that is not complete"
        assert declared is None or not one.trailers, "trailers without chunks"
        assert one.head["persistent"] or number == len(outcome.requests) - 1, "a request behind the last"


def _check_same(whole: Outcome, other: Outcome, pieces: list[bytes]) -> None:
    if whole.status is None or other.status is None:
        assert (whole.status, whole.requests) == (other.status, other.requests), pieces
        return
    assert whole.judged[0] == other.judged[0], pieces
    if whole.status != other.status:
        assert {whole.status, other.status} & _SIZES, (pieces, whole, other)


def chunked(data: bytes) -> None:
    """`data` is a chunked body and what follows it."""
    for limits in (USUAL, TIGHT):
        whole = _decode([data], limits)
        if isinstance(whole, int):
            assert whole in STATUSES
        else:
            assert len(whole.data) <= limits.body_bytes
            assert len(whole.trailers) <= limits.fields
            if whole.complete:
                assert (whole.data, whole.rest) == _plain_reading(data)
        for pieces in cuts(data):
            other = _decode(pieces, limits)
            if whole != other:
                assert isinstance(whole, int), (pieces, whole, other)
                assert isinstance(other, int), (pieces, whole, other)
                assert {whole, other} & _SIZES, (pieces, whole, other)


def _decode(pieces: list[bytes], limits: Limits) -> Decoded | int:
    """What the decoder makes of `pieces`, or the status that refuses them."""
    try:
        return decode_chunked(pieces, limits)
    except ProtocolError as error:
        return error.status


def _plain_reading(data: bytes) -> tuple[bytes, bytes]:
    """(data, bytes behind) of a complete body, read as RFC 9112 §7.1.3 puts it, for a body that is known to be
    valid."""
    decoded = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line.partition(b";")[0].strip(b" \t"), 16)
        if not size:
            break
        decoded, end, data = decoded + data[:size], data[size : size + 2], data[size + 2 :]
        assert end == b"\r\n"
    while line := data.partition(b"\r\n")[0]:
        data = data[len(line) + 2 :]
    return decoded, data[2:]


# By the name of its folder in the corpus: what judges an input of it.
ORACLES: dict[str, Callable[[bytes], None]] = {"request": request, "chunked": chunked}
